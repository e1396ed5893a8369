"""Columns of texts as exact numbers and times, a block at a time; `Odd` for all that is not plain.

What passes here is read to the same bars as row by row in `engine.importing.reading`, which is the
judge of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.importing.dates import (
    DAY_READERS,
    DAY_SECONDS,
    EPOCH,
    EPOCH_UNITS,
    EXCEL,
    EXCEL_DAYS,
    EXCEL_EPOCH,
    NAMED_MONTH,
    BadTime,
    TimeReader,
    as_utc,
    read_time_of_day,
    split,
    zone,
)
from engine.importing.days import session
from engine.importing.layout import Layout
from engine.importing.tables import Odd
from engine.packing import MOST_DECIMALS, Decimals, Integers

SECOND: Final = 1_000_000
DAY: Final = DAY_SECONDS * SECOND
QUARTER: Final = 900 * SECOND
"""No clock of any zone is put forward or back at another time than a full quarter of an hour."""

MOST_PATTERNS: Final = 20_000
_PLAIN: Final = np.zeros(256, np.bool_)
_PLAIN[[ord("."), *range(ord("0"), ord("9") + 1)]] = True
_MOST: Final = 2**62


# --- numbers ----------------------------------------------------------------------------------------


def decimals(columns: Sequence[pa.StringArray], decimal_mark: str = ".") -> list[Decimals]:
    """The columns as exact numbers on one common scale."""
    plain = [_plain(column, decimal_mark) for column in columns]
    shown = [_decimals_shown(column) for column in plain]
    scale = max((int(each.max()) for each in shown if len(each)), default=0)
    if scale > MOST_DECIMALS:
        raise Odd("numbers with very many decimals")
    return [
        Decimals(_scaled(column, scale), scale, each)
        for column, each in zip(plain, shown, strict=True)
    ]


def _plain(column: pa.StringArray, decimal_mark: str) -> pa.StringArray:
    """Digits with at most one point and nothing else."""
    if decimal_mark == ",":
        if not _is_made_of(column, _PLAIN_COMMA):
            raise Odd("numbers that are not plain")
        column = pc.replace_substring(column, ",", ".")
    if not _is_made_of(column, _PLAIN):
        column = pc.utf8_trim(column, " ")
        if not _is_made_of(column, _PLAIN):
            raise Odd("numbers that are not plain")
    return column


_PLAIN_COMMA: Final = np.zeros(256, np.bool_)
_PLAIN_COMMA[[ord(","), ord(" "), *range(ord("0"), ord("9") + 1)]] = True


def _is_made_of(column: pa.StringArray, characters: npt.NDArray[np.bool_]) -> bool:
    return bool(characters[_bytes(column)].all())


def _bytes(column: pa.StringArray) -> npt.NDArray[np.uint8]:
    """The texts, end to end."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _decimals_shown(column: pa.StringArray) -> npt.NDArray[np.int16]:
    at = pc.find_substring(column, ".").to_numpy(zero_copy_only=False)
    lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
    return np.where(at < 0, 0, lengths - at - 1).astype(np.int16)


def _scaled(column: pa.StringArray, scale: int) -> Integers:
    try:
        exact = pc.cast(column, pa.decimal128(38, scale))
    except pa.ArrowInvalid as error:
        raise Odd(str(error)) from error
    pairs = np.frombuffer(exact.buffers()[1], np.int64).reshape(-1, 2)
    pairs = pairs[exact.offset : exact.offset + len(exact)]
    low = pairs[:, 0]
    if len(low) and (pairs[:, 1].any() or low.min() < 0 or low.max() > _MOST):
        raise Odd("numbers of more than 18 digits")
    return np.ascontiguousarray(low)


# --- times ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Local:
    """Wall-clock times in microseconds since 1970, and offsets from UTC where the texts name them."""

    at: Integers
    offset: Integers | None

    def take(self, rows: Any) -> Local:
        return Local(self.at[rows], None if self.offset is None else self.offset[rows])


