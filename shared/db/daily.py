"""Bars by the day, for pair lists: one statement, the same for the console's preview and for what is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session

from shared.db.market import InstrumentRow, SeriesRow
from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.universe import Candidate, Day, History, Rules

DAY: Final = 86_400
ONE_DAY: Final = timedelta(days=1)
AnySession = Session | scoped_session[Any]

# A bar belongs to the UTC day it closes in, or at the end of: so a day's bars have all closed when it is over.
_DAILY: Final = sa.text(
    """
    SELECT day, max(high)::float8, min(low)::float8,
           (array_agg(close ORDER BY opened_at DESC))[1]::float8,
           sum(volume)::float8, sum(volume * close)::float8
    FROM (
        SELECT DISTINCT ON (opened_at) opened_at, high, low, close, volume,
               ((closed_at - interval '1 microsecond') AT TIME ZONE 'UTC')::date AS day
        FROM bars
        WHERE instrument_id = :instrument AND source = :source AND interval = :interval
          AND opened_at >= :first AND opened_at < :before AND closed_at <= :before
        ORDER BY opened_at, revision DESC
    ) AS newest
    GROUP BY day ORDER BY day
    """
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The series an instrument's days are taken from."""

    series_id: int
    instrument_id: int
    symbol: str
    source: str
    interval: int
    calendar: str
    first_opened_at: datetime
    last_closed_at: datetime


def considered(session: AnySession, rules: Rules) -> list[Chosen]:
    """One series of each instrument that the rules let in: the freshest, then the longest, then the coarsest."""
    wanted = [
        column == value
        for column, value in (
            (InstrumentRow.venue, rules.venue),
            (InstrumentRow.quote_asset, rules.quote_asset),
            (InstrumentRow.asset_class, rules.asset_class),
        )
        if value
    ]
    let_in = sa.or_(sa.and_(sa.true(), *wanted), InstrumentRow.id.in_(rules.include))
    query = (
        sa.select(
            SeriesRow.id, SeriesRow.instrument_id, InstrumentRow.symbol, SeriesRow.source,
            SeriesRow.interval, InstrumentRow.calendar, SeriesRow.first_opened_at,
            SeriesRow.last_closed_at,
        )
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .where(SeriesRow.bars > 0, SeriesRow.first_opened_at.is_not(None), SeriesRow.interval <= DAY, let_in)
        .order_by(InstrumentRow.symbol, InstrumentRow.id, SeriesRow.id)
    )  # fmt: skip
    by_instrument: dict[int, list[Chosen]] = {}
    for row in session.execute(query):
        by_instrument.setdefault(row.instrument_id, []).append(Chosen(*row))  # type: ignore[arg-type]
    return [_best(found) for found in by_instrument.values()]


def _best(found: list[Chosen]) -> Chosen:
    freshest = max(one.last_closed_at for one in found)
    fresh = [one for one in found if freshest - one.last_closed_at <= timedelta(days=2)]
    return min(fresh, key=lambda one: (one.first_opened_at.date(), -one.interval, one.series_id))


def known_until(chosen: Iterable[Chosen]) -> date:
    """The newest day of which everything before it has closed: the newest that may be decided."""
    every = list(chosen)
    newest = max(one.last_closed_at for one in every).astimezone(UTC)
    # Exchanges close before midnight: with the last close of a day known, the next day may be decided.
    is_over = all(one.interval == DAY and one.calendar != "24/7" for one in every)
    return newest.date() + timedelta(days=int(is_over and newest != _midnight(newest.date())))


def candidates(
    session: AnySession, chosen: Iterable[Chosen], first: date, last: date
) -> list[Candidate]:
    """What the rules read: the days of each chosen series from `first` until `last` begins.

    Of a series that ended before, its last ones: the rules then say since when there is nothing.
    """
    return [
        Candidate(
            one.instrument_id,
            one.symbol,
            History.of(
                daily(session, one, min(first, one.last_closed_at.date() - ONE_DAY), last),
                DAYS_PER_YEAR[one.calendar],
                one.first_opened_at.date(),
            ),
        )
        for one in chosen
    ]


def daily(session: AnySession, one: Chosen, first: date, before: date) -> list[Day]:
    """The days [first, before) of a series that have bars."""
    rows = session.execute(
        _DAILY,
        {
            "instrument": one.instrument_id,
            "source": one.source,
            "interval": one.interval,
            "first": _midnight(first),
            "before": _midnight(before),
        },
    )
    return [Day(*row) for row in rows]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def days_needed(rules: Rules, calendar_days: int = 7, trading_days: int = 5) -> timedelta:
    """How far back the measures of one day reach, week-ends and holidays counted."""
    return timedelta(days=rules.window * calendar_days // trading_days + 21)
