"""A run one decision at a time, for strategies that are asked bar by bar: what the loop over them calls.

The loop calls `enter`, `act` and `leave` with the address of a table of addresses (`WORLD`): handing a
record over from Python costs more than most of the steps themselves.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.backtest.kernels.columns import nth, number, put, record_at, whole
from engine.backtest.kernels.deciding import decide, left_band
from engine.backtest.kernels.layout import (
    ACCOUNT,
    BAD_SIGNAL,
    BOOK,
    DECISION,
    DONE,
    FILL,
    FULL,
    ORDER,
    PLACE,
    READY,
    SETTINGS,
    SIGNAL,
    WANT,
)
from engine.backtest.kernels.loop import age, begin_moment, end_moment, levels
from engine.compiled import compiled

WORLD: Final = (
    "account", "settings", "books", "orders", "fills", "decisions", "places", "wants", "ready",
)  # fmt: skip
"""What lies at each place of the table."""

_account: Final = record_at(ACCOUNT)
_settings: Final = record_at(SETTINGS)
_books: Final = record_at(BOOK)
_orders: Final = record_at(ORDER)
_fills: Final = record_at(FILL)
_decisions: Final = record_at(DECISION)
_places: Final = record_at(PLACE)
_wants: Final = record_at(WANT)
_ready: Final = record_at(READY)


@compiled
def enter(world: int, moment: int) -> int:
    """Catch up with the moments before `moment`, then open it: 1 when its clock closes, else 0; or FULL."""
    a, s, books, orders = (
        _account(whole(world, 0)),
        _settings(whole(world, 1)),
        _books(whole(world, 2)),
        _orders(whole(world, 3)),
    )
    fills, decisions, places = (
        _fills(whole(world, 4)),
        _decisions(whole(world, 5)),
        _places(whole(world, 6)),
    )
    wants, ready = _wants(whole(world, 7)), _ready(whole(world, 8))
    said = advance(a, s, books, orders, fills, decisions, places, wants, ready, moment)
    if said != DONE:
        return said
    if not has_room(a, s):
        return FULL
    return 1 if open_moment(a, s, books, orders, fills, decisions, places, wants, ready) else 0


@compiled
def act(world: int, i: int, target: float, tag: int) -> int:
    """A target that is new: DONE or BAD_SIGNAL."""
    a, s, books, orders = (
        _account(whole(world, 0)),
        _settings(whole(world, 1)),
        _books(whole(world, 2)),
        _orders(whole(world, 3)),
    )
    decisions, places, wants = (
        _decisions(whole(world, 5)),
        _places(whole(world, 6)),
        _wants(whole(world, 7)),
    )
    at = whole(a.times, a.moment)
    if np.isinf(target):
        return BAD_SIGNAL
    return decide(a, s, books, orders, decisions, places, wants, i, SIGNAL, target, tag, at)


@compiled
def drifted(world: int, i: int, target: float) -> bool:
    """Whether an unchanged target is to be met again."""
    a, s, books, orders, places = (
        _account(whole(world, 0)),
        _settings(whole(world, 1)),
        _books(whole(world, 2)),
        _orders(whole(world, 3)),
        _places(whole(world, 6)),
    )
    return left_band(a, s, books, orders, places, i, target)


@compiled
def leave(world: int, moments: int) -> int:
    """Close the open moment; the first one after it in which something may happen whatever is said."""
    a, s, books, orders = (
        _account(whole(world, 0)),
        _settings(whole(world, 1)),
        _books(whole(world, 2)),
        _orders(whole(world, 3)),
    )
    end_moment(a, books, orders, a.moment, whole(a.times, a.moment))
    return calm_until(a, s, books, orders, _places(whole(world, 6)), moments)


@compiled
def finish(world: int, moments: int) -> int:
    """The moments that are left, in which the strategy wants nothing new. DONE, or FULL."""
    a, s, books, orders = (
        _account(whole(world, 0)),
        _settings(whole(world, 1)),
        _books(whole(world, 2)),
        _orders(whole(world, 3)),
    )
    fills, decisions, places = (
        _fills(whole(world, 4)),
        _decisions(whole(world, 5)),
        _places(whole(world, 6)),
    )
    wants, ready = _wants(whole(world, 7)), _ready(whole(world, 8))
    return advance(a, s, books, orders, fills, decisions, places, wants, ready, moments)


@compiled
def has_room(a: Any, s: Any) -> bool:
    """For all that one moment can bring."""
    needed = 8 * a.count + 8
    if s.records_decisions and a.records_room - a.records < needed:
        return False
    return a.fills_room - a.fills >= needed


@compiled
def advance(a: Any, s: Any, books: Any, orders: Any, fills: Any, decisions: Any, places: Any,
            wants: Any, ready: Any, until: int) -> int:  # fmt: skip
    """Moments up to `until` in which the strategy wants nothing new. DONE, or FULL."""
    while a.moment < until:
        if not has_room(a, s):
            return FULL
        if s.one and glide(a, books, orders, places, until):
            continue
        m, at = a.moment, whole(a.times, a.moment)
        open_moment(a, s, books, orders, fills, decisions, places, wants, ready)
        end_moment(a, books, orders, m, at)
    return DONE


@compiled
def open_moment(a: Any, s: Any, books: Any, orders: Any, fills: Any, decisions: Any, places: Any,
                wants: Any, ready: Any) -> bool:  # fmt: skip
    """The next moment up to where the strategy is asked; whether it is, since its clock closes."""
    at = whole(a.times, a.moment)
    begin_moment(a, s, books, orders, fills, decisions, places, ready, at)
    if a.clock_row + 1 < a.clock_rows and whole(a.clock, a.clock_row + 1) == at:
        a.clock_row += 1
        age(a, s, books, orders, decisions, places, wants, at)
        return True
    return False


@compiled
def calm_until(a: Any, s: Any, books: Any, orders: Any, places: Any, until: int) -> int:
    """The first moment from here on in which something may happen whatever the strategy says."""
    book = nth(books, 0)
    if not s.one:
        quiet = a.works == 0 and not s.margin and not s.has_band
        for i in range(a.count):
            quiet &= nth(books, i).time_exit == 0 or nth(books, i).quantity == 0
        return until if quiet else a.moment
    if book.time_exit != 0 and book.quantity != 0:
        return a.moment
    lowest, highest, is_calm = levels(orders)
    if not is_calm:
        return a.moment
    if lowest == -np.inf and highest == np.inf:
        return until
    lows, highs = nth(places, 0).low, nth(places, 0).high
    row, m = book.row + 1, a.moment
    while m < until and number(lows, row) > lowest and number(highs, row) < highest:
        row += 1
        m += 1
    return m


@compiled
def glide(a: Any, books: Any, orders: Any, places: Any, until: int) -> bool:
    """Pass moments whose bars touch no order of the one instrument; whether there were any."""
    book, place = nth(books, 0), nth(places, 0)
    if book.time_exit != 0 and book.quantity != 0:
        return False
    lowest, highest, is_calm = levels(orders)
    if not is_calm:
        return False
    first, row = a.moment, book.row
    quantity, cash, peak, worth = book.quantity, a.cash, a.peak, a.cash
    bounded = lowest > -np.inf or highest < np.inf
    m = first
    while m < until:
        row += 1
        if bounded and (number(place.low, row) <= lowest or number(place.high, row) >= highest):
            row -= 1
            break
        worth = cash + quantity * number(place.close, row) if quantity != 0 else cash
        if worth > peak:
            peak = worth
        put(a.equities, m, worth)
        put(a.exposures, m, 0.0 if worth == cash else (worth - cash) / worth)
        m += 1
    if m == first:
        return False
    if quantity != 0:
        book.age += m - first
    book.row = book.asked_row = row
    book.mark, book.has_mark = number(place.close, row), 1
    a.peak, a.equity = peak, worth
    a.clock_row += m - first
    a.moment, a.moment_at = m, whole(place.closed_at, row)
    return True
