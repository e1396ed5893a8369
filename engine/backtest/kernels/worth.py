"""What a plain run came to, and nothing else: for searches over thousands of combinations.

`kernels/plain.py` decides and trades; here the stretches between are passed without writing a curve. While
all money is in the market, returns are those of the prices, whose sums all combinations share; bars are
looked at one by one only where there is a new peak among them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.backtest.kernels.columns import TARGET, number, put, record_at, whole
from engine.backtest.kernels.lanes import LOOKED_AT, first_bit, least_and_most_at, news
from engine.backtest.kernels.layout import (
    ACCOUNT,
    BAD_SIGNAL,
    BOOK,
    DONE,
    FILL,
    PLACE,
    SETTINGS,
    WANT,
    WORTH,
)
from engine.backtest.kernels.plain import decide, trade
from engine.compiled import compiled

ALL_IN: Final = 1e-12
"""Cash below this part of equity is what rounding left over."""

_account: Final = record_at(ACCOUNT)
_settings: Final = record_at(SETTINGS)
_books: Final = record_at(BOOK)
_fills: Final = record_at(FILL)
_places: Final = record_at(PLACE)
_wants: Final = record_at(WANT)
_worths: Final = record_at(WORTH)


@compiled
def worth(world: int, until: int) -> int:
    """All moments up to `until`. `world` as `steps.WORLD`, with the record of what is counted after it."""
    a, s, book = _account(whole(world, 0)), _settings(whole(world, 1)), _books(whole(world, 2))
    fills, place, wants = _fills(whole(world, 4)), _places(whole(world, 6)), _wants(whole(world, 7))
    w = _worths(whole(world, 9))
    target, step, again = wants.address[TARGET], wants.step[TARGET], s.again != 0
    first, last = a.clock_row + 1, a.clock_row + until - a.moment
    later = a.moment - a.clock_row  # the moment that follows row 0 of the clock
    while first <= last:
        after = min(first + LOOKED_AT, last + 1)
        found = news(target, step, first, last, book.asked, again)
        while found != 0:
            ahead = first_bit(found)
            found &= found - 1
            asked = number(target, (first + ahead) * step)
            if asked == book.target:
                continue
            if np.isinf(asked):
                return BAD_SIGNAL
            go_on(a, s, w, book, fills, place, first + ahead + later)
            if decide(a, s, book, asked, number(place.close, book.row)):
                book.before, book.target = book.target, asked
        book.asked = number(target, (after - 1) * step)
        first = after
    go_on(a, s, w, book, fills, place, until)
    a.clock_row = last
    return DONE


@compiled
def go_on(a: Any, s: Any, w: Any, book: Any, fills: Any, place: Any, moment: int) -> None:
    """Pass the moments before `moment`; what waits fills first."""
    count, row = moment - a.moment, book.row + 1
    if count <= 0:
        return
    if a.leaving != 0 or a.entering != 0 or a.spending != 0:
        trade(a, s, book, fills, place, row)
    pass_first(a, w, book, place, row)
    if count > 1:
        if book.quantity != 0:
            pass_held(a, w, book, place, row + 1, row + count - 1)
        else:
            w.before = a.cash
            keep_days(w, book.quantity, a.cash, place, row + 1, row + count - 1)
    book.row = book.asked_row = row + count - 1
    a.moment = moment
    w.bars += count


@compiled
def mark(w: Any, value: float) -> None:
    """One marked equity after another, on its way into the sums."""
    change = value / w.before - 1
    w.total += change
    w.squares += change * change
    w.before = value
    fall(w, value)


@compiled
def fall(w: Any, value: float) -> None:
    """A new peak, or a deeper fall from the last one."""
    if value > w.peak:
        w.peak = value
        w.floor = value * (1 - w.lowest)
    elif value < w.floor:
        w.lowest = 1 - value / w.peak
        w.floor = value


@compiled
def pass_first(a: Any, w: Any, book: Any, place: Any, row: int) -> None:
    """The moment in which something may have traded."""
    value = a.cash
    if book.quantity != 0:
        value = a.cash + book.quantity * number(place.close, row)
    mark(w, value)
    keep_days(w, book.quantity, a.cash, place, row, row)


@compiled
def pass_held(a: Any, w: Any, book: Any, place: Any, first: int, last: int) -> None:
    """Moments in which only the price moved."""
    cash, quantity = a.cash, book.quantity
    if abs(cash) <= ALL_IN * w.before:
        w.total += number(w.returns, 2 * last) - number(w.returns, 2 * first - 2)
        w.squares += number(w.returns, 2 * last + 1) - number(w.returns, 2 * first - 1)
        falls(a, w, book, place, first, last)
        w.before = cash + quantity * number(place.close, last)
    else:
        for row in range(first, last + 1):
            mark(w, cash + quantity * number(place.close, row))
    keep_days(w, quantity, cash, place, first, last)


@compiled
def falls(a: Any, w: Any, book: Any, place: Any, first: int, last: int) -> None:
    """Peaks and falls of what is held: without a new peak it is the lowest price that counts."""
    cash, quantity = a.cash, book.quantity
    least, most = least_and_most_at(place.close, place.close, first, last + 1, book.rows)
    if most > (w.peak - cash) / quantity:
        for row in range(first, last + 1):
            fall(w, cash + quantity * number(place.close, row))
    elif least < (w.floor - cash) / quantity:
        fall(w, cash + quantity * least)


@compiled
def keep_days(w: Any, quantity: float, cash: float, place: Any, first: int, last: int) -> None:
    """Equity in the rows that end a day."""
    while w.day < w.days and whole(w.day_rows, w.day) <= last:
        row = whole(w.day_rows, w.day)
        if row >= first:
            value = cash + quantity * number(place.close, row) if quantity != 0 else cash
            put(w.day_equity, w.day, value)
        w.day += 1
