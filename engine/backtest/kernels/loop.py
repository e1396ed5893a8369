"""Moments one after another: `engine/backtest/replay.py` and `TradingCore.on_moment`."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backtest.kernels.books import carry, equity_of, gross_of
from engine.backtest.kernels.columns import TARGET, nth, number, order_of, put, whole
from engine.backtest.kernels.deciding import decide, left_band, settle, wait, wanted
from engine.backtest.kernels.filling import renew, worsened
from engine.backtest.kernels.layout import (
    BAD_SIGNAL,
    DONE,
    ENTRY,
    EXIT,
    FULL,
    LEG_LIQUIDATION,
    LIMIT,
    LIQUIDATION,
    MARKET,
    NEW_EXIT,
    ORDERED,
    SIGNAL,
    TIME_EXIT,
    TRAILING,
    TRAILING_STOP,
)
from engine.backtest.kernels.matching import on_bars, stop_level
from engine.backtest.kernels.plain import plain
from engine.compiled import compiled


@compiled
def run(a: Any, s: Any, books: Any, orders: Any, fills: Any, decisions: Any,
        places: Any, wants: Any, ready: Any, until: int) -> int:  # fmt: skip
    """Moments up to `until`. DONE, FULL when there is no room for what may come, or BAD_SIGNAL."""
    if s.plain:
        return plain(a, s, books, fills, places, wants, until)
    room_needed = 8 * a.count + 8
    while a.moment < until:
        if a.fills_room - a.fills < room_needed:
            return FULL
        if s.records_decisions and a.records_room - a.records < room_needed:
            return FULL
        if s.one and calm(a, s, books, orders, places, wants, until):
            continue
        m = a.moment
        at = whole(a.times, m)
        begin_moment(a, s, books, orders, fills, decisions, places, ready, at)
        if a.clock_row + 1 < a.clock_rows and whole(a.clock, a.clock_row + 1) == at:
            a.clock_row += 1
            age(a, s, books, orders, decisions, places, wants, at)
            wrong = hear(a, s, books, orders, decisions, places, wants, at)
            if wrong != DONE:
                return wrong
        end_moment(a, books, orders, m, at)
    return DONE


@compiled
def begin_moment(a: Any, s: Any, books: Any, orders: Any, fills: Any, decisions: Any,
                 places: Any, ready: Any, at: int) -> None:  # fmt: skip
    """Bars that close now: fills, then marks, then what the account owes, then its equity."""
    if s.grid:
        grid_moment(a, s, books, orders, fills, places, ready)
        if s.margin:
            owe(a, s, books, orders, decisions, at)
            a.equity = equity_of(a, books)
        a.moment_at = at
        a.peak = max(a.peak, a.equity)
        return
    for i in range(a.count):
        book = nth(books, i)
        after = book.row + 1
        book.closes_now = after < book.rows and whole(nth(places, i).closed_at, after) == at
        if book.closes_now:
            book.row = after
        if s.aligned:
            book.asked_row = book.row
        else:
            after = book.asked_row + 1
            if (
                after < nth(places, i).asked_rows
                and whole(nth(places, i).asked_closed_at, after) <= at
            ):
                book.asked_row = after
    if a.works:
        on_bars(a, s, books, orders, fills, places, ready)
    for i in range(a.count):
        book = nth(books, i)
        if book.closes_now:
            book.mark, book.has_mark = number(nth(places, i).close, book.row), 1
    if s.margin:
        owe(a, s, books, orders, decisions, at)
    a.moment_at = at
    a.equity = equity_of(a, books)
    a.peak = max(a.peak, a.equity)


@compiled
def grid_moment(
    a: Any, s: Any, books: Any, orders: Any, fills: Any, places: Any, ready: Any
) -> None:
    """Every series has a row now. Only what is held, or may be soon, is moved to it."""
    row = a.moment
    if a.works:
        for i in range(a.count):
            if nth(books, i).works:
                nth(books, i).row = row
        on_bars(a, s, books, orders, fills, places, ready)
        for i in range(a.count if a.works else 0):
            book = nth(books, i)
            if book.works:
                book.mark, book.has_mark = number(nth(places, i).close, row), 1
    worth = a.cash
    for k in range(a.booked):
        i = nth(books, k).booked
        book = nth(books, i)
        book.mark, book.has_mark = number(nth(places, i).close, row), 1
        worth += book.quantity * book.mark
    a.equity = worth


@compiled
def end_moment(a: Any, books: Any, orders: Any, m: int, at: int) -> None:
    settle(a, books, orders, at)
    put(a.equities, m, a.equity)
    put(a.exposures, m, 0.0 if a.cash == a.equity else (a.equity - a.cash) / a.equity)
    a.moment = m + 1


@compiled
def age(a: Any, s: Any, books: Any, orders: Any, decisions: Any, places: Any,
        wants: Any, at: int) -> None:  # fmt: skip
    """`TradingCore._age`: positions grow one bar older; those past their time leave."""
    if s.time_exit == 0 and not s.counts_age:
        return  # nobody asks how old a position is
    for i in range(a.count):
        book = nth(books, i)
        if book.quantity == 0 or book.opened_at >= at:
            continue
        book.age += 1
        if book.time_exit != 0 and book.age >= book.time_exit:
            book.time_exit = 0
            decide(a, s, books, orders, decisions, places, wants, i, TIME_EXIT, 0.0, 0, at)


@compiled
def hear(a: Any, s: Any, books: Any, orders: Any, decisions: Any, places: Any,
         wants: Any, at: int) -> int:  # fmt: skip
    """`TradingCore._hear_arrays`: targets that are new, or whose exposure left its band."""
    if s.side_by_side and a.clock_row > 0 and says_the_same(a, wants):
        return DONE
    for i in range(a.count):
        book = nth(books, i)
        target = wanted(nth(wants, i), TARGET, a.clock_row)
        asked = book.asked
        book.asked = target
        if np.isnan(target):
            continue
        if np.isinf(target):
            return BAD_SIGNAL
        known = target == book.target or (target == asked and not s.again)
        if known and not left_band(a, s, books, orders, places, i, target):
            continue
        wrong = decide(a, s, books, orders, decisions, places, wants, i, SIGNAL, target, s.tag, at)  # fmt: skip
        if wrong != DONE:
            return wrong
    return DONE


@compiled
def says_the_same(a: Any, wants: Any) -> bool:
    """Whether every target is, bit for bit, that of the row before: then none of them acts."""
    here = wants.address[TARGET] + 8 * a.count * a.clock_row
    before = here - 8 * a.count
    different = 0
    for i in range(a.count):
        different += whole(here, i) != whole(before, i)
    return different == 0


# Margin ---------------------------------------------------------------------------------------


@compiled
def owe(a: Any, s: Any, books: Any, orders: Any, decisions: Any, at: int) -> None:
    """`TradingCore._carry`: costs of the days that passed, and whether so much may still be owed."""
    if a.moment_at != 0:
        carry(a, s, books, at)
    gross = gross_of(a, books)
    if gross == 0:
        a.called = 0
        return
    level = equity_of(a, books) / (gross / s.leverage)
    if level >= s.call_level:
        a.called = 0
        return
    a.called = 1
    if level < s.liquidation_level:
        liquidate(a, s, books, orders, decisions, at)


@compiled
def liquidate(a: Any, s: Any, books: Any, orders: Any, decisions: Any, at: int) -> None:
    """`TradingCore._liquidate`: what ties up most is closed, unless that is under way."""
    largest, worth = -1, -1.0
    for i in range(a.count):
        held = abs(nth(books, i).quantity) * (nth(books, i).mark if nth(books, i).has_mark else 0.0)
        if nth(books, i).quantity != 0 and held > worth:
            largest, worth = i, held
    if largest < 0:
        return
    for slot in (EXIT, NEW_EXIT):
        if order_of(orders, largest, slot).works:
            return
    book, leaving = nth(books, largest), order_of(orders, largest, NEW_EXIT)
    a.decisions += 1
    wait(a, books, largest)
    told = nth(decisions, a.records)
    told.at, told.book, told.kind, told.tag, told.outcome = at, largest, LIQUIDATION, 0, ORDERED
    told.row, told.bar, told.target, told.previous = a.clock_row, book.asked_row, 0.0, book.target
    told.held, told.change, told.value = book.quantity, -book.quantity, 0.0
    told.price = worsened(s, book, book.mark, -1 if book.quantity > 0 else 1, 0.0)
    told.equity = told.cash = told.volatility = told.order_value = told.exposure_after = np.nan
    told.account_equity = told.peak = told.positions_after = told.margin_after = np.nan
    told.rule_volatility, told.mean_value, told.reason = np.nan, np.nan, 0
    if s.records_decisions:
        a.records += 1
    renew(leaving, -1 if book.quantity > 0 else 1, LEG_LIQUIDATION, a.decisions, 0)
    leaving.type, leaving.reduce_only = MARKET, 1
    leaving.quantity = leaving.asked = abs(book.quantity)
    leaving.works = 1
    a.orders += 1
    a.sequence += 1
    leaving.sequence = a.sequence


# Stretches in which nothing can happen -----------------------------------------------------------


@compiled
def calm(a: Any, s: Any, books: Any, orders: Any, places: Any, wants: Any, until: int) -> bool:
    """Pass over the moments from here in which one instrument's bars touch no order and its target stays.

    Only where that is all that can happen in a moment: one series, whose bars are the clock; no margin, no
    band. True when at least one moment was passed.
    """
    book = nth(books, 0)
    if book.time_exit != 0 and book.quantity != 0:
        return False
    lowest, highest, is_calm = levels(orders)
    if not is_calm:
        return False
    first, row = a.moment, book.row
    end = min(until, first + book.rows - 1 - row)
    quantity, cash, peak = book.quantity, a.cash, a.peak
    equity, exposure = a.equities, a.exposures
    closes, lows, highs = nth(places, 0).close, nth(places, 0).low, nth(places, 0).high
    bounded = lowest > -np.inf or highest < np.inf
    target, step = wants.address[TARGET], wants.step[TARGET]
    stands, asked, before = book.target, book.asked, book.asked
    worth = cash
    m = first
    while m < end:
        row += 1
        before = asked
        asked = number(target, row * step)
        if asked != stands and (s.again or asked != before) and asked == asked:
            asked = before
            row -= 1
            break
        if bounded and (number(lows, row) <= lowest or number(highs, row) >= highest):
            asked = before
            row -= 1
            break
        worth = cash + quantity * number(closes, row) if quantity != 0 else cash
        if worth > peak:
            peak = worth
        put(equity, m, worth)
        put(exposure, m, 0.0 if worth == cash else (worth - cash) / worth)
        m += 1
    if m == first:
        return False
    passed = m - first
    if quantity != 0:
        book.age += passed
    book.row = book.asked_row = row
    book.asked = asked
    book.mark, book.has_mark = number(closes, row), 1
    a.peak, a.equity = peak, worth
    a.clock_row += passed
    a.moment = m
    a.moment_at = whole(nth(places, 0).closed_at, row)
    return True


@compiled
def levels(orders: Any) -> tuple[float, float, bool]:
    """(highest level met on the way down, lowest on the way up, whether every order merely waits for them)."""
    lowest, highest = -np.inf, np.inf
    if order_of(orders, 0, EXIT).works:
        return lowest, highest, False
    for slot in range(ENTRY, TRAILING_STOP + 1):
        order = order_of(orders, 0, slot)
        if not order.works:
            continue
        if order.type == MARKET or order.type == TRAILING:
            return lowest, highest, False
        if order.type == LIMIT and not order.resting:
            return lowest, highest, False
        level = order.limit if order.type == LIMIT else stop_level(order)
        if (order.side > 0) == (order.type == LIMIT):
            lowest = max(lowest, level)
        else:
            highest = min(highest, level)
    return lowest, highest, True
