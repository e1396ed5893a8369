"""One fill and what follows from it: `engine/execution/paper.py` from `_fill` down, and the core's conclusions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.backtest.kernels.books import (
    DAY,
    add_traded,
    affordable,
    cost_of,
    in_lots,
    power_of,
    rate_now,
    take,
)
from engine.backtest.kernels.columns import nth, order_of
from engine.backtest.kernels.layout import (
    ENTRY,
    EXIT,
    LIMIT,
    NEW_ENTRY,
    NEW_EXIT,
    SLOTS,
    STOP,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING,
    TRAILING_STOP,
)
from engine.compiled import compiled


@compiled
def worsened(s: Any, book: Any, price: float, side: int, share: float) -> float:
    """`Costs.worsened`."""
    away = s.slippage_rate + s.half_spread + s.impact * share * share
    if away == 0 and s.slippage_fixed == 0:
        return price
    if side > 0:
        moved = price * (1 + away) + s.slippage_fixed
    else:
        moved = price * (1 - away) - s.slippage_fixed
    if not book.has_tick:
        return moved
    ticks = moved / book.tick
    whole = math.ceil(ticks - 1e-9) if side > 0 else math.floor(ticks + 1e-9)
    return whole * book.tick_over / book.tick_under


@compiled
def payable(a: Any, s: Any, books: Any, i: int, order: Any, price: float,
            at: int) -> tuple[float, bool]:  # fmt: skip
    """`_payable`: (quantity, whether the rest is cut off); below 0 when nothing can be traded."""
    book = nth(books, i)
    closes = max(-order.side * book.quantity, 0.0)
    if order.reduce_only:
        return (closes, True) if closes < order.quantity else (order.quantity, False)
    if order.side < 0 and not s.margin:
        if closes >= order.quantity:
            return order.quantity, False
        return (closes, True) if closes > 0 else (-1.0, True)
    rate, paid = rate_now(a, s, book.taker_rate, book.taker_tiers, at), order.fees
    power = max(0.0, power_of(a, s, books))
    if order.by_value:
        frees = cost_of(s, closes, price, rate, paid) if closes != 0 else 0.0
        quantity = in_lots(book, affordable(s, min(order.value, frees + power), price, rate, paid))
        return (quantity, False) if quantity > 0 else (-1.0, True)
    added = order.quantity - closes
    if added <= 0 or cost_of(s, added, price, rate, paid) <= power * (1 + 1e-12):
        return order.quantity, False
    most = in_lots(book, closes + affordable(s, power, price, rate, paid))
    return (most, True) if most > 0 else (-1.0, True)


@compiled
def within(book: Any, quantity: float) -> float:
    """As much of a quantity as this bar's volume still allows."""
    if not book.limited or quantity <= book.budget:
        return quantity
    return in_lots(book, max(0.0, book.budget))


@compiled
def fill(a: Any, s: Any, books: Any, orders: Any, fills: Any, i: int, slot: int,
         raw: float, at: int, maker: bool) -> None:  # fmt: skip
    """Trade as much as funds and volume allow; what funds do not allow is cancelled."""
    book, order = nth(books, i), order_of(orders, i, slot)
    if order.reduce_only and -order.side * book.quantity <= 0:
        end(a, books, orders, i, slot)
        return
    moves = order.type != LIMIT
    price = worsened(s, book, raw, order.side, 0.0) if moves else raw
    quantity, cut = payable(a, s, books, i, order, price, at)
    if quantity >= 0 and moves and s.impact != 0:
        taken = within(book, quantity)
        share = min(1.0, taken / book.volume) if book.volume > 0 else 1.0
        price = worsened(s, book, raw, order.side, share)
        quantity, cut = payable(a, s, books, i, order, price, at)
    if quantity < 0:
        a.rejected += 1
        end(a, books, orders, i, slot)
        return
    possible = within(book, quantity)
    if possible > 0:
        waits = possible < quantity
        if book.limited:
            book.budget -= possible
        trade(a, s, books, orders, fills, i, slot, possible, price, raw, at, maker, waits, cut)  # fmt: skip


