"""Stored bars through the live engine, at any speed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

import numpy as np

from engine.bars import SECOND, Bars, instant, nanoseconds
from shared.domain.market import Bar, Closed, MarketEvent

LONGEST_WAIT: Final = 2.0
"""Machine seconds between two moments at most: nights and week-ends are not waited for."""


class HistoryFeed:
    """Bars by closing time: one batch a moment, all bars that close then and `Closed`; ends with them.

    `series` is keyed by (instrument id, interval). `speed` is market seconds a machine second; 0 is
    as fast as it is consumed. Bars that closed at or before `starts_after` are skipped.
    """

    def __init__(
        self,
        series: Mapping[tuple[int, int], Bars],
        speed: float = 0,
        starts_after: datetime | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if speed < 0:
            raise ValueError(f"history feed speed {speed}: give 0 (as fast as it goes) or more")
        after = nanoseconds(starts_after) if starts_after else None
        self._series = [_after(series[key], after) for key in sorted(series)]
        self._speed = speed
        self._now = now
        self._sleep = sleep

    async def events(self) -> AsyncIterator[list[MarketEvent]]:
        """One batch a moment, until there are no more bars."""
        due, before = self._now(), None
        for closed_at, bars in self.moments():
            # Whoever fell behind goes on from where he is: nothing rushes to catch up.
            due = max(self._now(), due + self._wait(before, closed_at))
            await self._sleep(max(0.0, due - self._now()))
            before = closed_at
            yield [*bars, Closed(instant(closed_at))]

    def moments(self) -> Iterator[tuple[int, list[Bar]]]:
        """(closing time in ns, the bars that close then by instrument and interval), in time order."""
        if not self._series:
            return
        rows = [0] * len(self._series)
        for closed_at in np.unique(
            np.concatenate([bars.closed_at for bars in self._series])
        ).tolist():
            closing = []
            for place, bars in enumerate(self._series):
                row = rows[place]
                if row < len(bars) and bars.closed_at[row] == closed_at:
                    closing.append(bars.bar(row))
                    rows[place] = row + 1
            yield closed_at, closing

    def _wait(self, before: int | None, closed_at: int) -> float:
        if before is None or self._speed == 0:
            return 0.0
        return min((closed_at - before) / SECOND / self._speed, LONGEST_WAIT)


def _after(bars: Bars, at: int | None) -> Bars:
    return bars if at is None else bars[int(np.searchsorted(bars.closed_at, at, side="right")) :]
