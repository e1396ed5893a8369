"""What is held and what it is worth: `engine/portfolio.py` and `shared/domain/positions.py` in floats.

Sums run in the order in which instruments were first traded, as the core's dictionaries do: the k-th
book's `booked` is the number of the k-th instrument that was.
"""

from __future__ import annotations

import math
from typing import Any, Final

from engine.backtest.kernels.columns import nth, order_of
from engine.backtest.kernels.layout import ENTRY, NEW_ENTRY, TIER_DAYS
from engine.compiled import compiled

DAY: Final = 86_400_000_000_000
DAYS_A_YEAR: Final = 365


@compiled
def equity_of(
    a: Any,
    books: Any,
) -> float:
    total = a.cash
    for k in range(a.booked):
        book = nth(books, nth(books, k).booked)
        if book.quantity != 0:
            total += book.quantity * book.mark
    return total


@compiled
def gross_of(
    a: Any,
    books: Any,
) -> float:
    total = 0.0
    for k in range(a.booked):
        book = nth(books, nth(books, k).booked)
        if book.quantity != 0:
            total += abs(book.quantity) * book.mark
    return total


@compiled
def own_equity(
    a: Any,
    books: Any,
) -> float:
    """The allocation with the strategy's own marked P&L."""
    total = a.capital
    for k in range(a.booked):
        book = nth(books, nth(books, k).booked)
        # Where nothing is held there is no cost: asking first would only make the processor guess.
        value = book.quantity * book.mark if book.has_mark else book.cost
        total += book.realised - book.fees + (value - book.cost)
    return total


@compiled
def own_cash(
    a: Any,
    books: Any,
) -> float:
    total = a.capital
    for k in range(a.booked):
        book = nth(books, nth(books, k).booked)
        total += book.realised - book.fees - abs(book.cost)
    return total


@compiled
def own_gross(
    a: Any,
    books: Any,
) -> float:
    total = 0.0
    for k in range(a.booked):
        book = nth(books, nth(books, k).booked)
        if book.quantity != 0:
            total += abs(book.quantity * book.mark if book.has_mark else book.cost)
    return total


@compiled
def power_of(
    a: Any,
    s: Any,
    books: Any,
) -> float:
    """What may be spent on making positions larger; nothing while what is held has no price."""
    if not s.margin:
        return a.cash
    for k in range(a.booked):
        book = nth(books, nth(books, k).booked)
        if book.quantity != 0 and not book.has_mark:
            return 0.0
    return equity_of(a, books) * s.leverage - gross_of(a, books)


@compiled
def on_top(s: Any, rate: float, price: float) -> float:
    """`Costs.on_top` at a fee rate."""
    fee, moved = rate, s.slippage_rate + s.half_spread
    if s.fee_per_unit != 0 or s.slippage_fixed != 0:
        fee, moved = fee + s.fee_per_unit / price, moved + s.slippage_fixed / price
    return (1 + fee) * (1 + moved) - 1


@compiled
def free_cash(a: Any, s: Any, books: Any, orders: Any, i: int) -> float:
    """`Exposure.free`: what the strategy may still spend on one instrument."""
    promised = 0.0
    for j in range(a.count):
        if j == i or not (nth(books, j).works or nth(books, j).pending):
            continue
        for slot in (ENTRY, NEW_ENTRY):
            order = order_of(orders, j, slot)
            if order.works and (order.side > 0 or s.margin):
                promised += left_value(s, nth(books, j), order)
    power = power_of(a, s, books) - promised
    if s.margin:
        own = own_equity(a, books) * s.leverage - own_gross(a, books)
    else:
        own = own_cash(a, books)
    return min(power, own - promised)


@compiled
def left_value(s: Any, book: Any, order: Any) -> float:
    """What is left of an order, costs included, at its price or mark."""
    if order.by_value:
        return max(0.0, order.asked - order.filled_value)
    price = order.limit if order.limit > 0 else order.stop if order.stop > 0 else 0.0
    if price == 0.0 and book.has_mark:
        price = book.mark
    if price == 0.0:
        return 0.0
    return (order.asked - order.filled) * price * (1 + on_top(s, s.top_rate, price))


