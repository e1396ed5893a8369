"""Trades made into bars of fixed intervals, exactly. An interval without a trade makes no bar."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from engine.importing.columns import MICROSECOND, SECOND
from engine.importing.dates import DAY_SECONDS, EPOCH
from engine.importing.tables import Odd
from engine.packing import MOST_DECIMALS, Block, Decimals, Integers

_MOST: Final = 2**62


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades of one symbol in the order of the file, times in microseconds since 1970."""

    at: Integers
    price: Decimals
    volume: Decimals
    backwards: bool = False


def bad_interval(seconds: int, calendar: str) -> str:
    """Why trades cannot be made into bars of this interval, or ""."""
    if DAY_SECONDS % seconds:
        return "trades are made into bars whose length divides a day, such as 1m, 1h or 1d"
    if seconds == DAY_SECONDS and calendar != "24/7":
        return f"daily bars of trades begin at midnight UTC, and the calendar {calendar} has other days"
    return ""


class BarsOfTrades:
    """Takes blocks of trades, gives blocks of bars: all but the newest bar, which may go on.

    A bar that is not over yet is left out, see `unfinished`.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval * SECOND
        self._open: Block | None = None  # the bar at the end, which the next trades may change
        self._backwards = False
        self.unfinished = False

    def take(self, trades: Trades) -> Block | None:
        """The bars that these trades complete."""
        self._backwards = trades.backwards
        parts = _as_bars(trades, self._interval)
        if self._open is not None:
            parts = joined(self._open, parts)
        bars = self._merged(parts)
        self._open = slice_of(bars, slice(len(bars) - 1, None))
        return slice_of(bars, slice(0, len(bars) - 1)) if len(bars) > 1 else None

    def rest(self) -> Block | None:
        """The last bar."""
        last, self._open = self._open, None
        now = (datetime.now(UTC).replace(tzinfo=None) - EPOCH) // MICROSECOND
        if last is not None and int(last.closed_at[0]) > now:
            self.unfinished = True
            return None
        return last

    def _merged(self, parts: Block) -> Block:
        """Neighbours of the same interval as one bar."""
        starts = np.flatnonzero(np.diff(parts.opened_at, prepend=parts.opened_at[0] - 1))
        ends = np.append(starts[1:], len(parts)) - 1
        first, last = (ends, starts) if self._backwards else (starts, ends)
        return Block(
            parts.opened_at[starts],
            parts.closed_at[starts],
            parts.open.take(first),
            _reduced(parts.high, starts, np.maximum),
            _reduced(parts.low, starts, np.minimum),
            parts.close.take(last),
            _summed(parts.volume, starts),
        )


def _as_bars(trades: Trades, interval: int) -> Block:
    opened = trades.at // interval * interval
    price = trades.price
    return Block(opened, opened + interval, price, price, price, price, trades.volume)


def _reduced(prices: Decimals, starts: Integers, which: np.ufunc) -> Decimals:
    decimals = np.maximum.reduceat(prices.decimals, starts)
    return Decimals(which.reduceat(prices.scaled, starts), prices.scale, decimals)


def _summed(volume: Decimals, starts: Integers) -> Decimals:
    if float(volume.scaled.astype(np.float64).sum()) > _MOST:
        raise Odd("volumes of more than 18 digits")
    return _reduced(volume, starts, np.add)


def slice_of(block: Block, rows: slice) -> Block:
    return Block(
        block.opened_at[rows],
        block.closed_at[rows],
        block.open.take(rows),
        block.high.take(rows),
        block.low.take(rows),
        block.close.take(rows),
        block.volume.take(rows),
    )


def joined(first: Block, then: Block) -> Block:
    """Both, on common scales."""
    numbers = [
        _joined(getattr(first, name), getattr(then, name))
        for name in ("open", "high", "low", "close", "volume")
    ]
    return Block(
        np.concatenate([first.opened_at, then.opened_at]),
        np.concatenate([first.closed_at, then.closed_at]),
        *numbers,
    )


def _joined(first: Decimals, then: Decimals) -> Decimals:
    scale = max(first.scale, then.scale)
    return Decimals(
        np.concatenate([_at_scale(first, scale), _at_scale(then, scale)]),
        scale,
        np.concatenate([first.decimals, then.decimals]),
    )


def _at_scale(numbers: Decimals, scale: int) -> Integers:
    factor = 10 ** (scale - numbers.scale)
    if scale > MOST_DECIMALS or (len(numbers) and int(numbers.scaled.max()) > _MOST // factor):
        raise Odd("numbers of more than 18 digits")
    scaled: Integers = numbers.scaled * factor
    return scaled
