"""Ends an engine whose loop stalls, and names the strategy in hand, so that a restart is not stalled again."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger()

STALL_SECONDS: Final = 10.0
EXIT_STALLED: Final = 70


class Watchdog(threading.Thread):
    """`in_hand()` names the strategy whose code the loop runs now, `opening()` the one that starts again
    beside it; `quarantine(id)` keeps it from starting again."""

    def __init__(
        self,
        in_hand: Callable[[], int | None],
        opening: Callable[[], int | None],
        quarantine: Callable[[int], None],
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._in_hand = in_hand
        self._opening = opening
        self._quarantine = quarantine
        self._stall = stall_seconds
        self._beat = time.monotonic()
        self._ended = threading.Event()

    async def pat(self) -> None:
        """Run in the loop that is watched."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(min(0.5, self._stall / 4))

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        opening, since = None, time.monotonic()
        while not self._ended.wait(self._stall / 10):
            now = time.monotonic()
            if (found := self._opening()) != opening:
                opening, since = found, now
            loop_stalls = now - self._beat >= self._stall
            if not loop_stalls and (opening is None or now - since < self._stall):
                continue
            strategy_id = self._in_hand() if loop_stalls else opening
            log.critical("engine.stalled", seconds=self._stall, strategy=strategy_id)
            try:
                if strategy_id is not None:
                    self._quarantine(strategy_id)
            except Exception as error:  # the database may be away; the engine must end all the same
                log.error("engine.not_quarantined", strategy=strategy_id, error=str(error)[:200])
            finally:
                os._exit(EXIT_STALLED)
