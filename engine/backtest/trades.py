"""Round trips: fills as trades from flat to flat, one instrument at a time, in two compiled passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.backtest.kernels.lanes import call_in_rows, least_and_most
from engine.backtest.results import LEGS, NEVER, OPEN, Fills, Trades
from engine.backtest.rows import rows_after
from engine.bars import Bars, Prices
from engine.compiled import compiled

_DUST: Final = 1e-12
"""Of the largest quantity held: what floats leave over when everything was sold."""

SOON: Final = 3
"""Trades between asking for a trade's prices and looking at them."""

LATEST: Final = int(np.iinfo(np.int64).max)

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
    ends = np.stack((entry_at, np.where(is_open, LATEST, exit_at)), axis=1)
    rows = rows_after(bars.closed_at, ends.ravel()).reshape(-1, 2)
    mae, mfe = _moved(rows, sign, entry_price, worst, best, *_side_by_side(bars.low, bars.high))
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
        bars_held=rows[:, 1] - rows[:, 0],
        mae=mae,
        mfe=mfe,
        exit_reason=np.where(is_open, OPEN, _ENDS[fills.leg[last]]).astype(np.int8),
        tag=fills.tag[first],
        tags=fills.tags,
    )


_ENDS: Final = np.array([_EXIT if leg == _ENTRY else leg for leg in range(len(LEGS))])
"""By the last leg: turning round is leaving by the strategy's own wish, though the order was an entry."""


def _side_by_side(*columns: Prices) -> Iterator[Prices]:
    """Columns whose numbers lie one behind the other, for code that reads them by address."""
    return (np.ascontiguousarray(column) for column in columns)


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
                first[count], last[count] = begun, i
                for k in range(8):
                    amounts[k, count] = told[k]
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
        first[count], last[count] = begun, -1
        for k in range(8):
            amounts[k, count] = told[k]
        count += 1
    return first[:count], last[:count], amounts[:, :count]


@compiled
def _moved(
    rows: Rows, sign: npt.NDArray[np.int8], entry_price: Prices, worst: Prices, best: Prices,
    low: Prices, high: Prices,
) -> tuple[Prices, Prices]:  # fmt: skip
    """(MAE, MFE) of each trade, in time order. int64[trades, 2] says the rows it lived through: from, to before."""
    count = len(rows)
    mae, mfe = np.empty(count), np.empty(count)
    lows, highs = low.ctypes.data, high.ctypes.data
    for i in range(count):
        soon = min(i + SOON, count - 1)
        call_in_rows(lows, rows[soon, 0], rows[soon, 1])
        call_in_rows(highs, rows[soon, 0], rows[soon, 1])
        lowest, highest = least_and_most(low, high, rows[i, 0], rows[i, 1])
        below = max(0.0, 1 - min(lowest, worst[i]) / entry_price[i])
        above = max(0.0, max(highest, best[i]) / entry_price[i] - 1)
        mae[i], mfe[i] = (below, above) if sign[i] > 0 else (above, below)
    return mae, mfe
