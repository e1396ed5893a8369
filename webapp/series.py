"""Stored bars as people choose among them: which instrument, from where, how many, since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import sqlalchemy as sa

from shared.db.lists import PairListRecordRow, PairListRow
from shared.db.market import InstrumentRow, SeriesRow
from shared.domain.market import interval_text
from webapp.db import db

SOURCES: Final = {"import": "imported", "sample": "sample", "simulated": "simulated"}
SPARK_POINTS: Final = 48


@dataclass(frozen=True, slots=True)
class Stored:
    """One series of bars and the instrument they are of."""

    row: SeriesRow
    instrument: InstrumentRow

    @property
    def id(self) -> int:
        return self.row.id

    @property
    def interval(self) -> str:
        return interval_text(self.row.interval)

    @property
    def source(self) -> str:
        return SOURCES.get(self.row.source, self.row.source)

    @property
    def name(self) -> str:
        """AAPL 1d."""
        return f"{self.instrument.symbol} {self.interval}"

    @property
    def label(self) -> str:
        """AAPL · 1d · sample · 3,270 bars, 2000 to 2013: told apart in a list of choices."""
        first, last = self.row.first_opened_at, self.row.last_closed_at
        span = f", {first.year}\N{EN DASH}{last.year}" if first and last else ""
        bars = f"{self.row.bars:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        return f"{self.instrument.symbol} · {self.interval} · {self.source} · {bars} bars{span}"


def stored_series(*conditions: sa.ColumnElement[bool]) -> list[Stored]:
    """Every series that has bars: history first, then simulated ones, by symbol and interval."""
    query = (
        sa.select(SeriesRow, InstrumentRow)
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .where(SeriesRow.bars > 0, *conditions)
        .order_by(SeriesRow.simulated, InstrumentRow.symbol, SeriesRow.interval, SeriesRow.source)
    )
    return [Stored(row, instrument) for row, instrument in db.session.execute(query)]


def stored(series_id: int) -> Stored | None:
    """One series, with bars or without."""
    found = db.session.execute(
        sa.select(SeriesRow, InstrumentRow)
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .where(SeriesRow.id == series_id)
    ).one_or_none()
    return Stored(*found) if found else None


def recorded_lists() -> list[tuple[str, str]]:
    """(id, name with the days it is recorded for) of every pair list a run may be held to."""
    first, last = sa.func.min(PairListRecordRow.day), sa.func.max(PairListRecordRow.day)
    query = (
        sa.select(PairListRow.id, PairListRow.name, first, last)
        .join(PairListRecordRow, PairListRecordRow.list_id == PairListRow.id)
        .where(PairListRow.deleted_at.is_(None))
        .group_by(PairListRow.id)
        .order_by(PairListRow.name)
    )
    return [
        (str(list_id), f"{name} · {since} to {until}")
        for list_id, name, since, until in db.session.execute(query)
    ]


_SPARKS: Final = sa.text(
    """
    SELECT wanted.id, array_agg(found.close::float8 ORDER BY step.n)
    FROM unnest(CAST(:ids AS bigint[])) AS wanted(id)
    JOIN series ON series.id = wanted.id
    CROSS JOIN generate_series(1, :points) AS step(n)
    CROSS JOIN LATERAL (
        SELECT close FROM bars
        WHERE bars.instrument_id = series.instrument_id AND bars.source = series.source
          AND bars.interval = series.interval
          AND bars.opened_at < series.first_opened_at
              + (series.last_closed_at - series.first_opened_at) * (step.n::float8 / :points)
        ORDER BY opened_at DESC, revision DESC LIMIT 1
    ) AS found
    GROUP BY wanted.id
    """
)


def sparks(rows: Sequence[SeriesRow], points: int = SPARK_POINTS) -> dict[int, list[float]]:
    """Closes evenly spread over each whole series, oldest first: look-ups by key, never a scan."""
    ids = [row.id for row in rows if row.bars]
    if not ids:
        return {}
    found = db.session.execute(_SPARKS, {"ids": ids, "points": points})
    return {series_id: list(closes) for series_id, closes in found}


_SPLITS: Final = sa.text(
    """
    SELECT opened_at, was / ratio FROM (
        SELECT opened_at, close / adjusted_close AS ratio,
               lag(close / adjusted_close) OVER (ORDER BY opened_at) AS was
        FROM (
            SELECT DISTINCT ON (opened_at) opened_at, close, adjusted_close FROM bars
            WHERE instrument_id = :instrument AND source = :source AND interval = :interval
              AND opened_at >= :first AND opened_at < :last AND adjusted_close > 0
            ORDER BY opened_at, revision DESC
        ) AS newest
    ) AS ratios
    WHERE was / ratio NOT BETWEEN 1 / :jump AND :jump
    ORDER BY opened_at LIMIT 20
    """
)
JUMP: Final = 1.4
"""A day on which the raw close moves this much more than the adjusted one is told as a likely split."""


@dataclass(frozen=True, slots=True)
class Split:
    """A jump of the raw price that the adjusted one does not make: 2 shares for one when `ratio` is 2."""

    at: datetime
    ratio: float


def likely_splits(one: Stored, first: datetime | None, last: datetime | None) -> list[Split]:
    """Those inside [first, last); none where there is no adjusted close to compare with."""
    if first is None or last is None or one.row.interval < 86_400:
        return []
    key = {
        "instrument": one.row.instrument_id,
        "source": one.row.source,
        "interval": one.row.interval,
    }
    found = db.session.execute(
        _SPLITS, {**key, "first": first, "last": last, "jump": Decimal(str(JUMP))}
    )
    return [Split(at, float(ratio)) for at, ratio in found]
