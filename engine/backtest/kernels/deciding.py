"""From a target to orders: `TradingCore._decide`, `engine/sizing.py`, `engine/risk/rules.py`, `engine/intents.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.backtest.kernels.books import (
    equity_of,
    free_cash,
    gross_of,
    held_soon,
    on_top,
    own_equity,
    whole_lots,
)
from engine.backtest.kernels.columns import (
    ENTRY_PRICE,
    STOP_LOSS_DISTANCE,
    STOP_LOSS_FRACTION,
    TAKE_PROFIT_DISTANCE,
    TAKE_PROFIT_FRACTION,
    TRAILING_DISTANCE,
    TRAILING_FRACTION,
    copy,
    nth,
    number,
    order_of,
)
from engine.backtest.kernels.filling import conclude, renew
from engine.backtest.kernels.layout import (
    AS_WANTED,
    BAD_SIGNAL,
    CASH,
    DENIED,
    DONE,
    DUST,
    ENTRY,
    EXIT,
    LEG_EXIT,
    LEG_LIQUIDATION,
    LEG_TIME_EXIT,
    LIMIT,
    MARKET,
    NEW_ENTRY,
    NEW_EXIT,
    NO_CASH,
    NO_LOT,
    NO_PRICE,
    NO_VOLATILITY,
    NOT_YET_KNOWN,
    NOTHING,
    NOTHING_HELD,
    ORDERED,
    QUANTITY,
    SIGNAL,
    STOP_LOSS,
    TAKE_PROFIT,
    TIME_EXIT,
    TOO_SMALL,
    TRAILING_STOP,
    VALUE,
    VOLATILITY,
)
from engine.compiled import compiled


@compiled
def wanted(wants_of: Any, column: int, row: int) -> float:
    """What the strategy says at a row of the clock; a step of 0 is one number for all rows."""
    return number(wants_of.address[column], row * wants_of.step[column])


@compiled
def decide(a: Any, s: Any, books: Any, orders: Any, decisions: Any, places: Any,
           wants: Any, i: int, kind: int, target: float, tag: int, at: int) -> int:  # fmt: skip
    """One decision, its orders waiting for the end of the moment. DONE or BAD_SIGNAL."""
    book = nth(books, i)
    if s.grid:
        book.row = book.asked_row = a.moment
        if book.row + 1 < book.rows:
            book.ahead = number(nth(places, i).open, book.row + 1)
    price = book.mark if book.has_mark else 0.0
    if book.asked_row >= 0:
        price = number(nth(places, i).asked_close, book.asked_row)
    told = nth(decisions, a.records)
    told.at, told.book, told.kind, told.tag = at, i, kind, tag
    told.row, told.bar = a.clock_row, book.asked_row
    told.target, told.previous, told.price = target, book.target, price
    told.order_value = told.exposure_after = told.account_equity = told.peak = np.nan
    told.positions_after = told.margin_after = told.volatility = np.nan
    told.rule_volatility = told.mean_value = np.nan
    told.reason = NO_PRICE
    told.change = told.value = told.equity = told.cash = 0.0
    told.held = book.quantity
    a.decisions += 1
    wait(a, books, i)
    if s.grid and price > 0:
        book.mark, book.has_mark = price, 1
    outcome, is_met, wrong = NOTHING, False, DONE
    if price > 0:
        is_met = sized(a, s, books, orders, places, i, target, told)
        if told.change != 0 or told.value != 0:
            outcome = ORDERED
            if not allowed(a, s, books, orders, places, i, told):
                outcome = DENIED
                a.denied += 1
        if outcome == ORDERED:
            outcome, wrong = place(a, s, books, orders, wants, i, kind, told)
            if outcome == NOTHING:
                told.reason = NOT_YET_KNOWN
    told.outcome = outcome
    if outcome != NOTHING:
        told.reason = 0
    if s.records_decisions:
        a.records += 1
    if wrong != DONE:
        return wrong
    if outcome == ORDERED:
        book.before, book.target = book.target, target
        book.time_exit = s.time_exit if kind == SIGNAL else 0
    elif outcome == NOTHING and is_met and not leaves_now(orders, i):
        book.target = target
        book.cancels = 1
    return DONE


@compiled
def wait(a: Any, books: Any, i: int) -> None:
    """The end of the moment looks at this instrument."""
    book = nth(books, i)
    if not book.pending:
        book.pending = 1
        nth(books, a.pending).decided = i
        a.pending += 1


@compiled
def leaves_now(orders: Any, i: int) -> bool:
    return order_of(orders, i, NEW_EXIT).works or order_of(orders, i, NEW_ENTRY).works


# Sizing ---------------------------------------------------------------------------------------


@compiled
def sized(a: Any, s: Any, books: Any, orders: Any, places: Any, i: int,
          target: float, told: Any) -> bool:  # fmt: skip
    """`size`: writes change or value; whether nothing is to be traded since what is held is wanted."""
    book, price = nth(books, i), told.price
    leaves = target == 0 or (target < 0 and not s.margin)
    if s.records_decisions or not leaves:
        told.equity = own_equity(a, books)
        told.cash = free_cash(a, s, books, orders, i)
    if s.method == VOLATILITY and target != 0:
        told.volatility = volatility_of(book, places, i, s.volatility_window)
    if target < 0 and not s.margin:
        target = 0.0
    held = book.quantity
    if target == 0:
        told.change, told.reason = -held, NOTHING_HELD
        return held == 0
    spendable = told.cash
    if spendable <= DUST * abs(told.equity):
        spendable = min(spendable, 0.0)
    costs = on_top(s, book.top_rate, price)
    if s.method == CASH and held == 0:
        value = max(-1.0, min(target, 1.0)) * s.fraction * max(0.0, spendable)
        told.reason = NO_CASH if value == 0 else TOO_SMALL
        if value != 0 and not too_small(book, abs(value) / (price * (1 + costs)), price):
            told.value = value
        return False
    value = wanted_value(s, told, target)
    if np.isnan(value):
        told.reason = NO_VOLATILITY
        return False
    change = value / price - held
    if abs(change) <= DUST * abs(held):
        change = 0.0
    closes = min(abs(change), abs(held)) if change * held < 0 else 0.0
    if value * held >= 0 and closes != 0:
        return rounded(book, told, math.copysign(closes, change), 0.0)
    added = abs(change) - closes
    free = max(0.0, spendable + closes * price)
    added = min(added, free / (price * (1 + costs)))
    return rounded(book, told, math.copysign(added, change), closes)


@compiled
def wanted_value(s: Any, told: Any, target: float) -> float:
    """`_wanted_value`, NaN when it cannot be known."""
    if s.method == QUANTITY:
        return target * s.units * told.price
    if s.method == VALUE:
        return target * s.amount
    share = s.fraction
    if s.method == VOLATILITY:
        if np.isnan(told.volatility) or told.volatility == 0:
            return np.nan
        share = min(1.0, s.annual_volatility / told.volatility)
    return target * share * told.equity


@compiled
def rounded(book: Any, told: Any, change: float, closes: float) -> bool:
    """`_rounded`: whole lots, and nothing that the venue would refuse."""
    held, price = told.held, told.price
    if book.has_lot:
        change = math.copysign(whole_lots(abs(change), book.lot) * book.lot, change)
    if closes != 0 and (change == 0 or too_small(book, abs(change), price)):
        told.change = -held
        return False
    if closes != 0:
        change = math.copysign(closes, change) + change
    if change == 0:
        told.reason = AS_WANTED if held != 0 else NO_LOT
        return held != 0
    told.reason = TOO_SMALL
    if not too_small(book, abs(change), price):
        told.change = change
    return False


@compiled
def too_small(book: Any, quantity: float, price: float) -> bool:
    if book.has_lot and whole_lots(quantity, book.lot) == 0:
        return True
    return quantity < book.min_quantity or quantity * price < book.min_value


@compiled
def volatility_of(book: Any, places: Any, i: int, window: int) -> float:
    """`annual_volatility` of the closes so far; NaN with fewer than `window` returns."""
    last = book.asked_row
    if last < window:
        return np.nan
    closes = nth(places, i).asked_close
    mean = (math.log(number(closes, last)) - math.log(number(closes, last - window))) / window
    total, before = 0.0, math.log(number(closes, last - window))
    for row in range(last - window + 1, last + 1):
        here = math.log(number(closes, row))
        total += (here - before - mean) ** 2
        before = here
    return math.sqrt(total / (window - 1)) * math.sqrt(book.bars_per_year)


# Rules ----------------------------------------------------------------------------------------


@compiled
def allowed(a: Any, s: Any, books: Any, orders: Any, places: Any, i: int,
            told: Any) -> bool:  # fmt: skip
    """`RiskPolicy.check` about what the order adds. A reduction is never checked."""
    book, price, held = nth(books, i), told.price, told.held
    change = told.change if told.change != 0 else told.value / price
    after = held + change
    added = abs(after) - abs(held) if held * after >= 0 else abs(after)
    if added <= 0:
        return True
    equity = equity_of(a, books)
    told.order_value, told.exposure_after = added * price, after * price
    told.account_equity, told.peak = equity, a.peak
    told.positions_after = held_soon(a, books, orders, i)
    says = True
    if not np.isnan(s.max_order):
        says &= equity > 0 and told.order_value / equity <= s.max_order
    if not np.isnan(s.max_drawdown):
        says &= a.peak > 0 and max(0.0, (a.peak - equity) / a.peak) < s.max_drawdown
    if not np.isnan(s.max_share):
        says &= equity > 0 and abs(told.exposure_after) / equity <= s.max_share
    if not np.isnan(s.max_volatility):
        found = volatility_of(book, places, i, s.rule_volatility_window)
        told.rule_volatility = found
        says &= found <= s.max_volatility  # false for NaN
    if not np.isnan(s.max_of_volume):
        mean = mean_value(book, places, i, s.rule_liquidity_window)
        told.mean_value = mean
        says &= mean > 0 and told.order_value / mean <= s.max_of_volume
    if not np.isnan(s.max_positions):
        says &= told.positions_after <= s.max_positions
    if s.margin:
        used = np.inf
        if equity > 0:
            gross = gross_of(a, books) + (abs(after) - abs(held)) * price
            used = gross / s.leverage / equity
        told.margin_after = used
        says &= used <= 1 + 1e-9
    return says


@compiled
def mean_value(book: Any, places: Any, i: int, window: int) -> float:
    """Mean traded value of the newest bars; NaN with fewer."""
    last = book.asked_row
    if last + 1 < window:
        return np.nan
    total = 0.0
    for row in range(last - window + 1, last + 1):
        total += number(nth(places, i).asked_close, row) * number(nth(places, i).asked_volume, row)
    return total / window


# Orders ---------------------------------------------------------------------------------------


@compiled
def place(a: Any, s: Any, books: Any, orders: Any, wants: Any, i: int, kind: int,
          told: Any) -> tuple[int, int]:  # fmt: skip
    """`intents_of`: (outcome, DONE or BAD_SIGNAL). The orders stand in the slots for new ones."""
    book, held = nth(books, i), told.held
    change = told.value if told.value != 0 else told.change
    side = 1 if change > 0 else -1
    total = abs(told.change)
    closes = min(total, abs(held)) if side * held < 0 else 0.0
    opens = total > closes or told.value != 0
    entry = order_of(orders, i, NEW_ENTRY)
    if opens:
        renew(entry, side, 0, a.decisions, told.tag)
        wrong = shape(s, nth(wants, i), entry, told.row, kind)
        if wrong != DONE:
            return NOTHING, (wrong if wrong == BAD_SIGNAL else DONE)
    order_of(orders, i, NEW_EXIT).works = order_of(orders, i, NEW_ENTRY).works = 0
    if closes != 0:
        leaving = order_of(orders, i, NEW_EXIT)
        leg = (
            LEG_EXIT if kind == SIGNAL else LEG_TIME_EXIT if kind == TIME_EXIT else LEG_LIQUIDATION
        )
        renew(leaving, side, leg, a.decisions, told.tag)
        leaving.type, leaving.reduce_only = MARKET, 1
        whole = abs(held)
        leaving.quantity = whole if closes == whole else exact_lots(book, closes)
        leaving.asked = leaving.quantity
        leaving.works = 1
        a.orders += 1
        a.sequence += 1
        leaving.sequence = a.sequence
    if opens:
        entry.by_value = told.value != 0
        if entry.by_value:
            entry.value = abs(told.value)
            entry.asked = entry.value
        else:
            entry.quantity = exact_lots(book, total - closes)
            entry.asked = entry.quantity
        entry.works = 1
        a.orders += 1
        a.sequence += 1
        entry.sequence = a.sequence
    return ORDERED, DONE


@compiled
def exact_lots(book: Any, change: float) -> float:
    """`_in_lots`: the nearest whole number of lots, exactly."""
    if not book.has_lot:
        return change
    return np.rint(change / book.lot) * book.lot_over / book.lot_under


@compiled
def shape(s: Any, wants_of: Any, entry: Any, row: int, kind: int) -> int:
    """Type, price and legs of an entry as the signal wants them. NOTHING while a distance is not known."""
    entry.legs[0] = entry.legs[1] = entry.legs[2] = 0
    if kind != SIGNAL:
        entry.type = MARKET
        return DONE
    entry.type = s.entry_type
    if s.entry_type != MARKET:
        price = wanted(wants_of, ENTRY_PRICE, row)
        if not 0 < price < np.inf:
            return BAD_SIGNAL
        if s.entry_type == LIMIT:
            entry.limit = price
        else:
            entry.stop = price
    known = True
    for turn in range(3):
        slot = s.legs[turn]
        entry.legs[turn] = slot
        if slot == STOP_LOSS:
            fraction, distance = STOP_LOSS_FRACTION, STOP_LOSS_DISTANCE
        elif slot == TAKE_PROFIT:
            fraction, distance = TAKE_PROFIT_FRACTION, TAKE_PROFIT_DISTANCE
        elif slot == TRAILING_STOP:
            fraction, distance = TRAILING_FRACTION, TRAILING_DISTANCE
        else:
            continue
        entry.has_legs = 1
        share, away = np.nan, np.nan
        if wants_of.address[fraction] != 0:
            share = wanted(wants_of, fraction, row)
            known &= not np.isnan(share)
            if share <= 0 or share == np.inf:
                return BAD_SIGNAL
        if wants_of.address[distance] != 0:
            away = wanted(wants_of, distance, row)
            known &= not np.isnan(away)
            if away <= 0 or away == np.inf:
                return BAD_SIGNAL
        if slot == STOP_LOSS:
            entry.stop_loss_fraction, entry.stop_loss_distance = share, away
        elif slot == TAKE_PROFIT:
            entry.take_profit_fraction, entry.take_profit_distance = share, away
        else:
            entry.trailing_fraction, entry.trailing_distance = share, away
    return DONE if known else NOTHING


@compiled
def settle(a: Any, books: Any, orders: Any, at: int) -> None:
    """The end of a moment: what new orders replace is cancelled, then they work."""
    for k in range(a.pending):
        i = nth(books, k).decided
        book = nth(books, i)
        book.pending = 0
        leaving, entering = order_of(orders, i, NEW_EXIT), order_of(orders, i, NEW_ENTRY)
        if book.cancels:
            book.cancels = 0
            drop(a, books, orders, i)
        if leaving.works or entering.works:
            drop(a, books, orders, i)
            if leaving.works:
                hand_in(a, books, orders, i, NEW_EXIT, EXIT, at)
            if entering.works:
                hand_in(a, books, orders, i, NEW_ENTRY, ENTRY, at)
    a.pending = 0


@compiled
def drop(a: Any, books: Any, orders: Any, i: int) -> None:
    """Cancel what works there and protects nothing."""
    for slot in (EXIT, ENTRY):
        if order_of(orders, i, slot).works:
            order_of(orders, i, slot).works = 0
            order_of(orders, i, slot).has_legs = 0
            nth(books, i).works -= 1
            a.works -= 1
            conclude(books, orders, i, slot)


@compiled
def hand_in(a: Any, books: Any, orders: Any, i: int, new: int, slot: int, at: int) -> None:
    order, told = order_of(orders, i, slot), order_of(orders, i, new)
    copy(order, told)
    told.works = 0
    order.active_from = at
    nth(books, i).works += 1
    a.works += 1


@compiled
def left_band(a: Any, s: Any, books: Any, orders: Any, places: Any, i: int,
              target: float) -> bool:  # fmt: skip
    """`_left_band`: the exposure has drifted from an unchanged target by more than the band."""
    book = nth(books, i)
    if not s.has_band or target != book.target or target == 0:
        return False
    for slot in (EXIT, ENTRY, NEW_EXIT, NEW_ENTRY):
        if order_of(orders, i, slot).works:
            return False
    equity = own_equity(a, books)
    if not book.has_mark or equity <= 0:
        return False
    if s.grid:
        book.asked_row = a.moment
    wanted = wanted_exposure(s, book, places, i, target, equity)
    return abs(book.quantity * book.mark / equity - wanted) > s.band  # false for NaN


@compiled
def wanted_exposure(s: Any, book: Any, places: Any, i: int, target: float, equity: float) -> float:
    """`wanted_exposure`, NaN when it cannot be known."""
    wanted = target * s.fraction
    if s.method == QUANTITY:
        wanted = target * s.units * book.mark / equity
    elif s.method == VALUE:
        wanted = target * s.amount / equity
    elif s.method == VOLATILITY:
        found = volatility_of(book, places, i, s.volatility_window)
        if np.isnan(found) or found == 0:
            return np.nan
        wanted = target * min(1.0, s.annual_volatility / found)
    if not s.margin:
        return max(0.0, min(wanted, 1.0))
    return max(-s.leverage, min(wanted, s.leverage))
