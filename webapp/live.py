"""What Redis says right now: heartbeats and quotes. Silence is an answer: everything may be missing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import redis
from flask import Flask, current_app, g
from redis.exceptions import RedisError

from shared import bus
from shared.db.market import InstrumentRow
from webapp.formats import instant

ENGINE: Final = "engine:main"
BEAT_SECONDS: Final = 3


def connect(app: Flask, url: str) -> None:
    app.extensions["seraphim-redis"] = bus.connect(url)


def beat(app: Flask) -> None:
    """Say that this console lives, at most every few seconds, while anybody uses it."""
    last = 0.0

    def say() -> None:
        nonlocal last
        if time.monotonic() - last < BEAT_SECONDS:
            return
        last = time.monotonic()
        with contextlib.suppress(RedisError):
            bus.beat(client(), f"web:{os.getpid()}", at=now().isoformat())

    app.before_request(say)


def client() -> redis.Redis:
    return cast("redis.Redis", current_app.extensions["seraphim-redis"])


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """Who lives, as of this request. `answers` is False when Redis itself does not."""

    answers: bool
    by_process: dict[str, dict[str, Any]]

    @property
    def engine(self) -> dict[str, Any] | None:
        """What the engine said last, or None when it is silent."""
        trading = [
            beat
            for process, beat in self.by_process.items()
            if process.startswith("engine:") and beat.get("state") != "standby"
        ]
        return self.by_process.get(ENGINE) or (trading[0] if trading else None)

    def account(self, account_id: int) -> dict[str, Any]:
        """{"market_time", "feed_at", "speed"} of one account, or {}."""
        accounts = (self.engine or {}).get("accounts", {})
        return cast("dict[str, Any]", accounts.get(str(account_id), {}))


def heartbeats() -> Heartbeats:
    """Read once a request: the frame and the page see the same."""
    if "heartbeats" not in g:
        try:
            g.heartbeats = Heartbeats(answers=True, by_process=dict(bus.heartbeats(client())))
        except RedisError:
            g.heartbeats = Heartbeats(answers=False, by_process={})
    return cast(Heartbeats, g.heartbeats)


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask and last price; `at` in the market's time."""

    bid: float | None
    ask: float | None
    last: float | None
    at: datetime | None
    received_at: datetime | None

    @property
    def mark(self) -> float | None:
        """The price we would value at: the last, or the middle of bid and ask."""
        if self.last is not None:
            return self.last
        if self.bid is not None and self.ask is not None:
            return (self.bid + self.ask) / 2
        return None


def quotes(instruments: Iterable[InstrumentRow]) -> dict[int, Quote]:
    """The newest quote of each instrument that has one; {} when Redis does not answer."""
    wanted = list(instruments)
    if not wanted or not heartbeats().answers:
        return {}
    found: dict[int, Quote] = {}
    try:
        for instrument in wanted:
            raw = bus.newest_quote(client(), instrument.venue, instrument.symbol)
            if raw:
                found[instrument.id] = _quote(raw)
    except RedisError:
        return {}
    return found


def _quote(raw: dict[str, Any]) -> Quote:
    return Quote(
        bid=_number(raw.get("bid")),
        ask=_number(raw.get("ask")),
        last=_number(raw.get("last")),
        at=instant(raw.get("at")),
        received_at=instant(raw.get("received_at")),
    )


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


def now() -> datetime:
    return datetime.now(UTC)
