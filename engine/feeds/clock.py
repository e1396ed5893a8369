"""A market clock: market time that runs at its own speed beside machine time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta


class MarketClock:
    """`speed` market seconds pass in one machine second, counted from `market_anchor` on.

    1 is life; more is a simulated market that runs faster, labelled so wherever it is shown.
    `now` gives machine seconds; only differences of it count.
    """

    def __init__(
        self,
        speed: float,
        market_anchor: datetime,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"market clock speed {speed}: give more than 0")
        self.speed = speed
        self._machine_now = now
        self._sleep = sleep
        self.reset(market_anchor)

    def now(self) -> datetime:
        """Market time."""
        passed = (self._machine_now() - self._machine_anchor) * self.speed
        return self._market_anchor + timedelta(seconds=passed)

    def reset(self, market_time: datetime) -> None:
        """It is `market_time` now: after a restart, or after falling behind."""
        self._market_anchor = market_time
        self._machine_anchor = self._machine_now()

    def behind(self, market_time: datetime) -> float:
        """Machine seconds since it was `market_time`; negative while that is still to come."""
        return (self.now() - market_time).total_seconds() / self.speed

    async def sleep_until(self, market_time: datetime) -> None:
        """Wait until it is `market_time`. Other tasks get a turn even when it is already past."""
        await self._sleep(max(0.0, -self.behind(market_time)))
        while (left := -self.behind(market_time)) > 0:
            await self._sleep(left)
