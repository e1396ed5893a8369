"""Round trips: fills as trades from flat to flat, one instrument at a time, in two compiled passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.backtest.kernels.lanes import call_in_rows, least_and_most
from engine.backtest.results import LEGS, NEVER, OPEN, Fills, Trades
from engine.bars import Bars, Instants, Prices
from engine.compiled import compiled

_DUST: Final = 1e-12
"""Of the largest quantity held: what floats leave over when everything was sold."""

SOON: Final = 3
"""Trades between asking for a trade's prices and looking at them."""

_ENTRY: Final = LEGS.index("entry")
_EXIT: Final = LEGS.index("exit")

Rows = npt.NDArray[np.int64]


def round_trips(fills: Fills, bars: Mapping[int, Bars]) -> Trades:
    """The trades `fills` (in time order) make, by entry time and instrument.

    A fill that turns a position round ends one trade and begins the next, its fee shared by
    quantity. `bars` of each instrument say what open trades are worth, how long trades lasted and
    how far prices went meanwhile: a trade lived through the bars that closed after its entry and
    not after its exit, and through the prices of its exits.
    """
    parts = [_trades_of(own, bars[instrument]) for instrument, own in _by_instrument(fills)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _trades_of(fills, Bars.empty(0, 60))
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Trades)
        if field.name != "tags"
    }
    whole = Trades(**columns, tags=fills.tags)
    return whole[np.argsort(whole.entry_at, kind="stable")]


def _by_instrument(fills: Fills) -> Iterator[tuple[int, Fills]]:
    """Each instrument's fills, instruments by their number."""
    instruments = fills.instrument
    if not len(instruments):
        return
    if (instruments == instruments[0]).all():
        yield int(instruments[0]), fills
        return
    order = np.argsort(instruments, kind="stable")
    found, starts = np.unique(instruments[order], return_index=True)
    for instrument, rows in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        yield instrument, fills[rows]


def _trades_of(fills: Fills, bars: Bars) -> Trades:
    """The trades of one instrument."""
    last_close = float(bars.close[-1]) if len(bars) else np.nan
    first, last, amounts = _parted(fills.side, fills.quantity, fills.price, fills.fee, last_close)
    quantity, entry_price, exit_price, fees, pnl, gained, worst, best = amounts
    entry_at, sign = fills.at[first], fills.side[first]
    is_open = last < 0
    exit_at = np.where(is_open, NEVER, fills.at[last])
    held, mae, mfe = _lived(
        (entry_at, exit_at, sign, entry_price, worst, best), (bars.closed_at, bars.low, bars.high)
    )
    return Trades(
        instrument=fills.instrument[first],
        side=sign,
        quantity=quantity,
        entry_at=entry_at,
        entry_price=entry_price,
        exit_at=exit_at,
        exit_price=exit_price,
        fees=fees,
        pnl=pnl,
        return_fraction=gained,
        bars_held=held,
        mae=mae,
        mfe=mfe,
        exit_reason=np.where(is_open, OPEN, _ENDS[fills.leg[last]]).astype(np.int8),
        tag=fills.tag[first],
        tags=fills.tags,
    )


_ENDS: Final = np.array([_EXIT if leg == _ENTRY else leg for leg in range(len(LEGS))])
"""By the last leg: turning round is leaving by the strategy's own wish, though the order was an entry."""


# Compiled ---------------------------------------------------------------------------------------


@compiled
def _parted(
    side: npt.NDArray[np.int8], quantity: Prices, price: Prices, fee: Prices, last_close: float
) -> tuple[Rows, Rows, npt.NDArray[np.float64]]:
    """(first fill, last fill or -1, amounts) of each trade of one instrument.

    Amounts: quantity, entry and exit price, fees, P&L, return, lowest and highest price of its exits.
    """
    first = np.empty(len(side), dtype=np.int64)
    last = np.empty(len(side), dtype=np.int64)
    amounts = np.empty((8, len(side)))
    count, begun, sign = 0, -1, 0
    entered = left = paid = got = fees = most = worst = best = 0.0
    for i in range(len(side)):
        rest, rest_fee = quantity[i], fee[i]
        if begun >= 0 and side[i] != sign:
            closes, share = rest, rest_fee
            if rest - (entered - left) > _DUST * most:
                closes = entered - left
                share = rest_fee * closes / rest
            left += closes
            got += closes * price[i]
            fees += share
            worst, best = min(worst, price[i]), max(best, price[i])
            rest, rest_fee = rest - closes, rest_fee - share
            if entered - left <= _DUST * most:
                pnl = sign * (got - paid) - fees
                told = (entered, paid / entered, got / left, fees, pnl, pnl / paid, worst, best)
                first[count], last[count], amounts[:, count] = begun, i, told
                count, begun = count + 1, -1
        if rest > 0:
            if begun < 0:
                begun, sign = i, side[i]
                entered = left = paid = got = fees = most = 0.0
                worst, best = np.inf, -np.inf
            entered += rest
            paid += rest * price[i]
            fees += rest_fee
            most = max(most, entered - left)
    if begun >= 0:
        pnl = sign * (got + (entered - left) * last_close - paid) - fees
        told = (entered, paid / entered, np.nan, fees, pnl, pnl / paid, worst, best)
        first[count], last[count], amounts[:, count] = begun, -1, told
        count += 1
    return first[:count], last[:count], amounts[:, :count]


@compiled
def _lived(trades: Any, bars: Any) -> tuple[Rows, Prices, Prices]:
    """(bars held, MAE, MFE) of each trade, in time order; one that ends `NEVER` is held to the end."""
    entry_at, exit_at, sign, entry_price, worst, best = trades
    closed_at, low, high = bars
    count = len(entry_at)
    first, after = _rows_between(closed_at, entry_at, exit_at)
    mae, mfe = np.empty(count), np.empty(count)
    lows, highs = low.ctypes.data, high.ctypes.data
    for i in range(count):
        soon = min(i + SOON, count - 1)
        call_in_rows(lows, first[soon], after[soon])
        call_in_rows(highs, first[soon], after[soon])
        lowest, highest = least_and_most(low, high, first[i], after[i])
        below = max(0.0, 1 - min(lowest, worst[i]) / entry_price[i])
        above = max(0.0, max(highest, best[i]) / entry_price[i] - 1)
        mae[i], mfe[i] = (below, above) if sign[i] > 0 else (above, below)
    return after - first, mae, mfe


@compiled
def _rows_between(closed_at: Instants, entry_at: Instants, exit_at: Instants) -> tuple[Rows, Rows]:
    """(the first row that closes after its entry, the first that closes after its exit) of each trade.

    Where bars follow each other at one rate a row is found at one look, no look waiting for another.
    """
    count = len(closed_at)
    rate = 1.0 / (closed_at[1] - closed_at[0]) if count > 1 else 0.0
    known_row, known_at = 0, closed_at[0] if count else 0
    first, after = np.empty(len(entry_at), np.int64), np.empty(len(entry_at), np.int64)
    row = 0
    for end in range(2 * len(entry_at)):
        at = exit_at[end // 2] if end % 2 else entry_at[end // 2]
        if at == NEVER:
            row = count
        elif row < count and closed_at[row] <= at:
            guess = known_row + 1 + int((at - known_at) * rate + 1e-6)
            if not (row < guess < count and closed_at[guess] > at >= closed_at[guess - 1]):
                guess = row + int(np.searchsorted(closed_at[row:], at, side="right"))
                known_row, known_at = guess - 1, closed_at[guess - 1]
            row = guess
        if end % 2:
            after[end // 2] = row
        else:
            first[end // 2] = row
    return first, after
