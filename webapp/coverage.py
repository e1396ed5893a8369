"""How whole a series is: bars month by month, quiet intervals, holes, revisions.

A quiet interval is filled when bars are read (`engine.bars.fill_quiet` has the rule, and a test holds
this page to it); a longer stretch of session time without a bar is a hole and stays one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from webapp.db import db
from webapp.series import Stored

DAY: Final = timedelta(days=1)
LONGEST_QUIET: Final = DAY
LONGEST_REST: Final = timedelta(days=4)
"""Between daily bars: longer than any week-end with a holiday."""

SHOWN_HOLES: Final = 12
FEW_DAYS: Final = 62
"""Up to this many days are shown day by day, more of them month by month."""

_NEW_YORK: Final = ZoneInfo("America/New_York")
_TRADING_SECONDS: Final = {"24/7": 86_400, "24/5": 86_400, "XNYS": 23_400}


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch without bars, from the close of one to the opening of the next."""

    starts_at: datetime
    ends_at: datetime
    anchor: datetime
    """When the bar before it opened: the grid its missing intervals lie on."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The bars of one day or month: `level` 0 (none) to 4 (as many as there can be)."""

    bars: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What there is of a series and what is missing. `rows` is the heat map, None outside the range."""

    quiet: int
    holes: list[Gap]
    hole_count: int
    revised: int
    revisions: int
    heads: list[str]
    rows: list[tuple[str, list[Cell | None]]]


def coverage(stored: Stored) -> Coverage:
    """Counted from the bars themselves."""
    quiet, holes = _quiet_and_holes(stored)
    revised, revisions = db.session.execute(_REVISED, _key(stored)).one()
    heads, rows = heat_map(stored)
    longest = sorted(holes, key=lambda gap: gap.starts_at - gap.ends_at)[:SHOWN_HOLES]
    return Coverage(
        quiet=quiet,
        holes=sorted(longest, key=lambda gap: gap.starts_at),
        hole_count=len(holes),
        revised=revised,
        revisions=revisions,
        heads=heads,
        rows=rows,
    )


def _key(stored: Stored) -> dict[str, object]:
    row = stored.row
    return {"instrument": row.instrument_id, "source": row.source, "interval": row.interval}


_OF_SERIES: Final = "instrument_id = :instrument AND source = :source AND interval = :interval"

# Every bar has a revision 0, and a correction never moves its time.
_GAPS: Final = sa.text(
    f"""
    SELECT closed_at, next_at, opened_at FROM (
        SELECT opened_at, closed_at, lead(opened_at) OVER (ORDER BY opened_at) AS next_at
        FROM bars WHERE {_OF_SERIES} AND revision = 0
    ) AS pairs WHERE next_at - closed_at >= make_interval(secs => least(:interval, 86400))
    ORDER BY opened_at
    """  # noqa: S608 (a constant)
)
_REVISED: Final = sa.text(
    f"SELECT count(DISTINCT opened_at), count(*) FROM bars WHERE {_OF_SERIES} AND revision > 0"  # noqa: S608
)
_COUNTS: Final = sa.text(
    f"""
    SELECT date_trunc(:unit, opened_at, 'UTC'), count(*) FROM bars
    WHERE {_OF_SERIES} AND revision = 0 GROUP BY 1
    """  # noqa: S608 (a constant)
)


def _quiet_and_holes(stored: Stored) -> tuple[int, list[Gap]]:
    gaps = [Gap(*row) for row in db.session.execute(_GAPS, _key(stored))]
    interval = timedelta(seconds=stored.row.interval)
    if interval >= DAY:
        longest = max(LONGEST_REST, 2 * interval)
        return 0, [gap for gap in gaps if gap.ends_at - gap.starts_at > longest]
    quiet = 0
    holes = []
    for gap in gaps:
        missing = missing_intervals(gap, interval, stored.instrument.calendar)
        if missing is None:
            holes.append(gap)
        else:
            quiet += missing
    return quiet, holes


def missing_intervals(gap: Gap, interval: timedelta, calendar: str) -> int | None:
    """Quiet intervals in a gap, or None when it holds too much session time to be quiet."""
    if calendar == "24/7":
        if gap.ends_at - gap.starts_at > LONGEST_QUIET:
            return None
        return _on_grid(gap.starts_at, gap.ends_at, gap.anchor, interval)
    sessions = list(_sessions(calendar, min(gap.anchor, gap.starts_at), gap.ends_at))
    inside = [
        (opens, closes, max(gap.starts_at, opens), min(gap.ends_at, closes))
        for opens, closes in sessions
        if max(gap.starts_at, opens) < min(gap.ends_at, closes)
    ]
    if sum((ends - starts for _, _, starts, ends in inside), timedelta(0)) > LONGEST_QUIET:
        return None
    home = [opens for opens, _ in sessions if opens <= gap.anchor]
    offset = gap.anchor - home[-1] if home else timedelta(0)
    return sum(
        _on_grid(starts, ends, opens + offset, interval)
        for opens, closes, starts, ends in inside
        if not (calendar == "XNYS" and starts == opens and ends == closes)  # a holiday
    )


def _on_grid(starts: datetime, ends: datetime, anchor: datetime, interval: timedelta) -> int:
    """Whole intervals of the grid through `anchor` inside [starts, ends)."""
    first = starts + (anchor - starts) % interval
    return max(0, (ends - first) // interval)


def _sessions(
    calendar: str, first: datetime, last: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """(opens, closes) of the sessions that may touch [first, last], and of the one before them."""
    weekly = calendar == "24/5"
    day = first.astimezone(UTC).date() - timedelta(days=8 if weekly else 4)
    while day <= last.astimezone(UTC).date() + DAY:
        if weekly and day.weekday() == 6:
            yield _local(day, time(17)), _local(day + timedelta(days=5), time(17))
        elif not weekly and day.weekday() < 5:
            yield _local(day, time(9, 30)), _local(day, time(16))
        day += DAY


def _local(day: date, at: time) -> datetime:
    return datetime.combine(day, at, _NEW_YORK).astimezone(UTC)


# --- the heat map -----------------------------------------------------------------------------------


def heat_map(stored: Stored) -> tuple[list[str], list[tuple[str, list[Cell | None]]]]:
    """Years by months, or for a short series months by days."""
    first, last = stored.row.first_opened_at, stored.row.last_closed_at
    if first is None or last is None:
        return [], []
    is_short = last - first <= timedelta(days=FEW_DAYS)
    unit = "day" if is_short else "month"
    counts = {
        moment.astimezone(UTC).date(): count
        for moment, count in db.session.execute(_COUNTS, {**_key(stored), "unit": unit})
    }
    start, end = (
        first.astimezone(UTC).date(),
        (last - timedelta(microseconds=1)).astimezone(UTC).date(),
    )
    most = max(counts.values(), default=1)
    if is_short:
        return _by_day(stored, counts, start, end, most)
    return _by_month(stored, counts, start, end, most)


def _by_month(
    stored: Stored, counts: dict[date, int], start: date, end: date, most: int
) -> tuple[list[str], list[tuple[str, list[Cell | None]]]]:
    heads = [f"{date(2000, month, 1):%b}" for month in range(1, 13)]
    rows = []
    for year in range(start.year, end.year + 1):
        cells: list[Cell | None] = []
        for month in range(1, 13):
            first = date(year, month, 1)
            after = date(year + month // 12, month % 12 + 1, 1)
            if after <= start or first > end:
                cells.append(None)
                continue
            days = _trading_days(stored, max(first, start), min(after, end + DAY))
            cells.append(_cell(stored, counts.get(first, 0), days, most, f"{first:%b %Y}"))
        rows.append((str(year), cells))
    return heads, rows


def _by_day(
    stored: Stored, counts: dict[date, int], start: date, end: date, most: int
) -> tuple[list[str], list[tuple[str, list[Cell | None]]]]:
    heads = [str(day) for day in range(1, 32)]
    calendar = stored.instrument.calendar
    rows = []
    for first in _months(start, end):
        cells: list[Cell | None] = []
        for number in range(31):
            day = first + timedelta(days=number)
            bars = counts.get(day, 0)
            is_rest = calendar != "24/7" and day.weekday() >= 5 and not bars
            if day.month != first.month or not start <= day <= end or is_rest:
                cells.append(None)
                continue
            cells.append(_cell(stored, bars, 1, most, f"{day:%a %d %b %Y}"))
        rows.append((f"{first:%b %Y}", cells))
    return heads, rows


def _months(start: date, end: date) -> Iterable[date]:
    month = start.replace(day=1)
    while month <= end:
        yield month
        month = (month + timedelta(days=32)).replace(day=1)


def _trading_days(stored: Stored, first: date, after: date) -> int:
    """Days of [first, after) on which the calendar trades, exchange holidays not known."""
    days = (first + timedelta(days=number) for number in range((after - first).days))
    return sum(stored.instrument.calendar == "24/7" or day.weekday() < 5 for day in days)


def _cell(stored: Stored, bars: int, days: int, most: int, when: str) -> Cell:
    """Full is what the calendar holds less a few holidays, or what the fullest cell has if that is less."""
    calendar, interval = stored.instrument.calendar, stored.row.interval
    seconds = _TRADING_SECONDS[calendar] if interval < 86_400 else 86_400
    whole = max(1.0, min(days * seconds / interval, float(most)))
    share = bars / whole
    full = 0.95 if calendar == "24/7" else 0.85
    level = (
        0 if not bars else 4 if share >= full else 3 if share >= 0.7 else 2 if share >= 0.4 else 1
    )
    return Cell(bars, level, f"{when}: {bars:,} bars")
