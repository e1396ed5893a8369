"""Orders against the bars of one moment: `PaperBroker.on_bars` and the levels of `engine/matching.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backtest.kernels.columns import flag, nth, number, order_of, whole
from engine.backtest.kernels.filling import behind, fill
from engine.backtest.kernels.layout import (
    ENTRY,
    LIMIT,
    MARKET,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING,
    TRAILING_STOP,
)
from engine.compiled import compiled


@compiled
def on_bars(a: Any, s: Any, books: Any, orders: Any, fills: Any, places: Any,
            ready: Any) -> None:  # fmt: skip
    """Opens first, sells before buys; then what lay inside, instrument by instrument."""
    count = 0
    for i in range(a.count):
        book = nth(books, i)
        if book.works == 0 or not book.closes_now or is_quiet(s, places, i, book.row):
            continue
        opened_at = whole(nth(places, i).opened_at, book.row)
        if s.needs_volume:
            book.volume = number(nth(places, i).volume, book.row)
        book.limited = not np.isnan(s.volume_share)
        book.budget = s.volume_share * book.volume if book.limited else 0.0
        price = number(nth(places, i).open, book.row)
        for slot in range(TRAILING_STOP + 1):
            order = order_of(orders, i, slot)
            if not order.works or order.active_from > opened_at:
                continue
            if acts_at(order, price):
                acting = nth(ready, count)
                acting.book, acting.slot = i, slot
                acting.maker = order.type == LIMIT and order.resting != 0
                acting.sequence = order.sequence
                count += 1
            order.resting = order.type == LIMIT
    sort_ready(orders, ready, count)
    for k in range(count):
        acting = nth(ready, k)
        i, slot, maker = acting.book, acting.slot, acting.maker != 0
        order = order_of(orders, i, slot)
        if order.works and order.sequence == acting.sequence:  # no newer one took its slot
            row = nth(books, i).row
            price, opened_at = (
                number(nth(places, i).open, row),
                whole(nth(places, i).opened_at, row),
            )
            fill(a, s, books, orders, fills, i, slot, price, opened_at, maker)
    if not a.works:
        return
    for i in range(a.count):
        book = nth(books, i)
        if book.works == 0 or not book.closes_now or is_quiet(s, places, i, book.row):
            continue
        if s.path:
            along(a, s, books, orders, fills, places, i)
        else:
            inside(a, s, books, orders, fills, places, i)


@compiled
def is_quiet(s: Any, places: Any, i: int, row: int) -> bool:
    """Nothing traded in this bar, so nothing trades against it."""
    return s.quiet_bars != 0 and flag(nth(places, i).filled, row) != 0


@compiled
def sort_ready(orders: Any, ready: Any, count: int) -> None:
    """Sells before buys, markets before levels, then as they came."""
    for k in range(1, count):
        m = k
        while m > 0 and comes_first(orders, ready, m, m - 1):
            one, other = nth(ready, m), nth(ready, m - 1)
            one.book, other.book = other.book, one.book
            one.slot, other.slot = other.slot, one.slot
            one.maker, other.maker = other.maker, one.maker
            one.sequence, other.sequence = other.sequence, one.sequence
            m -= 1


@compiled
def comes_first(orders: Any, ready: Any, x: int, y: int) -> bool:
    one, other = (
        order_of(orders, nth(ready, x).book, nth(ready, x).slot),
        order_of(orders, nth(ready, y).book, nth(ready, y).slot),
    )
    if one.side != other.side:
        return one.side < other.side
    if (one.type == MARKET) != (other.type == MARKET):
        return one.type == MARKET
    return one.sequence < other.sequence


@compiled
def stop_level(order: Any) -> float:
    return behind(order, order.best) if order.type == TRAILING else order.stop


@compiled
def beyond(order: Any, price: float) -> bool:
    stop = stop_level(order)
    return price >= stop if order.side > 0 else price <= stop


@compiled
def within_limit(order: Any, price: float) -> bool:
    return price <= order.limit if order.side > 0 else price >= order.limit


@compiled
def acts_at(order: Any, price: float) -> bool:
    """`at_price`: whether the order trades when the market stands there."""
    if order.type == MARKET:
        return True
    return within_limit(order, price) if order.type == LIMIT else beyond(order, price)


@compiled
def follow(order: Any, price: float) -> None:
    if order.type == TRAILING and (price > order.best if order.side < 0 else price < order.best):
        order.best = price


@compiled
def is_there(order: Any, opened_at: int, closed_at: int) -> bool:
    """`_of`: it worked when the bar opened, or a fill inside the bar woke it."""
    return order.works and (order.active_from <= opened_at or order.active_from == closed_at)


@compiled
def inside(a: Any, s: Any, books: Any, orders: Any, fills: Any, places: Any,
           i: int) -> None:  # fmt: skip
    """Worst case: the entry, then stops in the order they came, then the target."""
    row = nth(books, i).row
    opened_at, closed_at = (
        whole(nth(places, i).opened_at, row),
        whole(nth(places, i).closed_at, row),
    )
    entry = order_of(orders, i, ENTRY)
    if is_there(entry, opened_at, closed_at) and entry.active_from < closed_at:
        touch(a, s, books, orders, fills, places, i, ENTRY, False)
    count_ambiguous(a, orders, places, i, row, opened_at, closed_at)
    stop, trailing = order_of(orders, i, STOP_LOSS), order_of(orders, i, TRAILING_STOP)
    first, second = STOP_LOSS, TRAILING_STOP
    if stop.works and trailing.works and trailing.sequence < stop.sequence:
        first, second = TRAILING_STOP, STOP_LOSS
    for slot in (first, second, TAKE_PROFIT):
        leg = order_of(orders, i, slot)
        if not is_there(leg, opened_at, closed_at):
            continue
        entered_inside = leg.active_from == closed_at
        if entered_inside and leg.type == LIMIT:
            continue  # the target may have been touched before the entry
        touch(a, s, books, orders, fills, places, i, slot, entered_inside)


@compiled
def touch(a: Any, s: Any, books: Any, orders: Any, fills: Any, places: Any, i: int,
          slot: int, entered_inside: bool) -> None:  # fmt: skip
    order, row = order_of(orders, i, slot), nth(books, i).row
    maker = order.type == LIMIT and order.resting != 0
    low, high = number(nth(places, i).low, row), number(nth(places, i).high, row)
    price = found_inside(order, low, high, number(nth(places, i).close, row), entered_inside)
    order.resting = order.type == LIMIT
    if not np.isnan(price):
        closed_at = whole(nth(places, i).closed_at, row)
        fill(a, s, books, orders, fills, i, slot, price, closed_at, maker)


@compiled
def found_inside(order: Any, low: float, high: float, close: float, entered_inside: bool) -> float:
    """`engine.matching.inside`: the raw price within the bar, or NaN."""
    buys = order.side > 0
    if order.type == LIMIT:
        crossed = low <= order.limit if buys else high >= order.limit
        return order.limit if crossed else np.nan
    if order.type == MARKET:
        return np.nan
    stop = stop_level(order)
    if buys and high >= stop:
        return max(stop, low)
    if not buys and low <= stop:
        return min(stop, high)
    if order.type != TRAILING:
        return np.nan
    follow(order, close if entered_inside else low if buys else high)
    stop = stop_level(order)
    return stop if (close >= stop if buys else close <= stop) else np.nan


@compiled
def count_ambiguous(a: Any, orders: Any, places: Any, i: int, row: int, opened_at: int,
                    closed_at: int) -> None:  # fmt: skip
    low, high = number(nth(places, i).low, row), number(nth(places, i).high, row)
    stops = targets = False
    for slot in range(STOP_LOSS, TRAILING_STOP + 1):
        leg = order_of(orders, i, slot)
        if not is_there(leg, opened_at, closed_at) or leg.active_from >= closed_at:
            continue
        level = leg.limit if leg.type == LIMIT else stop_level(leg)
        if low <= level <= high:
            if leg.type == LIMIT:
                targets = True
            else:
                stops = True
    if stops and targets:
        a.ambiguous += 1


@compiled
def along(a: Any, s: Any, books: Any, orders: Any, fills: Any, places: Any,
          i: int) -> None:  # fmt: skip
    """Along the OHLC path, order by order as the price meets them."""
    row = nth(books, i).row
    opened_at, closed_at = (
        whole(nth(places, i).opened_at, row),
        whole(nth(places, i).closed_at, row),
    )
    price, high = number(nth(places, i).open, row), number(nth(places, i).high, row)
    low, close = number(nth(places, i).low, row), number(nth(places, i).close, row)
    for slot in range(TRAILING_STOP + 1):
        order_of(orders, i, slot).over = 0
    high_first = high - price < price - low
    for turn in range(3):
        end = close
        if turn < 2:
            end = high if high_first == (turn == 0) else low
        while True:
            slot, met_at = first_met(orders, i, price, end, opened_at, closed_at)
            if slot < 0:
                break
            price, order = met_at, order_of(orders, i, slot)
            maker, sequence = order.type == LIMIT and order.resting != 0, order.sequence
            fill(a, s, books, orders, fills, i, slot, price, closed_at, maker)
            if order.sequence == sequence:  # what volume left of it works on in the next bar
                order.over = 1
        for slot in range(TRAILING_STOP + 1):
            if is_there(order_of(orders, i, slot), opened_at, closed_at):
                follow(order_of(orders, i, slot), end)
        price = end
    for slot in range(TRAILING_STOP + 1):
        if is_there(order_of(orders, i, slot), opened_at, closed_at):
            order_of(orders, i, slot).resting = order_of(orders, i, slot).type == LIMIT


@compiled
def first_met(orders: Any, i: int, start: float, end: float, opened_at: int,
              closed_at: int) -> tuple[int, float]:  # fmt: skip
    """The next order on the way, and where; of several at one price the worst for us, then the oldest."""
    found, found_at = -1, np.nan
    for slot in range(TRAILING_STOP + 1):
        order = order_of(orders, i, slot)
        if not is_there(order, opened_at, closed_at) or order.over:
            continue
        price = met(order, start, end)
        if np.isnan(price):
            continue
        if found < 0 or is_nearer(order, price, order_of(orders, i, found), found_at, start):
            found, found_at = slot, price
    return found, found_at


@compiled
def is_nearer(one: Any, price: float, other: Any, other_price: float, start: float) -> bool:
    away, other_away = abs(price - start), abs(other_price - start)
    if away != other_away:
        return away < other_away
    if (one.type == LIMIT) != (other.type == LIMIT):
        return other.type == LIMIT
    return one.sequence < other.sequence


@compiled
def met(order: Any, start: float, end: float) -> float:
    """`engine.matching.met`: the first price on the way at which the order acts, or NaN."""
    if order.type == MARKET:
        return start
    if order.type == LIMIT:
        if within_limit(order, start):
            return start
        return order.limit if within_limit(order, end) else np.nan
    follow(order, start)
    if beyond(order, start):
        return start
    return stop_level(order) if beyond(order, end) else np.nan
