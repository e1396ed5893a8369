"""When a calendar trades: its days, its hours of a UTC day, and the days an exchange rests.

Pure and without a clock. Holidays of the New York Stock Exchange follow its rules of today back to 1971, with
the closings that no rule foresees listed. Currencies rest on 25 December and 1 January.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

DAY: Final = timedelta(days=1)
NEW_YORK: Final = ZoneInfo("America/New_York")

UNFORESEEN: Final = frozenset(
    date.fromisoformat(day)
    for day in (
        "1985-09-27", "1994-04-27", "2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14",
        "2004-06-11", "2007-01-02", "2012-10-29", "2012-10-30", "2018-12-05", "2025-01-09",
    )
)  # fmt: skip
"""Storms, attacks and days of mourning."""

Span = tuple[datetime, datetime]


def is_trading_day(calendar: str, day: date) -> bool:
    """Whether a daily bar of that day is to be expected."""
    if calendar == "24/7":
        return True
    if day.weekday() >= 5:
        return False
    if calendar == "XNYS":
        return day not in exchange_holidays(day.year)
    return not _currencies_rest(day)


def trading_days(calendar: str, first: date, after: date) -> Iterator[date]:
    """The trading days of [first, after)."""
    for number in range((after - first).days):
        day = first + number * DAY
        if is_trading_day(calendar, day):
            yield day


@lru_cache(maxsize=40_000)
def trading_spans(calendar: str, day: date) -> tuple[Span, ...]:
    """The parts of a UTC day in which the calendar trades."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if calendar == "24/7":
        return ((midnight, midnight + DAY),)
    if calendar == "XNYS":
        if not is_trading_day(calendar, day):
            return ()
        closes = time(13) if is_short_session(day) else time(16)
        return ((_local(day, time(9, 30)), _local(day, closes)),)
    return _currency_spans(day, midnight)


def _currency_spans(day: date, midnight: datetime) -> tuple[Span, ...]:
    """Sunday 17:00 to Friday 17:00 in New York; a day of rest begins and ends at 17:00 too."""
    turn, number = _local(day, time(17)), day.weekday()
    spans = []
    if number < 5 and not _currencies_rest(day):
        spans.append((midnight, turn))
    if (number < 4 or number == 6) and not _currencies_rest(day + DAY):
        spans.append((turn, midnight + DAY))
    return tuple(spans)


def trading_seconds(calendar: str, starts_at: datetime, ends_at: datetime) -> int:
    """Seconds of trading inside [starts_at, ends_at)."""
    if calendar == "24/7":
        return max(0, int((ends_at - starts_at).total_seconds()))
    day, total = starts_at.astimezone(UTC).date(), timedelta(0)
    while datetime(day.year, day.month, day.day, tzinfo=UTC) < ends_at:
        for opens, closes in trading_spans(calendar, day):
            total += max(timedelta(0), min(closes, ends_at) - max(opens, starts_at))
        day += DAY
    return int(total.total_seconds())


@lru_cache(maxsize=400)
def exchange_holidays(year: int) -> frozenset[date]:
    """Weekdays on which the New York Stock Exchange does not open."""
    days = {
        _nth(year, 2, 0, 3),  # Washington
        easter(year) - 2 * DAY,
        _nth(year, 5, 0, -1),  # Memorial Day
        _observed(date(year, 7, 4)),
        _nth(year, 9, 0, 1),  # Labor Day
        _nth(year, 11, 3, 4),  # Thanksgiving
        _observed(date(year, 12, 25)),
    }
    first = date(year, 1, 1)
    days.add(first + DAY if first.weekday() == 6 else first)  # a Saturday's is not made up for
    if year >= 1998:
        days.add(_nth(year, 1, 0, 3))  # Martin Luther King
    if year >= 2022:
        days.add(_observed(date(year, 6, 19)))
    return frozenset(days) | {day for day in UNFORESEEN if day.year == year}


def is_short_session(day: date) -> bool:
    """Whether the exchange closes at 13:00: around Independence Day, Thanksgiving and Christmas."""
    if day.month == 11:
        return day == _nth(day.year, 11, 3, 4) + DAY
    if day.month == 7:
        return day.day == 3 and day.weekday() < 4
    return day.month == 12 and day.day == 24 and day.weekday() < 4


def easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (Meeus, Jones, Butcher)."""
    golden, century, rest = year % 19, year // 100, year % 100
    lift = (century - (century + 8) // 25 + 1) // 3
    moon = (19 * golden + century - century // 4 - lift + 15) % 30
    week = (32 + 2 * (century % 4) + 2 * (rest // 4) - moon - rest % 4) % 7
    late = (golden + 11 * moon + 22 * week) // 451
    month, day = divmod(moon + week - 7 * late + 114, 31)
    return date(year, month, day + 1)


def _currencies_rest(day: date) -> bool:
    return (day.month, day.day) in ((12, 25), (1, 1))


def _observed(day: date) -> date:
    """A Saturday's holiday is kept on Friday, a Sunday's on Monday."""
    return day + {5: -DAY, 6: DAY}.get(day.weekday(), timedelta(0))


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    """The number-th such weekday of a month; the last one for -1."""
    if number < 0:
        last = date(year + month // 12, month % 12 + 1, 1) - DAY
        return last - (last.weekday() - weekday) % 7 * DAY
    first = date(year, month, 1)
    return first + ((weekday - first.weekday()) % 7 + 7 * (number - 1)) * DAY


def _local(day: date, at: time) -> datetime:
    return datetime.combine(day, at, NEW_YORK).astimezone(UTC)
