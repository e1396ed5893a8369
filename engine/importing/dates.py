"""Times as files write them: which style a column uses, and each text as a moment in UTC.

Moments are naive datetimes in UTC: hundreds of thousands of them are compared and printed a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 naive UTC, as everything here
ZERO: Final = timedelta(0)
NO_TIME: Final = time(0)

YEAR_FIRST: Final = "year-first"
DAY_FIRST: Final = "day-first"
MONTH_FIRST: Final = "month-first"
NAMED_MONTH: Final = "named-month"

EXCEL: Final = "excel-days"

# Digits before the decimal point of a present-day Unix time, by its unit; and the unit in nanoseconds.
EPOCH_UNITS: Final = {
    "epoch-seconds": (range(9, 12), 1_000_000_000),
    "epoch-milliseconds": (range(12, 15), 1_000_000),
    "epoch-microseconds": (range(15, 18), 1_000),
    "epoch-nanoseconds": (range(18, 21), 1),
}
STYLES: Final = (YEAR_FIRST, DAY_FIRST, MONTH_FIRST, NAMED_MONTH, *EPOCH_UNITS, EXCEL)

EXCEL_EPOCH: Final = datetime(1899, 12, 30)  # noqa: DTZ001 day 0 of a spreadsheet's dates
EXCEL_DAYS: Final = range(14_000, 80_000)
"""Days that are taken for a spreadsheet's: 1938 to 2119."""
DAY_SECONDS: Final = 86_400

