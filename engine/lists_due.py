"""When a pair list is to be recorded again: asked for by the clock, once the bars before a new day are there."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.work import CLOCK
from shared import queueing
from shared.db import daily
from shared.db.backtests import JobRow
from shared.db.lists import PairListRecordRow, PairListRow
from shared.domain.universe import BadRules, Rules
from shared.jobs import PairListRequest

REST: Final = timedelta(minutes=10)
"""After a recording that failed, before the clock asks for another of the same list."""

ONE_DAY: Final = timedelta(days=1)


class Due(NamedTuple):
    """Days of a list, both included, that may be recorded and are not."""

    list_id: int
    name: str
    first: date
    last: date


def due(session: Session) -> list[Due]:
    """What each daily list lacks, from the day after its newest record on.

    Of a list that was never recorded, the newest day alone: the days before are for whoever asks for them.
    """
    newest = sa.func.max(PairListRecordRow.day)
    query = (
        sa.select(PairListRow, newest)
        .outerjoin(PairListRecordRow, PairListRecordRow.list_id == PairListRow.id)
        .where(PairListRow.is_daily, PairListRow.deleted_at.is_(None))
        .group_by(PairListRow.id)
        .order_by(PairListRow.id)
    )
    found = []
    for row, recorded in session.execute(query):
        last = _known(session, row)
        if last is not None and (recorded is None or recorded < last):
            first = last if recorded is None else recorded + ONE_DAY
            found.append(Due(row.id, row.name, first, last))
    return found


def _known(session: Session, row: PairListRow) -> date | None:
    """The newest day that the list may be recorded for; None when nothing it may hold has bars."""
    try:
        chosen = daily.considered(session, Rules.from_json(row.rules))
    except BadRules:
        return None  # its page says so
    if not chosen:
        return None
    last = daily.known_until(chosen)
    return last if last > min(one.first_opened_at for one in chosen).date() else None


def ask_when_due(session: Session, client: Any) -> int:
    """Ask for what is due, unless it is under way or has just failed; how many were asked for."""
    asked = 0
    for one in due(session):
        if _is_busy(session, one.list_id):
            continue
        request = PairListRequest(one.list_id, one.first.isoformat(), one.last.isoformat())
        queueing.ask(session, client, request, title=f"Record {one.name}", actor=CLOCK)
        asked += 1
    return asked


def _is_busy(session: Session, list_id: int) -> bool:
    recent = sa.func.clock_timestamp() - REST
    busy = sa.select(JobRow.id).where(
        JobRow.kind == "pair_list",
        JobRow.arguments["list_id"].as_integer() == list_id,
        sa.or_(
            JobRow.state.in_(["queued", "running"]),
            sa.and_(JobRow.state.in_(["failed", "cancelled"]), JobRow.finished_at > recent),
        ),
    )
    return session.scalar(busy.limit(1)) is not None
