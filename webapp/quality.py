"""What is known about how good stored bars are: read from what jobs left behind, never worked out here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from shared.db.backtests import JobRow
from shared.db.market import ImportRow, SeriesQualityRow
from shared.jobs import FINDINGS
from webapp.db import db
from webapp.series import Stored

TITLES: Final = {
    "gaps": "Gaps",
    "duplicates": "Duplicates",
    "outliers": "Outliers",
    "splits": "Likely splits",
    "flat": "Flat stretches",
    "off_tick": "Off the tick",
    "zero_volume": "Without volume",
}
EXPLAINED: Final = {
    "gaps": "The calendar trades and there is no bar, for longer than what is filled as quiet.",
    "duplicates": "Bars that begin inside the one before, or are the one before over again.",
    "outliers": "Closes that leap and come back within three bars, and wicks nobody else reached.",
    "splits": "Jumps near a simple ratio that stay, or that the adjusted close does not make.",
    "flat": "Long stretches at one price.",
    "off_tick": "Prices that are no multiple of the tick of the instrument.",
    "zero_volume": "Stored bars in which nothing traded. Quiet intervals are filled when read, not stored.",
}
_NAMES: Final = {
    "gaps": "gap",
    "duplicates": "duplicate",
    "outliers": "outlier",
    "splits": "likely split",
}


@dataclass(frozen=True, slots=True)
class Known:
    """The newest findings of a series. `is_current`: they are of the bars, calendar and tick of now."""

    findings: dict[str, Any]
    content_hash: str
    found_at: datetime
    is_current: bool

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.findings["counts"])

    @property
    def trouble(self) -> dict[str, int]:
        """What a run may be refused for, by kind, where there is any."""
        return {kind: self.counts[kind] for kind in FINDINGS if self.counts.get(kind)}


def known(stored: Stored) -> Known | None:
    """What jobs found in a series; None when nobody has looked yet."""
    return all_known([stored]).get(stored.id)


def all_known(listed: list[Stored]) -> dict[int, Known]:
    """The newest findings of each series, by id."""
    query = (
        sa.select(SeriesQualityRow)
        .where(SeriesQualityRow.series_id.in_([one.id for one in listed]))
        .order_by(SeriesQualityRow.found_at)
    )
    newest = {row.series_id: row for row in db.session.scalars(query)}
    return {one.id: _known(one, newest[one.id]) for one in listed if one.id in newest}


def _known(stored: Stored, row: SeriesQualityRow) -> Known:
    series, instrument = stored.row, stored.instrument
    tick = None if instrument.tick_size is None else f"{instrument.tick_size.normalize():f}"
    same_rules = row.findings.get("calendar") == instrument.calendar
    same_rules = same_rules and row.findings.get("tick") == tick
    same_bars = series.hashed_change == series.changes and series.content_hash == row.content_hash
    return Known(row.findings, row.content_hash, row.found_at, same_bars and same_rules)


def content_hash(stored: Stored) -> str:
    """Of the bars as they are now; "" until a job has worked it out."""
    row = stored.row
    return row.content_hash or "" if row.hashed_change == row.changes else ""


def in_words(trouble: dict[str, int]) -> str:
    """2 gaps, 1 outlier."""
    return ", ".join(
        f"{count:,} {_NAMES[kind]}{'s' if count != 1 else ''}" for kind, count in trouble.items()
    )


@dataclass(frozen=True, slots=True)
class Revision:
    """One time bars of a series were changed: by which job and file, how many, and some of them."""

    job_id: Any
    file_name: str
    at: datetime
    bars: int
    first: datetime
    last: datetime
    examples: list[Any]


_REVISIONS: Final = sa.text(
    """
    SELECT job_id, min(recorded_at), count(*), min(opened_at), max(opened_at) FROM bars
    WHERE instrument_id = :instrument AND source = :source AND interval = :interval AND revision > 0
    GROUP BY job_id ORDER BY 2 DESC LIMIT 20
    """
)
_CHANGED: Final = sa.text(
    """
    SELECT now.opened_at, was.close AS was_close, now.close AS now_close,
           was.high AS was_high, now.high AS now_high, was.low AS was_low, now.low AS now_low,
           was.volume AS was_volume, now.volume AS now_volume, was.open AS was_open, now.open AS now_open
    FROM bars AS now JOIN bars AS was
      ON was.instrument_id = now.instrument_id AND was.source = now.source
     AND was.interval = now.interval AND was.opened_at = now.opened_at AND was.revision = now.revision - 1
    WHERE now.instrument_id = :instrument AND now.source = :source AND now.interval = :interval
      AND now.revision > 0 AND now.job_id IS NOT DISTINCT FROM CAST(:job AS uuid)
    ORDER BY abs(now.close / was.close - 1) DESC, now.opened_at LIMIT 8
    """
)


def revisions(stored: Stored) -> list[Revision]:
    """What changed when and by which import, newest first."""
    row = stored.row
    if not row.revision:
        return []
    key = {"instrument": row.instrument_id, "source": row.source, "interval": row.interval}
    files = dict(
        db.session.execute(
            sa.select(ImportRow.job_id, ImportRow.file_name).where(ImportRow.series_id == stored.id)
        ).all()
    )
    changes = db.session.execute(_REVISIONS, key).all()
    wanted = [row[0] for row in changes if row[0] is not None]
    jobs = set(db.session.scalars(sa.select(JobRow.id).where(JobRow.id.in_(wanted))))
    return [
        Revision(
            job_id if job_id in jobs else None,
            str(files.get(job_id, "")), at, count, first, last,
            list(db.session.execute(_CHANGED, {**key, "job": job_id})),
        )
        for job_id, at, count, first, last in changes
    ]  # fmt: skip