@compiled
def fee_of(a: Any, s: Any, book: Any, order: Any, quantity: float, price: float, at: int,
           maker: bool) -> float:  # fmt: skip
    """`_fee`: this fill's own, and what its order still lacks of the minimum."""
    rate = book.maker_rate if maker else book.taker_rate
    tiers = book.maker_tiers if maker else book.taker_tiers
    fee = quantity * price * rate_now(a, s, rate, tiers, at)
    if s.fee_per_unit != 0:
        fee += quantity * s.fee_per_unit
    if s.tiers > 0:
        add_traded(a, at // DAY, quantity * price)
    if s.fee_minimum == 0:
        return fee
    order.owed += fee
    return max(max(order.owed, s.fee_minimum) - order.fees, 0.0)


@compiled
def trade(a: Any, s: Any, books: Any, orders: Any, fills: Any, i: int, slot: int,
          quantity: float, price: float, raw: float, at: int, maker: bool, waits: bool,
          cut: bool) -> None:  # fmt: skip
    book, order = nth(books, i), order_of(orders, i, slot)
    fee = fee_of(a, s, book, order, quantity, price, at, maker)
    order.fees += fee
    spend(book, order, quantity, quantity * price + fee)
    done = not waits or cut
    if order.filled_value == 0 and (waits or cut):
        a.partly_filled += 1
    if done:
        order.works = 0
        book.works -= 1
        a.works -= 1
    order.filled_value += quantity * price
    before = book.quantity
    take(a, books, i, order.side, quantity, price, fee, at)
    note(a, s, fills, i, order, quantity, price, raw, fee, at, maker, done and not cut)
    if done:
        conclude(books, orders, i, slot)
    follow_up(a, books, orders, i, slot, price, at, before, done and not cut)


@compiled
def spend(book: Any, order: Any, quantity: float, spent: float) -> None:
    """`_take`: count what traded off what is left."""
    order.filled += quantity
    if not order.by_value:
        order.quantity -= quantity
        return
    left = order.value - spent
    worth = book.lot * spent / quantity if book.has_lot else 1e-9 * abs(spent)
    order.value = left if left >= worth else 0.0


@compiled
def note(a: Any, s: Any, fills: Any, i: int, order: Any, quantity: float, price: float,
         raw: float, fee: float, at: int, maker: bool, last: bool) -> None:  # fmt: skip
    """Write the fill down; the loop stops before there is no room."""
    told = nth(fills, a.fills)
    told.book, told.side, told.leg, told.tag = i, order.side, order.leg, order.tag
    told.at, told.quantity, told.price, told.raw, told.fee = at, quantity, price, raw, fee
    told.decision, told.maker, told.last = order.decision, maker, last
    a.fills += 1
    if price != raw:
        lost = abs(price - raw) * quantity
        spread = min(lost, s.half_spread * raw * quantity)
        a.spread += spread
        a.slippage += lost - spread


@compiled
def follow_up(a: Any, books: Any, orders: Any, i: int, slot: int, price: float, at: int,
              before: float, complete: bool) -> None:  # fmt: skip
    """What a fill ends and what it wakes."""
    order, held = order_of(orders, i, slot), nth(books, i).quantity
    if slot >= STOP_LOSS and slot <= TRAILING_STOP and complete:
        for other in range(STOP_LOSS, TRAILING_STOP + 1):
            if (
                order_of(orders, i, other).works
                and order_of(orders, i, other).decision == order.decision
            ):
                end(a, books, orders, i, other)
    if held == 0 or before * held < 0:
        end_protection(a, books, orders, i)
    if slot != ENTRY:
        return
    if order.has_legs:
        order.has_legs = 0
        protect(a, books, orders, i, order, price, at)
    else:
        for leg in range(STOP_LOSS, TRAILING_STOP + 1):
            if (
                order_of(orders, i, leg).works
                and order_of(orders, i, leg).decision == order.decision
            ):
                order_of(orders, i, leg).quantity = abs(held)


@compiled
def protect(a: Any, books: Any, orders: Any, i: int, entry: Any, price: float, at: int) -> None:
    """The entry filled: its legs protect all that is held now, in place of any older ones."""
    end_protection(a, books, orders, i)
    quantity, sells = abs(nth(books, i).quantity), entry.side > 0
    for turn in range(3):
        slot = entry.legs[turn]
        if slot == 0:
            continue
        leg = order_of(orders, i, slot)
        renew(leg, -entry.side, slot, entry.decision, entry.tag)
        leg.reduce_only, leg.quantity, leg.asked = 1, quantity, quantity
        leg.active_from = at
        leg.works = 1
        nth(books, i).works += 1
        a.works += 1
        a.orders += 1
        a.sequence += 1
        leg.sequence = a.sequence
        if slot == TAKE_PROFIT:
            away = _away(entry.take_profit_distance, entry.take_profit_fraction, price)
            leg.type, leg.limit, leg.resting = LIMIT, price + away if sells else price - away, 1
            continue
        if slot == STOP_LOSS:
            away = _away(entry.stop_loss_distance, entry.stop_loss_fraction, price)
            leg.type = STOP
        else:
            away = _away(entry.trailing_distance, entry.trailing_fraction, price)
            leg.type = TRAILING
            leg.trail, leg.trail_fraction = entry.trailing_distance, entry.trailing_fraction
        leg.stop = price - away if sells else price + away
        if slot == TRAILING_STOP:
            leg.best = best_behind(leg, leg.stop)


@compiled
def _away(distance: float, fraction: float, price: float) -> float:
    return fraction * price if np.isnan(distance) else distance


@compiled
def behind(order: Any, best: float) -> float:
    """Where a trailing stop stands behind the best price."""
    away = best * order.trail_fraction if np.isnan(order.trail) else order.trail
    return best - away if order.side < 0 else best + away


@compiled
def best_behind(order: Any, stop: float) -> float:
    """`Level.best_behind`: the best price that puts the stop exactly there."""
    sign = 1 if order.side < 0 else -1
    if np.isnan(order.trail):
        best = stop / (1 - sign * order.trail_fraction)
    else:
        best = stop + sign * order.trail
    for _ in range(8):
        found = behind(order, best)
        if found == stop:
            break
        best = np.nextafter(best, np.inf if found < stop else -np.inf)
    return best


@compiled
def renew(order: Any, side: int, leg: int, decision: int, tag: int) -> None:
    """An order as nobody has asked anything of it yet. `leg` as results count them."""
    order.type, order.side, order.leg = 0, side, leg
    order.by_value = order.reduce_only = order.resting = order.has_legs = order.over = 0
    order.quantity = order.value = order.asked = 0.0
    order.limit = order.stop = order.best = 0.0
    order.trail = order.trail_fraction = np.nan
    order.filled = order.filled_value = order.fees = order.owed = 0.0
    order.decision, order.tag = decision, tag


@compiled
def end_protection(a: Any, books: Any, orders: Any, i: int) -> None:
    for slot in range(STOP_LOSS, TRAILING_STOP + 1):
        if order_of(orders, i, slot).works:
            end(a, books, orders, i, slot)


@compiled
def end(a: Any, books: Any, orders: Any, i: int, slot: int) -> None:
    """The order ends without trading (any more), and with it whatever waited for it."""
    order = order_of(orders, i, slot)
    order.works = 0
    order.has_legs = 0
    nth(books, i).works -= 1
    a.works -= 1
    conclude(books, orders, i, slot)


@compiled
def conclude(books: Any, orders: Any, i: int, slot: int) -> None:
    """`TradingCore._conclude`: where the strategy stands now that this order ended."""
    book, order = nth(books, i), order_of(orders, i, slot)
    for other in (EXIT, ENTRY, NEW_EXIT, NEW_ENTRY):
        if (
            order_of(orders, i, other).works
            and order_of(orders, i, other).decision != order.decision
        ):
            return  # a later decision stands in its place
    flat = book.quantity == 0
    if slot >= STOP_LOSS and slot <= TRAILING_STOP:
        if flat and order.filled != 0:
            book.target, book.time_exit = 0.0, 0
    elif order.filled == 0:
        book.target = 0.0 if flat else book.before
    elif flat and order.reduce_only and not anything_works(orders, i):
        book.target, book.time_exit = 0.0, 0


@compiled
def anything_works(orders: Any, i: int) -> bool:
    for slot in range(SLOTS):
        if order_of(orders, i, slot).works:
            return True
    return False
