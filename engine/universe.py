"""Pair lists recorded day by day, from stored bars that closed before each day began."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.work import JobRefused, Work
from shared.db import daily
from shared.db.lists import PairListDayRow, PairListRecordRow, PairListRow
from shared.domain.universe import BadRules, Candidate, Membership, Rules, every_day
from shared.domain.universe import members as choose
from shared.jobs import PairListRequest

ROWS_AT_ONCE: Final = 2_000


def members(session: Session, list_id: int, day: date) -> list[int] | None:
    """The instruments in a pair list on a day, by rank; None when that day was not recorded."""
    if session.get(PairListRecordRow, (list_id, day)) is None:
        return None
    query = (
        sa.select(PairListDayRow.instrument_id)
        .where(PairListDayRow.list_id == list_id, PairListDayRow.day == day)
        .order_by(PairListDayRow.rank)
    )
    return list(session.scalars(query))


def membership(session: Session, list_id: int) -> Membership | None:
    """Every recorded day of a list, for a run to ask before its entries; None for no such list."""
    found = session.get(PairListRow, list_id)
    if found is None:
        return None
    recorded = sa.select(PairListRecordRow.day).where(PairListRecordRow.list_id == list_id)
    days: dict[date, set[int]] = {day: set() for day in session.scalars(recorded)}
    rows = sa.select(PairListDayRow.day, PairListDayRow.instrument_id).where(
        PairListDayRow.list_id == list_id
    )
    for day, instrument_id in session.execute(rows):
        days[day].add(instrument_id)
    return Membership(found.name, {day: frozenset(inside) for day, inside in days.items()})


def run(request: PairListRequest, work: Work) -> dict[str, Any]:
    """The body of a pair list job: who is in the list on each day of a range; {"text", "link"}."""
    with work.sessions() as session:
        found = session.get(PairListRow, request.list_id)
        if found is None or found.deleted_at is not None:
            raise JobRefused(f"list_id: there is no pair list {request.list_id}")
        version, name = found.version, found.name
        try:
            rules = Rules.from_json(found.rules)
        except BadRules as error:
            raise JobRefused(str(error)) from error
        chosen = daily.considered(session, rules)
        if not chosen:
            raise JobRefused(f"{name}: no instrument of those it may hold has bars yet")
        first, last = _range(request, chosen)
        candidates = _read(session, chosen, rules, first, last, work)
    days = every_day(first, last)
    with work.sessions() as session:
        total = _record(session, request.list_id, version, rules, candidates, days, work)
        answer = {
            "text": f"{name}: {len(days):,} days recorded, {first} to {last}, {total / len(days):.1f} members a day",
            "link": f"/lists/pairs/{request.list_id}",
        }
        work.finish(session, answer)
        session.commit()
    return answer


def _range(request: PairListRequest, chosen: Sequence[daily.Chosen]) -> tuple[date, date]:
    """From the day after the first bars to the day that the newest bars are known for."""
    first = min(one.first_opened_at for one in chosen).astimezone(UTC).date() + timedelta(days=1)
    newest = daily.known_until(chosen)
    asked_first = _day("first_day", request.first_day) or first
    asked_last = _day("last_day", request.last_day) or newest
    first, last = max(first, asked_first), min(newest, asked_last)
    if first > last:
        raise JobRefused(
            f"first_day: {asked_first} to {asked_last} has no day with bars before it; "
            f"there are bars for {first} to {newest}"
        )
    return first, last


def _day(name: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise JobRefused(f"{name}: {text!r} is no day; write 2024-01-31") from None


def _read(
    session: Session,
    chosen: Sequence[daily.Chosen],
    rules: Rules,
    first: date,
    last: date,
    work: Work,
) -> list[Candidate]:
    start = first - daily.days_needed(rules)
    read = []
    for number, one in enumerate(chosen):
        work.progress(0.6 * number / len(chosen), f"reading {one.symbol}")
        read.extend(daily.candidates(session, [one], start, last))
    return read


def _record(
    session: Session,
    list_id: int,
    version: int,
    rules: Rules,
    candidates: Sequence[Candidate],
    days: Sequence[date],
    work: Work,
) -> int:
    """In place of what was recorded for these days; how many memberships that are. The caller commits."""
    for table in (PairListDayRow, PairListRecordRow):
        session.execute(
            sa.delete(table).where(table.list_id == list_id, table.day.between(days[0], days[-1]))
        )
    rows: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    for number, day in enumerate(days):
        if number % 50 == 0:
            work.progress(0.6 + 0.35 * number / len(days), f"{day}")
        inside = choose(rules, candidates, day)
        records.append(
            {
                "list_id": list_id, "day": day, "version": version, "considered": len(candidates),
                "members": len(inside),
            }
        )  # fmt: skip
        rows.extend(
            {
                "list_id": list_id, "day": day, "instrument_id": one.instrument_id, "rank": one.rank,
                "values": one.measures.as_json(),
            }
            for one in inside
        )  # fmt: skip
    for table, every in ((PairListRecordRow, records), (PairListDayRow, rows)):
        for start in range(0, len(every), ROWS_AT_ONCE):
            session.execute(sa.insert(table), every[start : start + ROWS_AT_ONCE])
    return len(rows)
