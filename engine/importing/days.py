"""Which part of a day a daily bar spans: the session of its calendar, not midnight to midnight."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from engine.importing.dates import BadTime

NEW_YORK: Final = ZoneInfo("America/New_York")
SATURDAY: Final = 5
_OPENS: Final = time(9, 30)
_CLOSES: Final = time(16)
_ROLLS: Final = time(17)
DAY: Final = timedelta(days=1)


def session(first: date, days: int, calendar: str, where: tzinfo) -> tuple[datetime, datetime]:
    """[opened_at, closed_at) of a bar of `days` days dated `first`, as naive moments in UTC.

    24/7: from midnight to midnight in `where`. XNYS: from the opening on the first day to the close on the
    last weekday. 24/5: the currency day, which begins at 17:00 New York of the day before.
    """
    if calendar == "24/7":
        return _utc(first, time(0), where), _utc(first + days * DAY, time(0), where)
    if first.weekday() >= SATURDAY:
        raise BadTime(
            f"{first} is a {first:%A}, and the calendar {calendar} has no session then: choose the"
            " calendar 24/7 if the market trades at week-ends"
        )
    last = first + (days - 1) * DAY
    while last.weekday() >= SATURDAY:
        last -= DAY
    if calendar == "XNYS":
        return _utc(first, _OPENS, NEW_YORK), _utc(last, _CLOSES, NEW_YORK)
    return _utc(first - DAY, _ROLLS, NEW_YORK), _utc(last, _ROLLS, NEW_YORK)


def _utc(day: date, at: time, where: tzinfo) -> datetime:
    return datetime.combine(day, at, where).astimezone(UTC).replace(tzinfo=None)
