"""Marked equity over time: what it is made of, one value a trading day, and how far it fell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.backtest.kernels.lanes import LANES, summed
from engine.backtest.rows import rows_after
from engine.bars import DAY, Instants, Prices, instant
from engine.compiled import compiled

Days = npt.NDArray[np.int64]

_NO_TIMES: Final[Instants] = np.zeros(0, dtype=np.int64)
_NO_AMOUNTS: Final[Prices] = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Curve:
    """Marked equity of a run that began with `capital` at `started_at` (ns).

    times         int64[marks]    nanoseconds, rising
    equity        float64[marks]  quote units, after each moment
    exposure      float64[marks]  value held as a fraction of equity (signed), or just 0 and 1
    flow_times    int64[flows]    when money came (amount above 0) or went, rising, after the start;
    flow_amounts  float64[flows]  a mark at that time or later has it in its equity
    """

    started_at: int
    capital: float
    times: Instants
    equity: Prices
    exposure: Prices
    flow_times: Instants = field(default_factory=lambda: _NO_TIMES)
    flow_amounts: Prices = field(default_factory=lambda: _NO_AMOUNTS)

    def __post_init__(self) -> None:
        if not self.capital > 0:
            raise ValueError(f"starting capital {self.capital}: it must be more than 0")
        if not len(self.times) == len(self.equity) == len(self.exposure):
            raise ValueError("times, equity and exposure differ in length")
        if len(self.flow_times) != len(self.flow_amounts):
            raise ValueError("flow_times and flow_amounts differ in length")

    @property
    def flows(self) -> float:
        """All money that came, less all that went."""
        return float(self.flow_amounts.sum())

    def without_flows(self) -> Curve:
        """The same returns on the starting capital alone: units are bought and sold at their worth before a flow.

        A flow that meets nothing left (equity at zero or below) makes the whole unknown: NaN from there on.
        """
        if not len(self.flow_times):
            return self
        units = np.ones(len(self.equity))
        owned = 1.0
        rows = np.searchsorted(self.times, self.flow_times, side="left")
        for row, amount in zip(rows.tolist(), self.flow_amounts.tolist(), strict=True):
            before = float(self.equity[row - 1]) if row else self.capital
            one = before / owned
            owned = owned + amount / one if one > 0 else np.nan
            units[row:] = owned
        return Curve(self.started_at, self.capital, self.times, self.equity / units, self.exposure)


def known(curve: Curve) -> Curve:
    """The curve, if every mark of it is a number; ValueError says where the first is not."""
    unknown = np.flatnonzero(~(np.isfinite(curve.equity) & np.isfinite(curve.exposure)))
    if len(unknown):
        at = instant(curve.times[unknown[0]])
        raise ValueError(f"equity or exposure is unknown at {at} and {len(unknown) - 1} more marks")
    return curve


# Days -------------------------------------------------------------------------------------------


def daily_rows(curve: Curve, calendar: str) -> tuple[Days, npt.NDArray[np.intp]]:
    """(day number since 1970, row of that day's last mark or -1 before the first), one a trading day.

    A mark at midnight belongs to the day it ends. A market that never closes has a row for every
    day since the start, a day without a mark carrying the one before; currencies have one for
    every weekday, the week-end's marks counting to Monday; an exchange has one for each day with a mark.
    """
    times = curve.times
    if not len(times):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.intp)
    first, last = int(times[0] - 1) // DAY, int(times[-1] - 1) // DAY
    if calendar == "24/5":
        first, last = weekday(first), weekday(last)
    if calendar != "XNYS":
        first = min(first, curve.started_at // DAY)
    days = np.arange(first, last + 1)
    if calendar == "24/5":
        days = days[(days + 3) % 7 < 5]
    rows = rows_after(times, (days + 1) * DAY) - 1
    if calendar == "XNYS":
        is_marked = np.concatenate([[True], rows[1:] != rows[:-1]])
        days, rows = days[is_marked], rows[is_marked]
    return days, rows


def daily_equity(curve: Curve, calendar: str) -> tuple[Days, Prices]:
    """(day number since 1970, last mark of that UTC day or of one before), one row a trading day."""
    days, rows = daily_rows(curve, calendar)
    if not len(rows):
        return days, np.zeros(0)
    return days, np.where(rows < 0, curve.capital, curve.equity[rows])


def weekday(day: int) -> int:
    """A Saturday or Sunday as the Monday after it. Day 0 was a Thursday."""
    of_week = (day + 3) % 7  # 0 is Monday
    return day + (7 - of_week if of_week >= 5 else 0)


# Falls ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Walk:
    """What one look at every mark finds. Rows are of the curve; -1 is its start.

    peak, low        rows of the deepest fall in percent, and `back`, the first mark at the peak again (-2: never)
    deepest, costliest  the largest fall, as a fraction of its peak and in money
    under_water      marks below the highest so far
    longest          nanoseconds of the longest stretch from a peak to being back there, or to the end
    held             marks after which anything was held
    exposure, most_exposed  mean and largest of |exposure|
    mean_equity      mean over marks
    """

    peak: int
    low: int
    back: int
    deepest: float
    costliest: float
    under_water: int
    longest: int
    held: int
    exposure: float
    most_exposed: float
    mean_equity: float
    is_known: bool


def walk(curve: Curve) -> Walk:
    """At least one mark."""
    return Walk(
        *_walk(
            curve.times,
            np.ascontiguousarray(curve.equity),  # read by address
            np.ascontiguousarray(curve.exposure),
            curve.started_at,
            curve.capital,
        ),
    )


_BLOCK: Final = 512


@compiled
def _walk(
    times: Instants, equity: Prices, exposure: Prices, started_at: int, capital: float
) -> tuple[int, int, int, float, float, int, int, int, float, float, float, bool]:
    """The fields of `Walk`. Only blocks with a new top are walked through mark by mark."""
    top, top_row, lowest = capital, -1, capital
    peak, low, back, deepest, costliest = -1, -1, -2, 0.0, 0.0
    under_water, longest, held = 0, 0, 0.0
    exposed, most_exposed, total = 0.0, 0.0, 0.0
    count = len(equity)
    for first in range(0, count, _BLOCK):
        after = min(first + _BLOCK, count)
        worths, least, most, sizes, largest, held_here = _of_block(equity, exposure, first, after)
        total += worths
        exposed += sizes
        most_exposed = max(most_exposed, largest)
        held += held_here
        if most < top:
            under_water += after - first
            if least < lowest:
                lowest = least
                costliest = max(costliest, top - least)
                if 1 - least / top > deepest:
                    deepest, peak, back = 1 - least / top, top_row, -2
                    low = first
                    while equity[low] != least:
                        low += 1
            continue
        for i in range(first, after):
            worth = equity[i]
            if worth >= top:
                if lowest < top:
                    begun = times[top_row] if top_row >= 0 else started_at
                    longest = max(longest, times[i] - begun)
                    if back == -2 and peak == top_row:
                        back = i
                top, top_row, lowest = worth, i, worth
                continue
            under_water += 1
            if worth < lowest:
                lowest = worth
                costliest = max(costliest, top - worth)
                if 1 - worth / top > deepest:
                    deepest, peak, low, back = 1 - worth / top, top_row, i, -2
    if lowest < top:
        longest = max(longest, times[-1] - (times[top_row] if top_row >= 0 else started_at))
    is_known = np.isfinite(total) and np.isfinite(exposed)
    falls = (peak, low, back, deepest, costliest, under_water, longest)
    return (*falls, int(held), exposed / count, most_exposed, total / count, is_known)


@compiled
def _of_block(
    equity: Prices, exposure: Prices, first: int, after: int
) -> tuple[float, float, float, float, float, float]:
    """What `lanes.summed` says of these rows."""
    blocks = (after - first) // LANES
    worths, least, most, sizes, largest, held = summed(
        equity.ctypes.data + 8 * first, exposure.ctypes.data + 8 * first, blocks
    )
    for i in range(first + blocks * LANES, after):
        worths += equity[i]
        least, most = min(least, equity[i]), max(most, equity[i])
        size = abs(exposure[i])
        sizes += size
        largest = max(largest, size)
        held += size != 0
    return worths, least, most, sizes, largest, held
