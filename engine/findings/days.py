"""How many bars there are of each day, and how many there should be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.bars import DAY, SECOND, Bars, instant, nanoseconds
from shared.domain.sessions import is_trading_day, trading_spans


@dataclass(frozen=True, slots=True)
class Days:
    """Bars a UTC day and how many the calendar has room for, from `first` (days since 1970) on."""

    first: int
    bars: npt.NDArray[np.uint32]
    expected: npt.NDArray[np.uint32]


def days(bars: Bars, calendar: str) -> Days:
    """Counted and expected between the first bar's opening and the last one's closing.

    A bar of more than a day counts once in each day it spans.
    """
    if not len(bars):
        return Days(0, np.zeros(0, np.uint32), np.zeros(0, np.uint32))
    length = bars.interval * SECOND
    if length > DAY:
        return _long_days(bars)
    at = bars.opened_at if length < DAY else (bars.opened_at + bars.closed_at) // 2
    number = at // DAY
    first, last = int(number[0]), int(number[-1])
    counted = np.bincount(number - first, minlength=last - first + 1).astype(np.uint32)
    starts, ends = int(bars.opened_at[0]), int(bars.closed_at[-1])
    expected = [
        _expected(day, calendar, bars.interval, starts, ends) for day in range(first, last + 1)
    ]
    return Days(first, counted, np.array(expected, dtype=np.uint32))


def _expected(day: int, calendar: str, interval: int, starts: int, ends: int) -> int:
    when = instant(day * DAY).date()
    if interval * SECOND >= DAY:
        return int(is_trading_day(calendar, when))
    seconds = sum(
        max(0, min(nanoseconds(closes), ends) - max(nanoseconds(opens), starts)) / SECOND
        for opens, closes in trading_spans(calendar, when)
    )
    return math.ceil(seconds / interval)


def _long_days(bars: Bars) -> Days:
    first = int(bars.opened_at[0] // DAY)
    last = int((bars.closed_at[-1] - 1) // DAY)
    counted = np.zeros(last - first + 1, np.uint32)
    for opened, closed in zip(bars.opened_at, bars.closed_at, strict=True):
        counted[int(opened // DAY) - first : int((closed - 1) // DAY) - first + 1] = 1
    return Days(first, counted, np.ones(len(counted), np.uint32))
