"""The share of bars there are, by series and day: counted by jobs, summed here into the columns of a picture."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa

from shared.db.market import SeriesDaysRow
from shared.domain.sessions import is_trading_day, trading_seconds
from webapp.db import db
from webapp.series import Stored

DAY: Final = timedelta(days=1)
EPOCH: Final = date(1970, 1, 1)
COLUMNS: Final = 420
"""As many as a wide screen can tell apart; more days than that are put together by week, or by month."""

QUICK_BARS: Final = 400_000
"""Bars of series that no job has counted yet which one page view may count itself."""


@dataclass(frozen=True, slots=True)
class Days:
    """Bars and expected bars of each day from `first` on. `state`: counted, behind or unknown."""

    first: date
    bars: Sequence[int]
    expected: Sequence[int]
    state: str = "counted"

    @property
    def after(self) -> date:
        return self.first + len(self.bars) * DAY

    def sums(self, starts: list[date]) -> tuple[list[int], list[int]]:
        """Bars and expected bars of [starts[i], starts[i + 1])."""
        edges = [min(max((start - self.first).days, 0), len(self.bars)) for start in starts]
        pairs = list(pairwise(edges))
        return (
            [sum(self.bars[a:b]) for a, b in pairs],
            [sum(self.expected[a:b]) for a, b in pairs],
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """Columns by their first days (and the day after the last), and what each series has in them."""

    unit: str
    starts: list[date]
    first: date
    last: date
    days: dict[int, Days]

    def as_json(self, listed: Sequence[tuple[int, str, str, str]]) -> dict[str, Any]:
        """`listed`: (id, name, remark, URL) of each row."""
        rows = []
        for number, name, note, url in listed:
            days = self.days.get(number)
            bars, expected = days.sums(self.starts) if days else ([], [])
            state = days.state if days else "unknown"
            rows.append(
                {
                    "id": number, "name": name, "note": note, "url": url, "state": state,
                    "bars": bars, "expected": expected,
                }
            )  # fmt: skip
        return {
            "unit": self.unit,
            "starts": [start.isoformat() for start in self.starts],
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "rows": rows,
        }


def picture(days: dict[int, Days], first: date | None, last: date | None) -> Picture:
    """Everything there is between two days, both included; all there is without them."""
    whole = [one for one in days.values() if len(one.bars)]
    if not whole:
        today = datetime.now(UTC).date()
        return Picture("day", [today, today + DAY], today, today, {})
    earliest, latest = min(one.first for one in whole), max(one.after for one in whole) - DAY
    shown_first = min(max(first or earliest, earliest), latest)
    shown_last = max(min(last or latest, latest), shown_first)
    unit, starts = columns(shown_first, shown_last)
    return Picture(unit, starts, earliest, latest, days)


def columns(first: date, last: date, most: int = COLUMNS) -> tuple[str, list[date]]:
    """The unit that a span is drawn in, the first day of each column, and the day after the last."""
    count = (last - first).days + 1
    if count <= most:
        return "day", [first + number * DAY for number in range(count + 1)]
    if count <= 7 * most:
        start = first - first.weekday() * DAY
        weeks = (last - start).days // 7 + 1
        return "week", [start + 7 * number * DAY for number in range(weeks + 1)]
    starts, month = [], first.replace(day=1)
    while month <= last:
        starts.append(month)
        month = (month + 32 * DAY).replace(day=1)
    return "month", [*starts, month]


def counted(listed: Sequence[Stored]) -> dict[int, Days]:
    """What is known of each series; a small one that no job has counted is counted here."""
    rows = {
        row.series_id: row
        for row in db.session.scalars(
            sa.select(SeriesDaysRow).where(SeriesDaysRow.series_id.in_([s.id for s in listed]))
        )
    }
    found: dict[int, Days] = {}
    room = QUICK_BARS
    for one in listed:
        row = rows.get(one.id)
        if row is not None and row.change == one.row.changes:
            found[one.id] = _kept(row)
        elif row is not None and one.row.simulated:
            found[one.id] = _with_tail(one, _kept(row))
        elif one.row.bars <= room:
            room -= one.row.bars
            found[one.id] = _count(one)
        elif row is not None:
            found[one.id] = replace(_kept(row), state="behind")
    return found


def _kept(row: SeriesDaysRow) -> Days:
    return Days(row.first_day, _numbers(row.bars), _numbers(row.expected))


def _numbers(raw: bytes) -> array[int]:
    numbers = array("I")
    numbers.frombytes(raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


# A daily bar is of the day its middle lies in: a currency day begins the evening before.
_COUNTS: Final = sa.text(
    """
    SELECT ((opened_at + CASE WHEN :interval < 86400 THEN interval '0' ELSE (closed_at - opened_at) / 2 END)
            AT TIME ZONE 'UTC')::date AS day, count(*)
    FROM bars
    WHERE instrument_id = :instrument AND source = :source AND interval = :interval AND revision = 0
      AND opened_at >= :first
    GROUP BY 1 ORDER BY 1
    """
)


def _count(one: Stored, first: date | None = None) -> Days:
    """Counted from the bars themselves, from `first` on."""
    opened, closed = one.row.first_opened_at, one.row.last_closed_at
    if opened is None or closed is None:
        return Days(EPOCH, [], [])
    since = _midnight(first) if first else opened
    key = {"instrument": one.row.instrument_id, "source": one.row.source}
    rows = db.session.execute(_COUNTS, {**key, "interval": one.row.interval, "first": since}).all()
    if not rows:
        return Days(first or opened.date(), [], [])
    start, end = first or rows[0][0], rows[-1][0]
    counts: dict[date, int] = dict(rows)
    days = [start + number * DAY for number in range((end - start).days + 1)]
    bars = [counts.get(day, 0) for day in days]
    if one.row.interval > 86_400:
        return Days(start, _spread(bars, one.row.interval // 86_400), [1] * len(bars))
    return Days(start, bars, [_expected(one, day, opened, closed) for day in days])


def _spread(bars: list[int], length: int) -> list[int]:
    """A bar of several days is in each of them."""
    return [
        int(any(bars[max(0, number - length // 2) : number + 1 + length // 2]))
        for number in range(len(bars))
    ]


def _expected(one: Stored, day: date, opened: datetime, closed: datetime) -> int:
    calendar, interval = one.instrument.calendar, one.row.interval
    if interval >= 86_400:
        return int(is_trading_day(calendar, day))
    start = _midnight(day)
    seconds = trading_seconds(calendar, max(start, opened), min(start + DAY, closed))
    return -(-seconds // interval)


def _with_tail(one: Stored, kept: Days) -> Days:
    """A market's own series only grows: what came since is counted from the last day that was."""
    last = kept.after - DAY
    tail = _count(one, last)
    if not len(tail.bars):
        return kept
    before = len(kept.bars) - 1
    return Days(
        kept.first,
        [*kept.bars[:before], *tail.bars],
        [*kept.expected[:before], *tail.expected],
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
