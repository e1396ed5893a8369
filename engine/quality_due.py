"""When bars are to be looked over again: asked for by the clock, soon after they changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.work import CLOCK
from shared import queueing
from shared.db.backtests import JobRow
from shared.db.market import SeriesDaysRow, SeriesRow
from shared.jobs import QualityRequest

LIVE_CHANGES: Final = 100_000
"""A series that a market adds to all the time is looked over again after this many changes."""

REST: Final = timedelta(minutes=10)
"""After a look that failed, before the clock asks for another."""


def stale(session: Session) -> list[int]:
    """Series whose bars changed since they were looked over."""
    query = (
        sa.select(SeriesRow.id)
        .outerjoin(SeriesDaysRow, SeriesDaysRow.series_id == SeriesRow.id)
        .where(
            SeriesRow.bars > 0,
            sa.or_(
                SeriesDaysRow.series_id.is_(None),
                sa.and_(~SeriesRow.simulated, SeriesDaysRow.change != SeriesRow.changes),
                SeriesDaysRow.change < SeriesRow.changes - LIVE_CHANGES,
            ),
        )
        .order_by(SeriesRow.id)
    )
    return list(session.scalars(query))


def ask_when_due(session: Session, client: Any) -> bool:
    """Ask for a look at what changed, unless one is under way; whether it was asked for."""
    recent = sa.func.clock_timestamp() - REST
    busy = sa.select(JobRow.id).where(
        JobRow.kind == "quality",
        sa.or_(
            JobRow.state.in_(["queued", "running"]),
            sa.and_(JobRow.state == "failed", JobRow.finished_at > recent),
        ),
    )
    if session.scalar(busy.limit(1)) is not None or not stale(session):
        return False
    queueing.ask(session, client, QualityRequest(), title="Look over what changed", actor=CLOCK)
    return True
