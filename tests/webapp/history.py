"""Stored bars and real runs for the pages of Research, Data, Jobs and Replays: jobs are done in this process."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine import catalogue
from engine.history import NewBar, add_bars, series_of
from engine.jobs import perform
from shared.db.backtests import JobRow
from shared.db.market import InstrumentRow
from shared.db.sessions import make_sessions
from shared.settings import Settings

DAY = timedelta(days=1)
FIRST = datetime(2020, 1, 6, 14, 30, tzinfo=UTC)
"""A Monday, 09:30 in New York."""

SPLIT_AT = 200
"""The bar of ACME from which its raw price is halved and its adjusted one is not."""


@dataclass(frozen=True)
class Stocks:
    """ACME: 300 weekdays with a split; TINY: 90 minutes with a quiet stretch and, after a day, more."""

    acme: InstrumentRow
    acme_series: int
    tiny: InstrumentRow
    tiny_series: int


def some_stocks(rows: Session, settings: Settings) -> Stocks:
    """Two instruments of venue `replay` with bars, and the catalogue as the engine leaves it."""
    catalogue.sync(rows.connection(), settings.strategies_folder)
    acme = InstrumentRow(
        venue="replay", symbol="ACME", name="ACME", asset_class="stock", base_asset="ACME",
        quote_asset="USD", calendar="XNYS", tick_size=None,
    )  # fmt: skip
    tiny = InstrumentRow(
        venue="replay", symbol="TINY/USD", name="TINY/USD", asset_class="crypto", base_asset="TINY",
        quote_asset="USD", calendar="24/7",
    )  # fmt: skip
    rows.add_all([acme, tiny])
    rows.flush()
    acme_series = series_of(rows.connection(), acme.id, "sample", 86_400)
    tiny_series = series_of(rows.connection(), tiny.id, "import", 60)
    add_bars(rows.connection(), acme_series, acme_bars())
    add_bars(rows.connection(), tiny_series, tiny_bars())
    rows.commit()
    return Stocks(acme, acme_series, tiny, tiny_series)


def acme_bars(count: int = 300) -> list[NewBar]:
    """A wave on a slope, so that averages cross often."""
    bars = []
    day = FIRST
    for number in range(count):
        price = 100 + number / 10 + 12 * math.sin(number / 9)
        raw = price / (2 if number >= SPLIT_AT else 1)
        high, low = raw * 1.01, raw * 0.99
        bars.append(
            NewBar(
                day, day + timedelta(hours=6, minutes=30), f"{raw:.2f}", f"{high:.2f}", f"{low:.2f}",
                f"{raw * 1.002:.2f}", "5000000", f"{price * 1.002:.2f}",
            )
        )  # fmt: skip
        day += DAY if day.weekday() < 4 else 3 * DAY
    return bars


def tiny_bars() -> list[NewBar]:
    minutes = [*range(30), *range(36, 60), *range(60 + 2_000, 60 + 2_030)]
    start = datetime(2024, 3, 1, tzinfo=UTC)
    return [
        NewBar(
            start + timedelta(minutes=m),
            start + timedelta(minutes=m + 1),
            "10",
            "11",
            "9.5",
            "10.5",
            "3",
        )
        for m in minutes
    ]


@contextmanager
def _sessions(settings: Settings):
    sessions = make_sessions(settings.database_url or "")
    try:
        yield sessions
    finally:
        sessions.kw["bind"].dispose()


def do_job(settings: Settings, job_id: UUID, attempt: int = 1) -> None:
    """What a worker would do."""
    with _sessions(settings) as sessions:
        perform(sessions, None, settings, job_id, attempt, worker="this test")


def newest_job(rows: Session, kind: str) -> JobRow:
    rows.rollback()
    query = sa.select(JobRow).where(JobRow.kind == kind).order_by(JobRow.created_at.desc()).limit(1)
    return rows.scalars(query).one()