class Times:
    """Reads a column's texts. Each different day and each different time of day is read once, by the
    same functions that read row by row."""

    def __init__(self, layout: Layout, timezone: str) -> None:
        self._style = layout.date_style
        self._zone = zone(timezone)
        self._reader = TimeReader(layout.date_style, timezone)
        self._days: dict[str, int] = {}
        self._clocks: dict[str, tuple[int, int | None]] = {}
        self._names_offset: bool | None = None

    def local(self, days: pa.StringArray, clocks: pa.StringArray | None) -> Local:
        """`clocks`: the column of times of day, where it stands apart."""
        try:
            if self._style in EPOCH_UNITS:
                at = _epochs(days, EPOCH_UNITS[self._style][1])
                return Local(at, np.zeros(len(at), np.int64))
            if self._style == EXCEL:
                return Local(_excel(days), None)
            return self._as_before(self._texts(pc.utf8_trim_whitespace(days), clocks))
        except (BadTime, ValueError, OverflowError) as error:
            raise Odd(str(error)) from error

    def _as_before(self, local: Local) -> Local:
        """Either all times of a file name their offset from UTC, or none does."""
        if self._names_offset is None:
            self._names_offset = local.offset is not None
        if self._names_offset is not (local.offset is not None):
            raise Odd("only some times name an offset")
        return local

    def _texts(self, days: pa.StringArray, clocks: pa.StringArray | None) -> Local:
        if clocks is not None:
            return self._joined(days, pc.utf8_trim_whitespace(clocks))
        parts = _parts(days, self._style)
        if parts is None:
            return self._whole(days)
        return self._joined(*parts)

    def _joined(self, days: pa.StringArray, clocks: pa.StringArray | None) -> Local:
        at = _looked_up(days, self._day)
        if clocks is None:
            return Local(at, None)
        codes, texts = _encoded(clocks)
        read = [self._clock(text) for text in texts]
        return Local(
            at + np.array([clock for clock, _ in read], np.int64)[codes], _offsets(read, codes)
        )

    def _whole(self, texts: pa.StringArray) -> Local:
        """Every different text by itself."""
        codes, different = _encoded(texts)
        read = [self._reader.local(text) for text in different]
        at = np.array([_microseconds(local) for local, _ in read], np.int64)[codes]
        pairs = [(0, None if offset is None else offset // MICROSECOND) for _, offset in read]
        return Local(at, _offsets(pairs, codes))

    def _day(self, text: str) -> int:
        day = self._days.get(text)
        if day is None:
            day = self._days[text] = (DAY_READERS[self._style](text) - EPOCH.date()).days * DAY
        return day

    def _clock(self, text: str) -> tuple[int, int | None]:
        """Microseconds since midnight, and the offset."""
        clock = self._clocks.get(text)
        if clock is None:
            of_day, offset = read_time_of_day(text) if text else (datetime.min.time(), None)
            passed = datetime.combine(EPOCH, of_day) - EPOCH
            clock = passed // MICROSECOND, None if offset is None else offset // MICROSECOND
            self._clocks[text] = clock
        return clock

    def utc(self, local: Local, *, ascending: bool, previous: int | None) -> Integers:
        """The moments. Local times that happened twice are told apart by the order of the rows."""
        if local.offset is not None:
            return local.at - local.offset
        if self._zone is UTC:
            return local.at
        return _to_utc(local.at, self._zone, ascending=ascending, previous=previous)


MICROSECOND: Final = timedelta(microseconds=1)


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _encoded(texts: pa.StringArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    encoded = pc.dictionary_encode(texts)
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _looked_up(texts: pa.StringArray, read: Callable[[str], int]) -> Integers:
    codes, different = _encoded(texts)
    return np.array([read(text) for text in different], np.int64)[codes]


def _offsets(
    read: Sequence[tuple[int, int | None]], codes: npt.NDArray[np.int32]
) -> Integers | None:
    """Either every text names its offset from UTC, or none does."""
    named = [offset for _, offset in read if offset is not None]
    if not named:
        return None
    if len(named) < len(read):
        raise Odd("only some times name an offset")
    return np.array(named, np.int64)[codes]


def _parts(
    texts: pa.StringArray, style: str
) -> tuple[pa.StringArray, pa.StringArray | None] | None:
    """Days and times of day, when all texts are put together alike; else None."""
    if style == NAMED_MONTH or not len(texts):
        return None
    first = texts[0].as_py()
    day, clock = split(first, style)
    lengths = pc.binary_length(texts)
    limits = pc.min_max(lengths).as_py()
    if limits["min"] == limits["max"] == len(first) and len(_bytes(texts)) == len(first) * len(
        texts
    ):
        if not clock and len(day) == len(first):
            return _whole_days(texts, day)
        return _cut(texts, first, day)
    return _cut_at_blank(texts)


def _whole_days(texts: pa.StringArray, day: str) -> tuple[pa.StringArray, None] | None:
    return None if len(day) in (12, 14) and day.isdigit() else (texts, None)


def _cut(
    texts: pa.StringArray, first: str, day: str
) -> tuple[pa.StringArray, pa.StringArray] | None:
    """All texts have one length: cut them where the first is cut, if that is right for all."""
    at = len(day)
    mark = first[at : at + 1]
    behind = at + 1 if mark in (" ", "T") else at
    rows = _bytes(texts).reshape(len(texts), len(first))
    if not first.isascii() or (rows[:, :at] == ord(" ")).any():
        return None
    if behind > at and (rows[:, at] != ord(mark)).any():
        return None
    if behind == at and not _PLAIN[rows].all():  # 20200131235900: digits only
        return None
    if mark != "T" and (rows[:, :at] == ord("T")).any():
        return None
    clocks = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(texts, behind, len(first)))
    return pc.utf8_slice_codeunits(texts, 0, at), clocks


def _cut_at_blank(
    texts: pa.StringArray,
) -> tuple[pa.StringArray, pa.StringArray | None] | None:
    """Texts of different lengths with one blank each, or without any blank or T."""
    for mark in (" ", "T"):
        pieces = pc.split_pattern(texts, mark, max_splits=1)
        lengths = pc.list_value_length(pieces)
        limits = pc.min_max(lengths).as_py()
        if limits["min"] == limits["max"] == 2:
            flat = pc.list_flatten(pieces)
            even = pa.array(np.arange(0, len(flat), 2))
            return flat.take(even), pc.utf8_trim_whitespace(flat.take(pc.add(even, 1)))
        if limits["max"] > 1:
            return None
    all_digits = _PLAIN[_bytes(texts)].all()
    return None if all_digits else (texts, None)


def _epochs(texts: pa.StringArray, nanoseconds: int) -> Integers:
    """Unix times of one unit, in microseconds."""
    [numbers] = decimals([pc.utf8_trim_whitespace(texts)])
    unit = 10**numbers.scale
    whole, part = np.divmod(numbers.scaled, unit)
    if numbers.scale > 9 or (len(whole) and int(whole.max()) > _MOST // nanoseconds):
        raise Odd("no Unix times of this unit")
    at: Integers = (whole * nanoseconds + part * nanoseconds // unit) // 1_000
    if len(at) and int(at.max()) > _LATEST:
        raise Odd("times beyond any calendar")
    return at


_LATEST: Final = _microseconds(datetime(9999, 12, 31))  # noqa: DTZ001 naive UTC, as everywhere here


def _excel(texts: pa.StringArray) -> Integers:
    [numbers] = decimals([pc.utf8_trim_whitespace(texts)])
    unit = 10**numbers.scale
    days, part = np.divmod(numbers.scaled, unit)
    if numbers.scale > 13 or (
        len(days) and not (days.min() in EXCEL_DAYS and days.max() in EXCEL_DAYS)
    ):
        raise Odd("no spreadsheet's days")
    seconds = (part * DAY_SECONDS * 2 + unit) // (2 * unit)
    at: Integers = _microseconds(EXCEL_EPOCH) + days * DAY + seconds * SECOND
    return at


def _to_utc(local: Integers, where: tzinfo, *, ascending: bool, previous: int | None) -> Integers:
    """Each quarter of an hour is looked up once; only hours that happened twice go row by row."""
    quarters, codes = np.unique(local // QUARTER, return_inverse=True)
    early, late = (
        np.array(
            [_offset_at(int(quarter) * QUARTER, where, fold) for quarter in quarters], np.int64
        )
        for fold in (0, 1)
    )
    if (early > late).any():  # the clocks had gone forward: a time that never was
        raise Odd("a time that did not exist")
    early, late = early[codes], late[codes]
    if previous is None and not ascending and (early != late).any():
        raise Odd("a time that happened twice, before it is known that the file runs backwards")
    utc = local + (early if ascending else late)
    for row in np.flatnonzero(early != late):
        before = int(utc[row - 1]) if row else previous
        first, second = (early, late) if ascending else (late, early)
        at = int(local[row] + first[row])
        passed = before is not None and (at <= before if ascending else at >= before)
        utc[row] = int(local[row] + second[row]) if passed else at
    return utc


def _offset_at(local: int, where: tzinfo, fold: int) -> int:
    """What to add to this local time for UTC."""
    moment = EPOCH + timedelta(microseconds=local)
    return (as_utc(moment, where, fold) - moment) // MICROSECOND


# --- spans ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ColumnSpans:
    """As `engine.importing.reading.Spans`, for whole columns."""

    times: Times
    interval: int
    calendar: str
    where: tzinfo
    is_close: bool
    _sessions: dict[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of_layout(cls, layout: Layout, interval: int, calendar: str, timezone: str) -> ColumnSpans:
        is_close = layout.stamp == "close"
        times = Times(layout, timezone)
        return cls(times, interval * SECOND, calendar, zone(timezone), is_close)

    def of(
        self, local: Local, *, ascending: bool, previous: int | None
    ) -> tuple[Integers, Integers]:
        """[opened_at, closed_at) of each row, in microseconds since 1970."""
        if not self.interval % DAY and len(local.at):
            dates = (local.at % DAY == 0) & (True if local.offset is None else local.offset == 0)
            if dates.all():
                return self._of_days(local.at)
            if dates.any():
                raise Odd("dates alone among times")
        moments = self.times.utc(local, ascending=ascending, previous=previous)
        if self.is_close:
            return moments - self.interval, moments
        return moments, moments + self.interval

    def _of_days(self, local: Integers) -> tuple[Integers, Integers]:
        days, codes = np.unique(local // DAY, return_inverse=True)
        spans = np.array([self._session(int(day)) for day in days], np.int64).reshape(-1, 2)[codes]
        return spans[:, 0], spans[:, 1]

    def _session(self, day: int) -> tuple[int, int]:
        span = self._sessions.get(day)
        if span is None:
            first: date = EPOCH.date() + timedelta(days=day)
            try:
                both = session(first, self.interval // DAY, self.calendar, self.where)
            except BadTime as error:
                raise Odd(str(error)) from error
            span = self._sessions[day] = _microseconds(both[0]), _microseconds(both[1])
        return span


def as_moment(microseconds: Any) -> datetime:
    """A naive moment in UTC."""
    return EPOCH + timedelta(microseconds=int(microseconds))
