"""What a plain run came to, and nothing else: for searches over thousands of combinations.

`kernels/plain.py` decides and trades; here the stretches between are passed without writing a curve. While
all money is in the market, returns are those of the prices, whose sums all combinations share; bars are
looked at one by one only where the block they lie in may hold a new peak or a deeper fall.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.backtest.kernels.columns import TARGET, column, number, put, record_at, whole
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

BLOCK: Final = 16
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
    while a.moment < until:
        acts = stretch(a, s, w, book, place, wants, until)
        if acts:
            if np.isinf(book.asked):
                return BAD_SIGNAL
            if decide(a, s, book, book.asked, a.price):
                book.before, book.target = book.target, book.asked
        if a.moment < until and (a.leaving != 0 or a.entering != 0 or a.spending != 0):
            row = book.row + 1
            trade(a, s, book, fills, number(place.open, row), row)
    return DONE


@compiled
def stretch(a: Any, s: Any, w: Any, book: Any, place: Any, wants: Any, until: int) -> bool:
    """Pass moments until one whose target is new, that one too; whether there was one."""
    first = a.clock_row + 1
    last = a.clock_row + (until - a.moment)
    target, step = wants.address[TARGET], wants.step[TARGET]
    end, asked, acts = next_news(target, step, first, last, book.target, book.asked, s.again)
    count = end - first + 1
    row = book.row + 1
    pass_first(a, w, book, place, row)
    if count > 1:
        if book.quantity != 0:
            pass_held(a, w, book, place, row + 1, row + count - 1)
        else:
            w.before = a.cash
            keep_days(w, book.quantity, a.cash, place, row + 1, row + count - 1)
    book.row = book.asked_row = row + count - 1
    book.asked, a.price = asked, number(place.close, row + count - 1)
    a.clock_row += count
    a.moment += count
    w.bars += count
    return acts


@compiled
def next_news(target: int, step: int, first: int, last: int, stands: float,
              before: float, again: int) -> tuple[int, float, bool]:  # fmt: skip
    """(row, its target, whether it is new): the first row from `first` with a new target, else the last."""
    row = first
    while row <= last:
        if step == 1 and row + BLOCK <= last + 1:
            said = column(target, row + BLOCK)
            same = 0
            for k in range(row, row + BLOCK):
                same += said[k] == stands
            if same == BLOCK:
                row += BLOCK
                before = stands
                continue
        for _ in range(BLOCK):
            if row > last:
                break
            asked = number(target, row * step)
            if asked != stands and (again or asked != before) and asked == asked:
                return row, asked, True
            before = asked
            row += 1
    return last, before, False


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
    a.equity = value


@compiled
def pass_held(a: Any, w: Any, book: Any, place: Any, first: int, last: int) -> None:
    """Moments in which only the price moved."""
    cash, quantity = a.cash, book.quantity
    if abs(cash) <= ALL_IN * w.before:
        w.total += number(w.returns, 2 * last) - number(w.returns, 2 * first - 2)
        w.squares += number(w.returns, 2 * last + 1) - number(w.returns, 2 * first - 1)
        falls(w, place, cash, quantity, first, last)
        w.before = cash + quantity * number(place.close, last)
    else:
        for row in range(first, last + 1):
            mark(w, cash + quantity * number(place.close, row))
    keep_days(w, quantity, cash, place, first, last)
    a.equity = w.before


@compiled
def falls(w: Any, place: Any, cash: float, quantity: float, first: int, last: int) -> None:
    """Peaks and falls of what is held: bar by bar only in blocks that may hold one."""
    closes = column(place.close, last + 1)
    highest, deepest = (w.peak - cash) / quantity, (w.floor - cash) / quantity
    row = first
    while row <= last:
        end = row + BLOCK
        if end <= last + 1:
            beyond = 0
            for k in range(BLOCK):
                price = closes[row + k]
                beyond += (price > highest) | (price < deepest)
            if not beyond:
                row = end
                continue
        end = min(end, last + 1)
        for k in range(row, end):
            if closes[k] > highest or closes[k] < deepest:
                fall(w, cash + quantity * closes[k])
                highest, deepest = (w.peak - cash) / quantity, (w.floor - cash) / quantity
        row = end


@compiled
def keep_days(w: Any, quantity: float, cash: float, place: Any, first: int, last: int) -> None:
    """Equity in the rows that end a day."""
    while w.day < w.days and whole(w.day_rows, w.day) <= last:
        row = whole(w.day_rows, w.day)
        if row >= first:
            value = cash + quantity * number(place.close, row) if quantity != 0 else cash
            put(w.day_equity, w.day, value)
        w.day += 1
