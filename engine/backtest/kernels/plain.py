"""The shortest way through the commonest run: one series, market orders that fill at the next open.

The same arithmetic as the other kernels in the same order, with everything left out that cannot happen:
no exits beside the orders, no margin, no rules, no lots or ticks, no fee but by value and unit, no quiet
bars. `Machine._set_shortcuts` says when. Results are the same to the last bit; a test holds them to that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backtest.kernels.books import affordable, cost_of, on_top
from engine.backtest.kernels.columns import TARGET, nth, number, whole
from engine.backtest.kernels.filling import worsened
from engine.backtest.kernels.lanes import LOOKED_AT, call_in, curve, first_bit, news
from engine.backtest.kernels.layout import BAD_SIGNAL, CASH, DONE, DUST, FULL, LEG_EXIT
from engine.compiled import compiled


@compiled
def plain(a: Any, s: Any, books: Any, fills: Any, places: Any, wants: Any, until: int) -> int:
    """As `loop.run`. What waits for the next open is kept in `a.leaving`, `a.entering` and `a.spending`."""
    book, place = nth(books, 0), nth(places, 0)
    target, step, again = wants.address[TARGET], wants.step[TARGET], s.again != 0
    first, last = a.clock_row + 1, a.clock_row + until - a.moment
    found = news(target, step, first, last, book.asked, again)
    while first <= last:
        if a.fills_room - a.fills < LOOKED_AT:
            return FULL
        after, start = min(first + LOOKED_AT, last + 1), a.moment
        said = number(target, (after - 1) * step)
        found_next = news(target, step, after, last, said, again)
        row_next = book.row + after - first + 2
        call_in(place.open, row_next, found_next)
        call_in(place.opened_at, row_next, found_next)
        while found != 0:
            ahead = first_bit(found)
            found &= found - 1
            asked = number(target, (first + ahead) * step)
            if asked == book.target:
                continue
            if np.isinf(asked):
                return BAD_SIGNAL
            go_on(a, s, book, fills, place, start + ahead + 1, until)
            if decide(a, s, book, asked, number(place.close, book.row)):
                book.before, book.target = book.target, asked
            a.orders += a.leaving != 0 or a.entering != 0 or a.spending != 0
        go_on(a, s, book, fills, place, start + after - first, until)
        a.clock_row, book.asked = after - 1, said
        first, found = after, found_next
    return DONE


@compiled
def go_on(a: Any, s: Any, book: Any, fills: Any, place: Any, moment: int, until: int) -> None:
    """Pass the moments before `moment`; what waits fills first. The curve may be written up to `until`."""
    first, row = a.moment, book.row + 1
    count = moment - first
    if count <= 0:
        return
    if a.leaving != 0 or a.entering != 0 or a.spending != 0:
        trade(a, s, book, fills, place, row)
    curve(
        a.cash, book.quantity, place.close + 8 * row, a.equities + 8 * first,
        a.exposures + 8 * first, count, until - first,
    )  # fmt: skip
    book.row = book.asked_row = row + count - 1
    a.moment = moment


@compiled
def decide(a: Any, s: Any, book: Any, target: float, price: float) -> bool:
    """What to trade at the next open; whether the strategy now stands at `target`."""
    a.decisions += 1
    held = book.quantity
    if target <= 0:
        a.leaving = held
        return True
    free = min(a.cash, a.capital + (book.realised - book.fees - abs(book.cost)))
    gained = book.realised - book.fees
    if held != 0:
        gained += held * price - book.cost
    if free <= DUST * abs(a.capital + gained):
        free = min(free, 0.0)
    if s.method == CASH and held == 0:
        a.spending = min(target, 1.0) * s.fraction * max(0.0, free)
        return a.spending != 0
    change = target * s.fraction * (a.capital + gained) / price - held
    if change < 0:
        a.leaving = min(-change, held)
        return True
    a.entering = min(change, max(0.0, free) / (price * (1 + on_top(s, book.top_rate, price))))
    return a.entering != 0 or held != 0


@compiled
def trade(a: Any, s: Any, book: Any, fills: Any, place: Any, row: int) -> None:
    """What waited fills at this bar's open."""
    raw = number(place.open, row)
    rate, leaves = book.taker_rate, a.leaving != 0
    quantity = min(a.leaving, book.quantity)
    side = -1 if leaves else 1
    price = worsened(s, book, raw, side, 0.0)
    if not leaves:
        power = max(0.0, a.cash)
        if a.spending != 0:
            quantity = affordable(s, min(a.spending, power), price, rate, 0.0)
        else:
            quantity = a.entering
            if cost_of(s, quantity, price, rate, 0.0) > power * (1 + 1e-12):
                quantity = affordable(s, power, price, rate, 0.0)
                a.partly_filled += quantity > 0
    a.leaving = a.entering = a.spending = 0.0
    if quantity <= 0:
        a.rejected += 1
        book.target = 0.0 if book.quantity == 0 else book.before
        return
    value = quantity * price
    fee = value * rate
    if s.fee_per_unit != 0:
        fee += quantity * s.fee_per_unit
    hold(a, book, side, quantity, price)
    book.fees += fee
    a.cash = a.cash - value if side > 0 else a.cash + value
    if fee > 0:
        a.cash -= fee
    a.fees += fee
    a.fills += 1
    if s.only_counts:
        return
    told = nth(fills, a.fills - 1)
    told.book, told.side, told.tag = 0, side, s.tag
    told.leg = LEG_EXIT if leaves else 0
    told.at, told.quantity, told.price = whole(place.opened_at, row), quantity, price
    told.raw, told.fee = raw, fee
    if price != raw:
        lost = abs(price - raw) * quantity
        spread = min(lost, s.half_spread * raw * quantity)
        a.spread += spread
        a.slippage += lost - spread


@compiled
def hold(a: Any, book: Any, side: int, quantity: float, price: float) -> None:
    """The position after a fill, by average cost."""
    before, change = book.quantity, side * quantity
    if book.first == 0:
        book.first = a.booked = 1
    book.quantity = before + change
    if side > 0:
        a.entered += before == 0
        book.cost = book.cost + change * price
    elif quantity < before:
        released = book.cost * quantity / before
        book.realised = book.realised - change * price - released
        book.cost = book.cost - released
    else:
        book.realised = book.realised + before * price - book.cost
        book.cost = 0.0