@compiled
def held_soon(a: Any, books: Any, orders: Any, i: int) -> int:
    """`Exposure.positions`: instruments held, or that an entry works for, this one among them."""
    count = 0
    for j in range(a.count):
        entered = order_of(orders, j, ENTRY).works or order_of(orders, j, NEW_ENTRY).works
        if j == i or nth(books, j).quantity != 0 or entered:
            count += 1
    return count


@compiled
def take(a: Any, books: Any, i: int, side: int, quantity: float, price: float,
         fee: float, at: int) -> None:  # fmt: skip
    """`Portfolio.book`: position by average cost, cash by double entry."""
    book = nth(books, i)
    if book.first == 0:
        nth(books, a.booked).booked = i
        a.booked += 1
        book.first = 1
    if book.quantity == 0:
        book.age = 0
    before, change = book.quantity, side * quantity
    book.quantity = before + change
    book.fees += fee
    if before * change >= 0:
        if before == 0:
            book.opened_at = at
        book.cost = book.cost + change * price
    elif abs(change) < abs(before):
        released = book.cost * (-change) / before
        book.realised = book.realised - change * price - released
        book.cost = book.cost - released
    else:
        book.realised = book.realised + before * price - book.cost
        book.opened_at = at if book.quantity != 0 else 0
        book.cost = book.quantity * price
    value = quantity * price
    a.cash = a.cash - value if side > 0 else a.cash + value
    if fee > 0:
        a.cash -= fee
    a.fees += fee


@compiled
def traded_until(a: Any, day: int) -> float:
    """`Traded.until`: what was traded in the 30 days that end with `day`."""
    total = 0.0
    for k in range(TIER_DAYS):
        if a.traded_day[k] > day - TIER_DAYS:
            total += a.traded_value[k]
    return total


@compiled
def add_traded(a: Any, day: int, value: float) -> None:
    k = day % TIER_DAYS
    if a.traded_day[k] != day:
        a.traded_day[k] = day
        a.traded_value[k] = 0.0
    a.traded_value[k] += value


@compiled
def rate_now(a: Any, s: Any, rate: float, tiers: int, at: int) -> float:
    """The fee rate at a fill: by tiers where there are any."""
    if not tiers or s.tiers == 0:
        return rate
    traded = traded_until(a, at // DAY)
    for k in range(s.tiers):
        if traded >= s.tier_least[k]:
            rate = s.tier_rate[k]
    return rate


@compiled
def affordable(s: Any, money: float, price: float, rate: float, charged: float) -> float:
    """`Costs.affordable`."""
    most = money / (price * (1 + rate) + s.fee_per_unit)
    if s.fee_minimum > charged:
        most = min(most, (money - (s.fee_minimum - charged)) / price)
    return max(0.0, most)


@compiled
def cost_of(s: Any, quantity: float, price: float, rate: float, charged: float) -> float:
    """`Costs.cost`."""
    fee = quantity * (price * rate + s.fee_per_unit)
    return quantity * price + max(fee, s.fee_minimum - charged)


@compiled
def whole_lots(quantity: float, lot: float) -> float:
    """`engine.sizing.lots`."""
    return math.floor(quantity / lot + 1e-9)


@compiled
def in_lots(book: Any, quantity: float) -> float:
    """As much of a quantity as whole lots hold, exactly; 0 when that is nothing."""
    if not book.has_lot:
        return quantity if quantity > 0 else 0.0
    lots = whole_lots(quantity, book.lot)
    return lots * book.lot_over / book.lot_under if lots > 0 else 0.0


@compiled
def carry(a: Any, s: Any, books: Any, at: int) -> None:
    """`engine.carrying.accrued`: borrow and interest for the days that began since the last moment."""
    days = at // DAY - a.moment_at // DAY
    if days <= 0 or s.borrow_rate == 0:
        return
    share = s.borrow_rate * days / DAYS_A_YEAR
    for i in range(a.count):
        book = nth(books, i)
        if book.quantity < 0 and book.has_mark:
            cost = -book.quantity * book.mark * share
            a.cash -= cost
            book.fees += cost
            a.borrowing += cost
    if a.cash < 0:
        interest = -a.cash * share
        a.cash -= interest
        a.borrowing += interest
