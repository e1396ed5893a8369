"""What pictures of a run are drawn from: months, rolling ratios, falls, bins. Plain numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]

DAY: Final = 86_400
ROLLING: Final = 90
"""Days a rolling ratio looks back."""


@dataclass(frozen=True, slots=True)
class Days:
    """One level a trading day (days since 1970): equity from the day before the first on, and what it is compared with.

    `equity` and `hold` have one more row than `number`: the starting capital. `hold` may be empty.
    """

    number: Column
    equity: Column
    hold: Column

    def __len__(self) -> int:
        return len(self.number)

    @classmethod
    def of(cls, number: Column, equity: Column, hold: Column, capital: float) -> Days:
        start = np.array([capital])
        return cls(
            number,
            np.concatenate([start, equity]),
            np.concatenate([start, hold]) if len(hold) else hold,
        )

    @property
    def times(self) -> Column:
        """Seconds at the end of each day, and the start of the first."""
        return np.concatenate([self.number[:1] * DAY, (self.number + 1) * DAY])

    @property
    def returns(self) -> Column:
        return np.asarray(self.equity[1:] / self.equity[:-1] - 1)


def drawdowns(levels: Column) -> Column:
    """How far below its highest so far, as fractions of that, zero or less."""
    return np.asarray(levels / np.maximum.accumulate(levels) - 1)


def rolling_sharpe(returns: Column, days_per_year: int, window: int = ROLLING) -> Column:
    """The annualised ratio of the last `window` daily returns, at each day from the window's last on; NaN where they do not vary."""
    if len(returns) < window:
        return np.zeros(0)
    views = np.lib.stride_tricks.sliding_window_view(returns, window)
    deviation = views.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = views.mean(axis=1) / deviation * math.sqrt(days_per_year)
    return np.where(deviation < 1e-12, np.nan, ratio)


# Months -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Month:
    """The return of one month; `level` -4 to 4 by its size among the others."""

    value: float
    level: int


@dataclass(frozen=True, slots=True)
class Year:
    """Twelve months, None where the run was not running, and all of them together."""

    year: int
    months: list[Month | None]
    value: float


def years(times: Column, levels: Column) -> list[Year]:
    """Returns month by month in UTC (times in seconds), from the last level of the month before.

    A level at midnight belongs to the day it ends.
    """
    if len(times) < 2:
        return []
    stamps = (times * 1000).astype("datetime64[ms]")
    months = (stamps - np.timedelta64(1, "ms")).astype("datetime64[M]").astype(int)
    months[0] = max(months[0], int(stamps[0].astype("datetime64[M]").astype(int)))
    last = np.flatnonzero(np.concatenate([months[1:] != months[:-1], [True]]))
    ends = levels[last]
    starts = np.concatenate([levels[:1], ends[:-1]])
    found = dict(zip(months[last].tolist(), (ends / starts - 1).tolist(), strict=True))
    largest = max(map(abs, found.values())) or 1.0
    first_year, last_year = 1970 + min(found) // 12, 1970 + max(found) // 12
    return [_year(year, found, largest) for year in range(first_year, last_year + 1)]


def _year(year: int, returns: dict[int, float], largest: float) -> Year:
    months: list[Month | None] = []
    grown = 1.0
    for month in range((year - 1970) * 12, (year - 1970) * 12 + 12):
        value = returns.get(month)
        if value is None:
            months.append(None)
            continue
        grown *= 1 + value
        level = min(4, int(abs(value) / largest * 4 + 0.999)) * (1 if value > 0 else -1)
        months.append(Month(value, level if abs(value) > 1e-9 else 0))
    return Year(year, months, grown - 1)


# Falls ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fall:
    """One drawdown of daily levels: days since 1970, `back` None if it has not recovered; `depth` is above 0."""

    peak: int
    low: int
    back: int | None
    depth: float


def worst_falls(days: Days, most: int = 5) -> list[Fall]:
    """The deepest ones, deepest first. Each runs from a peak to being back at it."""
    depth = -drawdowns(days.equity)
    below = depth > 1e-12
    edges = np.flatnonzero(np.diff(np.concatenate([[False], below, [False]]).astype(np.int8)))
    number = np.concatenate([days.number[:1] - 1, days.number])
    found = []
    for first, after in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        low = first + int(np.argmax(depth[first:after]))
        back = int(number[after]) if after < len(number) else None
        found.append(Fall(int(number[first - 1]), int(number[low]), back, float(depth[low])))
    return sorted(found, key=lambda fall: -fall.depth)[:most]


# Bins -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bin:
    """How many values lie in [low, high). The outermost bins are open to the outside."""

    low: float
    high: float
    count: int


def bins(values: Column, wanted: int = 24, fewest: int = 5) -> list[Bin]:
    """Bins of one width with an edge at zero; none for fewer values than `fewest`."""
    if len(values) < fewest:
        return []
    # One wild value must not flatten all others.
    low, high = np.quantile(values, (0.01, 0.99)).tolist()
    width = (max(high, 0.0) - min(low, 0.0)) / wanted or 0.001
    first, last = int(np.floor(min(low, 0.0) / width)), int(np.ceil(max(high, 0.0) / width))
    places = np.clip(np.floor(values / width).astype(int), first, max(first, last - 1))
    counts = np.bincount(places - first, minlength=max(1, last - first))
    return [
        Bin((first + place) * width, (first + place + 1) * width, int(count))
        for place, count in enumerate(counts.tolist())
    ]


# Fewer points -----------------------------------------------------------------------------------


def extremes(values: Column, points: int) -> npt.NDArray[np.intp]:
    """Rows to show of a long column: first, last, and each stretch's lowest and highest, in order."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    stretches = max(1, (points - 2) // 2)
    edges = np.linspace(0, count, stretches + 1).astype(np.intp)
    rows = {0, count - 1}
    for first, after in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        stretch = values[first:after]
        rows.add(first + int(np.argmin(stretch)))
        rows.add(first + int(np.argmax(stretch)))
    return np.array(sorted(rows), dtype=np.intp)


def means(values: Column, points: int) -> tuple[Column, npt.NDArray[np.intp]]:
    """(means, last rows) of `points` stretches of a long column; of a short one, itself."""
    if len(values) <= points:
        return values, np.arange(len(values))
    edges = np.linspace(0, len(values), points + 1).astype(np.intp)
    return np.add.reduceat(values, edges[:-1]) / np.diff(edges), edges[1:] - 1


def outstanding(size: Column, most: int) -> npt.NDArray[np.intp]:
    """Rows to show of many points: half of them the largest by `size`, the others spread evenly; in order."""
    count = len(size)
    if count <= most:
        return np.arange(count)
    largest = np.argpartition(size, count - most // 2)[-(most // 2) :]
    spread = np.linspace(0, count - 1, most - len(largest)).astype(np.intp)
    return np.union1d(largest, spread)
