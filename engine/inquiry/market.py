"""The bars of a moment: found, filled, missing, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.bars import SECOND, Bars, instant, nanoseconds
from engine.history import series_bars
from engine.inquiry.again import Seen, Subject
from engine.strategies.evaluation import BoundInput
from engine.why_facts import (
    DAY,
    BarFacts,
    InputFacts,
)
from shared.db.market import BarRow, InstrumentRow, SeriesRow
from shared.db.trading import (
    AccountRow,
)
from shared.domain.sessions import trading_spans


def live_bars(
    session: Session, account: AccountRow, bound: BoundInput, at: datetime, rows: int
) -> Bars:
    """As many stored bars of an input as the engine reads, up to a time; of a finer series where need be."""
    for series in _series(session, account, bound):
        count = rows * (bound.interval // series.interval)
        bars = series_bars(session, series.id, _start(session, series, at, count), at)
        if series.interval != bound.interval:
            bars = gathered(bars, bound.interval)
        if len(bars):
            return bars[-rows:]
    return Bars.empty(bound.instrument_id, bound.interval)


def _series(session: Session, account: AccountRow, bound: BoundInput) -> list[SeriesRow]:
    """Series an input can be read from: its own interval's, the fullest first, then finer ones."""
    query = sa.select(SeriesRow).where(
        SeriesRow.instrument_id == bound.instrument_id,
        SeriesRow.bars > 0,
        SeriesRow.interval <= bound.interval,
        sa.literal(bound.interval) % SeriesRow.interval == 0,
    )
    if account.clock == "replay":
        playing = account.feed.get("series_ids", [])
        query = query.where(SeriesRow.id.in_(playing), SeriesRow.interval == bound.interval)
    found = list(session.scalars(query))
    span = {
        s.id: (s.last_closed_at - s.first_opened_at)
        for s in found
        if s.last_closed_at and s.first_opened_at
    }
    none = timedelta(0)
    # A series of the very interval is kept only while a strategy reads it: the finer one may reach further.
    return sorted(found, key=lambda s: (-span.get(s.id, none), -s.interval))


def _start(session: Session, series: SeriesRow, at: datetime, count: int) -> datetime | None:
    """Where the newest `count` stored bars up to a time begin."""
    newest = (
        sa.select(BarRow.opened_at)
        .where(
            BarRow.instrument_id == series.instrument_id,
            BarRow.source == series.source,
            BarRow.interval == series.interval,
            BarRow.closed_at <= at,
            BarRow.opened_at < at,
        )
        .order_by(BarRow.opened_at.desc())
        .limit(count)
        .subquery()
    )
    found: datetime | None = session.scalar(sa.select(sa.func.min(newest.c.opened_at)))
    return found


def gathered(bars: Bars, interval: int) -> Bars:
    """Bars of a longer interval on the grid since 1970, as the engine builds them; whole ones only."""
    if not len(bars):
        return Bars.empty(bars.instrument_id, interval)
    step = interval * SECOND
    opened = bars.opened_at // step * step
    first = np.flatnonzero(np.concatenate(([True], opened[1:] != opened[:-1])))
    last = np.concatenate((first[1:], [len(opened)])) - 1
    # Filled bars say nothing, unless there is nothing else.
    quiet = bars.filled & ~np.repeat(np.logical_and.reduceat(bars.filled, first), last - first + 1)
    begins = np.minimum.reduceat(np.where(quiet, len(bars), np.arange(len(bars))), first)
    made = Bars(
        bars.instrument_id,
        interval,
        opened[first],
        opened[first] + step,
        bars.open[begins],
        np.maximum.reduceat(np.where(quiet, -np.inf, bars.high), first),
        np.minimum.reduceat(np.where(quiet, np.inf, bars.low), first),
        bars.close[last],
        np.add.reduceat(bars.volume, first),
        np.logical_and.reduceat(bars.filled, first),
    )
    whole = bars.closed_at[-1] >= made.closed_at[-1]
    return made if whole else made[:-1]


def bar_at(session: Session, seen: Seen, instrument: InstrumentRow, at: datetime) -> BarFacts:
    """The instrument's own bar at the moment, or why there is none."""
    key = next(
        (k for k, b in seen.bars.items() if b.instrument_id == instrument.id), seen.clock.key
    )
    bars = seen.bars[key]
    if seen.has_bar:
        row = int(np.searchsorted(bars.closed_at, nanoseconds(seen.moment), side="right")) - 1
        if row >= 0:
            return bar_facts(bars, row, instrument.calendar)
    calendar = instrument.calendar
    if not _was_open(calendar, seen.moment, seen.interval):
        return BarFacts("closed", calendar=calendar)
    first, last = _reach(session, bars)
    if first is None or last is None:
        return BarFacts("none", calendar=calendar)
    if at < first + span(seen.interval):
        return BarFacts("before", hole=(first, last), calendar=calendar)
    following = _next_opened(session, bars, at)
    if following is None:
        return BarFacts("after", hole=(first, last), calendar=calendar)
    begins = instant(int(bars.closed_at[-1])) if len(bars) else first
    return BarFacts("gap", hole=(begins, following), calendar=calendar)


def bar_facts(bars: Bars, row: int, calendar: str) -> BarFacts:
    bar = bars.bar(row)
    return BarFacts(
        "quiet" if bar.filled else "found",
        bar.opened_at,
        bar.closed_at,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        calendar=calendar,
    )


def _was_open(calendar: str, moment: datetime, interval: int) -> bool:
    """Whether the bar that would close at the moment lies inside trading."""
    day = moment.astimezone(UTC).date()
    if interval >= DAY:
        return bool(trading_spans(calendar, day))
    opened = moment - span(interval)
    days = {day, opened.astimezone(UTC).date()}
    spans = [span for each in days for span in trading_spans(calendar, each)]
    return any(starts <= opened < ends or starts < moment <= ends for starts, ends in spans)


def _reach(session: Session, bars: Bars) -> tuple[datetime | None, datetime | None]:
    query = sa.select(
        sa.func.min(SeriesRow.first_opened_at), sa.func.max(SeriesRow.last_closed_at)
    ).where(
        SeriesRow.instrument_id == bars.instrument_id,
        SeriesRow.bars > 0,
        SeriesRow.interval <= bars.interval,
    )
    first, last = session.execute(query).one()
    return first, last


def _next_opened(session: Session, bars: Bars, at: datetime) -> datetime | None:
    query = sa.select(sa.func.min(BarRow.opened_at)).where(
        BarRow.instrument_id == bars.instrument_id,
        BarRow.interval <= bars.interval,
        BarRow.opened_at >= at,
    )
    found: datetime | None = session.scalar(query)
    return found


def inputs_at(subject: Subject, seen: Seen) -> tuple[InputFacts, ...]:
    return tuple(_input(bound, seen) for bound in subject.inputs)


def _input(bound: BoundInput, seen: Seen) -> InputFacts:
    bars = seen.bars[bound.key]
    row = int(np.searchsorted(bars.closed_at, nanoseconds(seen.moment), side="right"))
    closed = instant(int(bars.closed_at[row - 1])) if row else None
    return InputFacts(bound.key, bound.symbol, bound.interval, bound.trades, closed, row)


def span(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
