"""Looking over stored series: content hash, bars a day, findings, and other sources of the same bars."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from engine import quality, series_content
from engine.bars import DAY, instant
from engine.findings import sources
from engine.findings.days import Days
from engine.findings.days import days as days_of
from engine.findings.finding import BadLimits, Limits
from engine.history import NoSuchSeries
from engine.quality_due import stale
from engine.series_content import Content, Series
from engine.work import JobRefused, Work
from shared.db.market import SeriesDaysRow, SeriesQualityRow, SeriesRow
from shared.jobs import QualityRequest


def run(request: QualityRequest, work: Work) -> dict[str, Any]:
    """The body of a quality job; {"text", "link"}. A series that is changed meanwhile is left for the next."""
    try:
        limits = Limits.from_json(request.limits)
    except BadLimits as error:
        raise JobRefused(str(error)) from error
    with work.sessions() as session:
        ids = [request.series_id] if request.series_id else stale(session)
    findings = 0
    for number, series_id in enumerate(ids):
        work.progress(number / len(ids), f"{number} of {len(ids)} series looked over")
        try:
            findings += look_over(work, series_id, limits)
        except NoSuchSeries as error:
            raise JobRefused(str(error)) from error
    link = f"/data/{request.series_id}" if request.series_id else "/data"
    said = "nothing found" if not findings else f"{findings:,} findings"
    return {"text": f"{len(ids)} series looked over: {said}", "link": link}


def look_over(work: Work, series_id: int, limits: Limits) -> int:
    """Look over one series and keep what was found; how many findings that are."""
    with work.sessions() as session:
        series_content.one_moment(session)
        series = series_content.series_of_id(session, series_id)
        content = series_content.read(session, series)
        others = [
            (other, series_content.read(session, other)) for other in _siblings(session, series)
        ]
    report = quality.look(
        content.bars, series.calendar, tick=series.tick, adjusted=content.adjusted, limits=limits
    )
    said = report.as_json()
    said["sources"] = [_compared(content, other, found, limits) for other, found in others]
    said["limits"] = asdict(limits)
    said["calendar"] = series.calendar
    said["tick"] = None if series.tick is None else f"{series.tick.normalize():f}"
    days = days_of(content.bars, series.calendar)
    with work.sessions() as session:
        if series_content.keep_hash(session, series, content.hash):
            _keep_days(session, series, days)
            _keep_findings(session, series, content.hash, limits, said)
        for other, found in others:
            series_content.keep_hash(session, other, found.hash)
        session.commit()
    return sum(report.count(kind) for kind in quality.POLICY_KINDS)


def _siblings(session: Session, series: Series) -> list[Series]:
    """The same instrument and interval from elsewhere."""
    query = sa.select(SeriesRow.id).where(
        SeriesRow.instrument_id == series.instrument_id,
        SeriesRow.interval == series.interval,
        SeriesRow.id != series.id,
        SeriesRow.bars > 0,
    )
    return [
        series_content.series_of_id(session, found)
        for found in session.scalars(query.order_by(SeriesRow.id))
    ]


def _compared(here: Content, other: Series, there: Content, limits: Limits) -> dict[str, Any]:
    compared = sources.compare(here.bars, there.bars, limits)
    return {
        "series_id": other.id,
        "source": other.source,
        "content_hash": there.hash,
        **asdict(compared),
    }


def _keep_days(session: Session, series: Series, days: Days) -> None:
    row = {
        "change": series.change,
        "first_day": instant(days.first * DAY).date(),
        "bars": days.bars.astype("<u4").tobytes(),
        "expected": days.expected.astype("<u4").tobytes(),
        "counted_at": sa.func.clock_timestamp(),
    }
    session.execute(
        insert(SeriesDaysRow)
        .values(series_id=series.id, **row)
        .on_conflict_do_update(index_elements=[SeriesDaysRow.series_id], set_=row)
    )


def _keep_findings(
    session: Session, series: Series, content_hash: str, limits: Limits, said: dict[str, Any]
) -> None:
    """In place of what was found in earlier content."""
    session.execute(
        sa.delete(SeriesQualityRow).where(
            SeriesQualityRow.series_id == series.id, SeriesQualityRow.content_hash != content_hash
        )
    )
    rules = quality.fingerprint(limits, series.calendar, series.tick)
    found = {"findings": said, "found_at": sa.func.clock_timestamp()}
    session.execute(
        insert(SeriesQualityRow)
        .values(series_id=series.id, content_hash=content_hash, rules=rules, **found)
        .on_conflict_do_update(
            index_elements=[
                SeriesQualityRow.series_id,
                SeriesQualityRow.content_hash,
                SeriesQualityRow.rules,
            ],
            set_=found,
        )
    )
