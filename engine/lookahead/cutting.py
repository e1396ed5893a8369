"""Bars with the future taken away: cut off, shuffled, or hidden behind other bars.

Everything here is a copy. A slice would keep the whole array in its `base`, where code finds it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.bars import Bars, Instants

Rows = npt.NDArray[np.intp]

MARKET: Final = ("open", "high", "low", "close", "volume", "filled")
"""What a bar says; its times are known beforehand."""
COLUMNS: Final = ("opened_at", "closed_at", *MARKET)


def copied(bars: Bars, rows: slice | Rows) -> Bars:
    """Some of the rows in arrays of their own."""
    columns = (np.array(getattr(bars, name)[rows]) for name in COLUMNS)
    return Bars(bars.instrument_id, bars.interval, *columns)


def known(bars: Bars, now: int) -> int:
    """How many of the bars have closed at `now` (nanoseconds)."""
    return int(np.searchsorted(bars.closed_at, now, side="right"))


def cut(bars: Mapping[str, Bars], now: int, only: Sequence[str] = ()) -> dict[str, Bars]:
    """Every input up to `now`; with `only`, the others stay whole."""
    return {
        key: copied(b, slice(0, known(b, now) if not only or key in only else len(b)))
        for key, b in bars.items()
    }


def newest(bars: Mapping[str, Bars], now: int, rows: int) -> dict[str, Bars]:
    """The last `rows` bars of each input at `now`: what is kept when live."""
    found = {}
    for key, b in bars.items():
        end = known(b, now)
        found[key] = copied(b, slice(max(0, end - rows), end))
    return found


def between(bars: Mapping[str, Bars], first: int, last: int) -> dict[str, Bars]:
    """Every input from the opening `first` to the closing `last` (nanoseconds)."""
    return {
        key: copied(b, slice(int(np.searchsorted(b.opened_at, first)), known(b, last)))
        for key, b in bars.items()
    }


def shuffled(bars: Mapping[str, Bars], now: int, seed: int) -> dict[str, Bars]:
    """What follows `now` in another order, at another level and with other volumes; times stay.

    The level is far below the true one for even seeds, far above it for odd ones.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    level = float(random.uniform(1.4, 1.7) if seed % 2 else random.uniform(0.6, 0.8))
    return {key: _shuffled(b, known(b, now), random, level) for key, b in bars.items()}


def _shuffled(bars: Bars, first: int, random: np.random.Generator, level: float) -> Bars:
    order = np.concatenate((np.arange(first), first + random.permutation(len(bars) - first)))
    columns = {name: getattr(bars, name)[order] for name in MARKET}
    for name in ("open", "high", "low", "close"):
        columns[name][first:] *= level
    columns["volume"][first:] *= 1 + level
    return Bars(
        bars.instrument_id,
        bars.interval,
        bars.opened_at.copy(),
        bars.closed_at.copy(),
        *columns.values(),
    )


# Many bars at once ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spliced:
    """Short histories put one after the other: what follows each is not what followed in truth.

    `rows[i]` is the row in `bars` at which the history that ends with the clock's row `ends[i]` ends.
    """

    bars: dict[str, Bars]
    rows: Rows
    ends: Rows


def share_a_clock(bars: Mapping[str, Bars]) -> bool:
    """Whether all inputs close at the same moments."""
    first, *others = bars.values()
    return all(np.array_equal(first.closed_at, other.closed_at) for other in others)


def apart(ends: Rows, length: int) -> Iterator[Rows]:
    """The rows, ascending, in few groups, within which any two are at least `length` apart."""
    left = ends
    while len(left):
        rows, taken, place = left.tolist(), np.zeros(len(left), bool), 0
        while place < len(rows):
            taken[place] = True
            place = bisect_left(rows, rows[place] + length, place)
        yield left[taken]
        left = left[~taken]


def spliced(bars: Mapping[str, Bars], ends: Rows, length: int) -> Spliced:
    """The `length` bars up to each of `ends`, which lie that far apart; inputs share a clock."""
    starts = np.maximum(ends - length + 1, 0)
    lengths = ends - starts + 1
    closing = np.cumsum(lengths) - 1
    rows = np.repeat(ends - closing, lengths) + np.arange(int(lengths.sum()))
    return Spliced({key: copied(b, rows) for key, b in bars.items()}, closing, ends)


# One bar at a time ----------------------------------------------------------------------------


class Revealed:
    """Bars whose future holds other bars until their time comes; the arrays stay the same ones."""

    def __init__(self, bars: Mapping[str, Bars], clock: str, seed: int) -> None:
        before = int(bars[clock].opened_at[0]) - 1
        self.bars = shuffled(bars, before, seed)
        self._truth = bars
        self._closings: Instants = bars[clock].closed_at
        self._shown = dict.fromkeys(bars, 0)

    def show(self, row: int) -> None:
        """Put in what has closed at the clock's row."""
        now = int(self._closings[row])
        for key, truth in self._truth.items():
            first = self._shown[key]
            closed = truth.closed_at
            last = first
            while last < len(closed) and closed[last] <= now:
                last += 1
            if last > first:
                reveal(self.bars[key], truth, first, last)
                self._shown[key] = last


def reveal(hidden: Any, truth: Any, first: int, last: int) -> None:
    for name in MARKET:
        getattr(hidden, name)[first:last] = getattr(truth, name)[first:last]