_YEAR_FIRST: Final = re.compile(r"(\d{4})([-./]?)(\d{1,2})\2(\d{1,2})")
_PARTS: Final = re.compile(r"(\d{1,2})([-./])(\d{1,2})\2(\d{4}|\d{2})")
_NAMED: Final = re.compile(
    r"(?:(?P<d1>\d{1,2})[-. /]?(?P<m1>[A-Za-z]{3,9})|(?P<m2>[A-Za-z]{3,9})[-. /]?(?P<d2>\d{1,2}))"
    r",?[-. /]*(?P<y>\d{4}|\d{2})"
)
_TIME: Final = re.compile(
    r"(\d{1,2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?\s*([AaPp][Mm])?\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_DIGITS: Final = re.compile(r"(\d+)(?:\.(\d*))?")
_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip


class BadTime(ValueError):
    """The text is no time in the style at hand. The message says why."""


@dataclass(frozen=True, slots=True)
class Style:
    """What a column's times look like, and the evidence for it. `name` of "" means it cannot be told."""

    name: str
    why: str


def zone(name: str) -> tzinfo:
    """A time zone by its name."""
    if name in ("UTC", ""):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadTime(f"{name!r} is no time zone; write one such as America/New_York") from error


# --- telling the style ------------------------------------------------------------------------------


def style_of(texts: Iterable[tuple[int, str]]) -> Style:
    """The style of (line, text) pairs: by their form, and for 03/04/2020 by the whole column."""
    days: dict[str, int] = {}
    for line, text in texts:
        if not days:
            form = _form(text)
            if form != DAY_FIRST:
                return Style(form, f"{text!r} on line {line}" if form else "")
        days.setdefault(text[:10].partition(" ")[0].partition("T")[0], line)
    return _day_or_month_first(days) if days else Style("", "")


def _form(text: str) -> str:
    """The style a single text allows; day-first stands for "day or month first"."""
    text = text.strip()
    if _YEAR_FIRST.match(text) and not (text.isdigit() and len(text) not in (8, 12, 14)):
        day = _YEAR_FIRST.match(text)
        if day and 1 <= int(day[3]) <= 12 and 1 <= int(day[4]) <= 31:
            return YEAR_FIRST
    if _PARTS.match(text):
        return DAY_FIRST
    if _NAMED.match(text):
        return NAMED_MONTH
    digits = _DIGITS.fullmatch(text)
    if digits and len(digits[1]) == 5 and int(digits[1]) in EXCEL_DAYS:
        return EXCEL
    if digits:
        for style, (lengths, _) in EPOCH_UNITS.items():
            if len(digits[1]) in lengths:
                return style
    return ""


def _day_or_month_first(days: dict[str, int]) -> Style:
    """13/01/2020 can only be day first; with no such date, the order of the rows may tell."""
    pairs = [
        (int(m[1]), int(m[3]), text, line)
        for text, line in days.items()
        if (m := _PARTS.match(text))
    ]
    day_first = next((pair for pair in pairs if pair[0] > 12), None)
    month_first = next((pair for pair in pairs if pair[1] > 12), None)
    if day_first and month_first:
        return Style(
            "",
            f"{day_first[2]} on line {day_first[3]} can only be day first,"
            f" {month_first[2]} on line {month_first[3]} only month first",
        )
    if day_first:
        return Style(DAY_FIRST, f"{day_first[2]} on line {day_first[3]} can only be day first")
    if month_first:
        return Style(
            MONTH_FIRST, f"{month_first[2]} on line {month_first[3]} can only be month first"
        )
    in_order = [style for style in (DAY_FIRST, MONTH_FIRST) if _is_in_order(style, list(days))]
    if len(in_order) == 1 and len(days) > 2:
        return Style(in_order[0], f"only {in_order[0]} puts the {len(days)} dates in order")
    return Style("", "no date has a day after the 12th, so day first and month first both fit")


def _is_in_order(style: str, texts: list[str]) -> bool:
    try:
        days = [DAY_READERS[style](text) for text in texts]
    except BadTime:
        return False  # the import will name the row
    return days == sorted(days) or days == sorted(days, reverse=True)


# --- reading ----------------------------------------------------------------------------------------


class TimeReader:
    """Texts of one column as naive moments in UTC.

    Local times of a zone with summer time are told apart by the order of the rows: `previous` is the
    moment of the row before, and `ascending` how the file runs.
    """

    def __init__(self, style: str, zone_name: str = "UTC") -> None:
        self._style = style
        self._zone = zone(zone_name)
        self._is_utc = self._zone is UTC
        self._days: dict[str, date] = {}
        self._times: dict[str, tuple[time, timedelta | None]] = {}
        self._epoch = EPOCH_UNITS[style][1] if style in EPOCH_UNITS else 0
        self._is_excel = style == EXCEL
        self._read_day: Callable[[str], date] | None = DAY_READERS.get(style)

    def read(
        self, text: str, previous: datetime | None = None, *, ascending: bool = True
    ) -> datetime:
        local, offset = self.local(text)
        return self.moment(local, offset, previous, ascending=ascending)

    def moment(
        self,
        local: datetime,
        offset: timedelta | None,
        previous: datetime | None = None,
        *,
        ascending: bool = True,
    ) -> datetime:
        """In UTC, what `local` gave."""
        if offset is not None:
            return local - offset
        if self._is_utc:
            return local
        return self._to_utc(local, previous, ascending=ascending)

    def local(self, text: str) -> tuple[datetime, timedelta | None]:
        """The text's own wall-clock time, and its offset from UTC if it names one."""
        if self._epoch:
            return _from_epoch(text, self._epoch), ZERO
        if self._is_excel:
            return _from_excel(text), None
        day_text, time_text = split(text.strip(), self._style)
        day = self._days.get(day_text)
        if day is None:
            if self._read_day is None:
                raise BadTime(f"unknown date style {self._style!r}")
            day = self._days[day_text] = self._read_day(day_text)
        if not time_text:
            return datetime.combine(day, NO_TIME), None
        clock = self._times.get(time_text)
        if clock is None:
            clock = self._times[time_text] = read_time_of_day(time_text)
        return datetime.combine(day, clock[0]), clock[1]

    def _to_utc(self, local: datetime, previous: datetime | None, *, ascending: bool) -> datetime:
        early, late = (as_utc(local, self._zone, fold) for fold in (0, 1))
        if early > late:
            raise BadTime(f"this time did not exist in {self._zone}: the clocks had gone forward")
        first, second = (early, late) if ascending else (late, early)
        if early != late and previous is not None:
            passed = first <= previous if ascending else first >= previous
            return second if passed else first
        return first


def as_utc(local: datetime, where: tzinfo, fold: int) -> datetime:
    return local.replace(tzinfo=where, fold=fold).astimezone(UTC).replace(tzinfo=None)


def _from_epoch(text: str, nanoseconds: int) -> datetime:
    """What is finer than a microsecond is dropped."""
    digits = _DIGITS.fullmatch(text.strip())
    if not digits:
        raise BadTime("is no Unix time")
    fraction = int((digits[2] or "").ljust(9, "0")[:9]) * nanoseconds // 1_000_000_000
    try:
        return EPOCH + timedelta(microseconds=(int(digits[1]) * nanoseconds + fraction) // 1_000)
    except OverflowError as error:
        raise BadTime("is no Unix time of this unit") from error


def _from_excel(text: str) -> datetime:
    """Days since 1899-12-30, to the nearest second: a spreadsheet keeps no more of a minute exactly."""
    digits = _DIGITS.fullmatch(text.strip())
    if not digits or int(digits[1]) not in EXCEL_DAYS:
        raise BadTime("is no date as spreadsheets count days, such as 45123 or 45123.5")
    part = digits[2] or ""
    unit = 10 ** len(part)
    seconds = (int(part or 0) * DAY_SECONDS * 2 + unit) // (2 * unit)
    return EXCEL_EPOCH + timedelta(days=int(digits[1]), seconds=seconds)


def split(text: str, style: str) -> tuple[str, str]:
    """The day's part and the time's part."""
    if style == NAMED_MONTH:
        day = _NAMED.match(text)
        end = day.end() if day else len(text)
        return text[:end], text[end:].strip()
    if len(text) in (12, 14) and text.isdigit():  # 20200131235900
        return text[:8], text[8:]
    day_text, space, time_text = text.partition(" ")
    if not space:
        day_text, _, time_text = text.partition("T")
    return day_text, time_text.strip()


def read_time_of_day(text: str) -> tuple[time, timedelta | None]:
    match = _TIME.fullmatch(text)
    if not match:
        raise BadTime(f"{text!r} is no time of day")
    hour, minute, second, fraction, half, offset = match.groups()
    try:
        microsecond = int((fraction or "0").ljust(6, "0")[:6])
        of_day = time(_hour(int(hour), half), int(minute), int(second or 0), microsecond)
    except ValueError as error:
        raise BadTime(f"{text!r} is no time of day") from error
    return of_day, _offset(offset)


def _hour(hour: int, half: str | None) -> int:
    if not half:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError("no such hour")
    return hour % 12 + (12 if half.lower() == "pm" else 0)


def _offset(text: str | None) -> timedelta | None:
    if text is None:
        return None
    if text[0] not in "+-":
        return ZERO
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 15 or minutes > 59:
        raise BadTime(f"{text} is no offset from UTC")
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if text[0] == "-" else offset


def _day(year: str, month: int, day: str) -> date:
    full_year = int(year) + (0 if len(year) == 4 else 2000 if int(year) < 70 else 1900)
    try:
        return date(full_year, month, int(day))
    except ValueError as error:
        raise BadTime(f"there is no such day ({error})") from error


def _year_first(text: str) -> date:
    match = _YEAR_FIRST.fullmatch(text)
    if not match:
        raise BadTime("is no date with the year first, such as 2020-01-31")
    return _day(match[1], int(match[3]), match[4])


def _day_first(text: str) -> date:
    match = _PARTS.fullmatch(text)
    if not match:
        raise BadTime("is no date with the day first, such as 31/01/2020")
    return _day(match[4], int(match[3]), match[1])


def _month_first(text: str) -> date:
    match = _PARTS.fullmatch(text)
    if not match:
        raise BadTime("is no date with the month first, such as 01/31/2020")
    return _day(match[4], int(match[1]), match[3])


def _named_month(text: str) -> date:
    match = _NAMED.fullmatch(text)
    name = (match["m1"] or match["m2"])[:3].lower() if match else ""
    if not match or name not in _MONTHS:
        raise BadTime("is no date with the month's name, such as 31 Jan 2020")
    return _day(match["y"], _MONTHS.index(name) + 1, match["d1"] or match["d2"])


DAY_READERS: Final[dict[str, Callable[[str], date]]] = {
    YEAR_FIRST: _year_first,
    DAY_FIRST: _day_first,
    MONTH_FIRST: _month_first,
    NAMED_MONTH: _named_month,
}


def is_ambiguous(text: str) -> bool:
    """Whether only the rest of the column can tell which number is the day."""
    return _PARTS.match(text) is not None
