"""Every row of a source as one bar or trade, checked: a bad row refuses it, with line, value and reason.

This is the judge: slow, exact, and able to name what is wrong. `engine.importing.blocks` reads what is
plain to the same bars, many times faster.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Final

import numpy as np

from engine.importing.dates import BadTime, TimeReader, zone
from engine.importing.days import session
from engine.importing.layout import PRICES, Layout
from engine.importing.problems import BadFile, Problem
from engine.importing.sources import Source
from engine.importing.tables import Table, open_table
from engine.packing import Integers
from shared.domain.market import interval_text

DAY_SECONDS: Final = 86_400
MOST_PROBLEMS: Final = 5
"""Bad rows told at once; a file with more is wrong in some way that these already show."""

STEPS_WATCHED: Final = 2_000
TELL_EVERY: Final = 1_000

_NUMBER: Final = r" *\+?(?:\d{1,25}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})? *"
_NUMERIC: Final = re.compile(_NUMBER)
_RECORD: Final = re.compile("\t".join([_NUMBER] * 5))
_PAIR: Final = re.compile("\t".join([_NUMBER] * 2))
_MIDNIGHT: Final = time(0)
_NO_ADJUSTED: Final = r"\N"


@dataclass(frozen=True, slots=True)
class Series:
    """What the rows are bars of."""

    interval: int
    calendar: str = "24/7"
    timezone: str = "UTC"


@dataclass(slots=True)
class Row:
    """A row that passed: its bar's span as naive moments in UTC, and its numbers as they were written.

    Of a trade, opening and close are its time, and the numbers price and volume. `key` is the file's own
    symbol.
    """

    line: int
    opened_at: datetime
    closed_at: datetime
    numbers: str
    key: str = ""

    def copy_line(self) -> str:
        """As COPY takes it: see `engine.history.Adding.take`."""
        return f"{self.opened_at.isoformat()}+00\t{self.closed_at.isoformat()}+00\t{self.numbers}"


def rows(
    source: Source,
    layout: Layout,
    series: Series,
    *,
    keys: Collection[str] | None = None,
    most: int | None = None,
    tell: Callable[[float, int], None] = lambda fraction, done: None,
) -> Iterator[Row]:
    """The rows in the file's own order, or BadFile with its first few problems, at the latest at the end.

    `keys` are the symbols wanted of a file with several; None for all. `most` looks at that many rows
    only. `tell` hears how far it is: the fraction read, and rows so far.
    """
    with open_table(source, layout.delimiter, has_header=layout.has_header) as table:
        if problems := layout.problems(table.header):
            raise BadFile(source.title, problems)
        checker = _Checker(source.title, layout, series, table, keys)
        yield from checker.check(table, most, tell)
        checker.refuse_if_bad()


def no_step_fits(steps: Integers, interval: int) -> bool:
    """Whether the rows are never `interval` apart though they are often equally far from each other."""
    if not interval % DAY_SECONDS or not len(steps):
        return False
    _, counts = np.unique(steps, return_counts=True)
    return not (steps == interval * 1_000_000).any() and int(counts.max()) > 2


class Spans:
    """From the text of a time to the bar's [opened_at, closed_at), as naive moments in UTC.

    A trade opens and closes at its time.
    """

    def __init__(self, layout: Layout, series: Series) -> None:
        self._times = TimeReader(layout.date_style, series.timezone)
        self._zone = zone(series.timezone)
        self._interval = timedelta(seconds=series.interval)
        self._calendar = series.calendar
        self._days = 0 if series.interval % DAY_SECONDS else series.interval // DAY_SECONDS
        self._is_close = layout.stamp == "close"
        if layout.is_trades:
            self._days, self._is_close, self._interval = 0, False, timedelta(0)
        self.named_offset = False
        """Whether the time that came last named its offset from UTC."""

    def of(
        self, text: str, previous: datetime | None = None, *, ascending: bool = True
    ) -> tuple[datetime, datetime]:
        """A date alone, for bars of whole days, spans the session of the calendar on that date."""
        local, offset = self._times.local(text)
        self.named_offset = offset is not None
        if self._days and local.time() == _MIDNIGHT and not offset:
            return session(local.date(), self._days, self._calendar, self._zone)
        moment = self._times.moment(local, offset, previous, ascending=ascending)
        if self._is_close:
            return moment - self._interval, moment
        return moment, moment + self._interval


@dataclass(slots=True)
class _Course:
    """How the rows of one symbol run."""

    previous: Row | None = None
    ascending: bool | None = None
    steps: Counter[timedelta] = field(default_factory=Counter)
    count: int = 0


class _Checker:
    """Reads rows one after the other and remembers what was wrong with them."""

    def __init__(
        self,
        file_name: str,
        layout: Layout,
        series: Series,
        table: Table,
        keys: Collection[str] | None,
    ) -> None:
        self._file_name = file_name
        self._layout = layout
        self._series = series
        self._header = table.header
        self._table = table
        self._keys = keys
        self._spans = Spans(layout, series)
        self._interval = timedelta(seconds=series.interval)
        self._at = {word: self._header.index(name) for word, name in layout.columns().items()}
        words = ("price", "volume") if layout.is_trades else (*PRICES, "volume")
        self._numbers_at = [self._at.get(word, -1) for word in words]
        self._record = _PAIR if layout.is_trades else _RECORD
        self._plain = _plain_text(layout)
        self._now = datetime.now(UTC).replace(tzinfo=None)
        self._problems: list[Problem] = []
        self._courses: dict[str, _Course] = {}
        self._other_symbols: Counter[str] = Counter()
        self._names_offset: bool | None = None
        self._count = 0

    def check(
        self, table: Table, most: int | None, tell: Callable[[float, int], None]
    ) -> Iterator[Row]:
        symbol_at = self._at.get("symbol", -1)
        for cells in islice(table.rows(), most):
            if not cells:
                continue  # an empty line
            key = ""
            if symbol_at >= 0 and len(cells) == len(self._header):
                key = cells[symbol_at].strip()
                if self._keys is not None and key not in self._keys:
                    self._other_symbols[key] += 1
                    continue
            row = self._row(table.line, cells, key)
            if row is None:
                if len(self._problems) == MOST_PROBLEMS:
                    break
                continue
            yield row
            self._count += 1
            if self._count % TELL_EVERY == 0:
                tell(table.fraction, self._count)

    def refuse_if_bad(self) -> None:
        if not self._problems and not self._count:
            self._problems.append(self._nothing_there())
        if not self._problems and not self._layout.is_trades:
            self._watch_interval()
        if self._problems:
            raise BadFile(self._file_name, self._problems)

    def _row(self, line: int, cells: list[str], key: str) -> Row | None:
        """The row's bar; None once what is wrong with it has been noted."""
        if len(cells) != len(self._header):
            self._note(line, "", "", *self._wrong_count(cells))
            return None
        course = self._courses.get(key) or self._courses.setdefault(key, _Course())
        numbers = self._numbers(line, cells)
        span = self._span(line, cells, course)
        if numbers is None or span is None or not self._in_order(line, cells, span, course):
            return None
        row = Row(line, *span, numbers, key)
        course.previous = row
        course.count += 1
        return row

    def _wrong_count(self, cells: list[str]) -> tuple[str, str]:
        there = "the header" if self._layout.has_header else "the first line"
        reason = f"the row has {len(cells)} cells, {there} {len(self._header)}"
        other = next((mark for mark in (",", ";", "\t", "|") if mark in cells[0]), "")
        if len(cells) == 1 and other and other != self._layout.delimiter:
            reason += (
                f"; it is parted by {other!r} and the lines before by {self._layout.delimiter!r}"
            )
            return reason, "Part all lines by the same mark"
        return reason, ""

    def _note(self, line: int, column: str, value: str, reason: str, remedy: str = "") -> None:
        if len(self._problems) < MOST_PROBLEMS:
            problem = Problem(reason, line, column, value, remedy, self._table.unit)
            self._problems.append(problem)

    # numbers

    def _numbers(self, line: int, cells: list[str]) -> str | None:
        """The numbers and the adjusted close, as COPY takes them: the file's own digits."""
        texts = [self._plain(cells[i]) if i >= 0 else "0" for i in self._numbers_at]
        record = "\t".join(texts)
        if not self._record.fullmatch(record):
            self._note_bad_number(line, cells)
            return None
        if self._layout.is_trades:
            if not Decimal(texts[0]):
                at = self._at["price"]
                self._note(line, self._header[at], cells[at], "a price must be above zero")
                return None
            return record
        opened, high, low, closed = map(Decimal, texts[:4])
        if not 0 < low <= opened <= high or not low <= closed <= high:
            named = {"open": opened, "high": high, "low": low, "close": closed}
            self._note_bad_prices(line, cells, named)
            return None
        adjusted = self._adjusted(line, cells)
        return None if adjusted is None else f"{record}\t{adjusted}"

    def _adjusted(self, line: int, cells: list[str]) -> str | None:
        at = self._at.get("adjusted_close")
        if at is None:
            return _NO_ADJUSTED
        text = self._plain(cells[at])
        if not _NUMERIC.fullmatch(text):
            self._note(line, self._header[at], cells[at], _why_no_number(cells[at]))
            return None
        return text

    def _note_bad_number(self, line: int, cells: list[str]) -> None:
        for i in (i for i in self._numbers_at if i >= 0):
            if not _NUMERIC.fullmatch(self._plain(cells[i])):
                remedy = "Delete the row, or put the number in" if not cells[i].strip() else ""
                self._note(line, self._header[i], cells[i], _why_no_number(cells[i]), remedy)
                return

    def _note_bad_prices(self, line: int, cells: list[str], named: dict[str, Decimal]) -> None:
        """Which price cannot be. They are never put right silently: what would be right nobody knows."""
        word, reason = _impossible(named)
        self._note(line, self._header[self._at[word]], cells[self._at[word]], reason)

    # times

    def _span(
        self, line: int, cells: list[str], course: _Course
    ) -> tuple[datetime, datetime] | None:
        text = cells[self._at["time"]]
        if "time_of_day" in self._at:
            text = f"{text.strip()} {cells[self._at['time_of_day']].strip()}"
        previous = course.previous.opened_at if course.previous else None
        try:
            span = self._spans.of(text, previous, ascending=course.ascending is not False)
            self._watch_offset()
        except (BadTime, OverflowError) as error:
            reason = str(error) if text.strip() else "the cell is empty"
            remedy = f"Times are read as {self._layout.date_style}"
            self._note(line, self._layout.time, text, reason, remedy)
            return None
        return span

    def _watch_offset(self) -> None:
        """Times that name their offset from UTC among times that do not: which zone is meant?"""
        names_offset = self._spans.named_offset
        if self._names_offset is None:
            self._names_offset = names_offset
        if names_offset is not self._names_offset:
            has = "names an offset from UTC" if names_offset else "names no offset from UTC"
            raise BadTime(f"{has}, unlike the rows before")

    def _in_order(
        self, line: int, cells: list[str], span: tuple[datetime, datetime], course: _Course
    ) -> bool:
        opened_at, closed_at = span
        text = cells[self._at["time"]]
        if closed_at > self._now:
            what = "this trade is" if self._layout.is_trades else "this bar closes"
            reason = f"{what} in the future ({closed_at:%Y-%m-%d %H:%M} UTC)"
            self._note(line, self._layout.time, text, reason, "Delete the row: it is not over yet")
            return False
        before = course.previous
        if before is None:
            return True
        if course.ascending is None and opened_at != before.opened_at:
            course.ascending = opened_at > before.opened_at
        follows = (
            closed_at <= before.opened_at
            if course.ascending is False
            else opened_at >= before.closed_at
        )
        if not follows:
            why = self._why_not_after(before, opened_at, course)
            self._note(line, self._layout.time, text, why)
            return False
        if course.count < STEPS_WATCHED:
            course.steps[abs(opened_at - before.opened_at)] += 1
        return True

    def _why_not_after(self, before: Row, opened_at: datetime, course: _Course) -> str:
        there = f"{self._table.unit} {before.line}"
        if opened_at == before.opened_at:
            return f"has the same time as {there}"
        way = "ascending" if course.ascending else "descending"
        if (opened_at > before.opened_at) == course.ascending:
            length = interval_text(self._series.interval)
            return f"overlaps {there}: the two are less than {length} apart"
        return f"comes out of order after {there}: the file's times are {way} until there"

    def _watch_interval(self) -> None:
        """A file whose rows are never one interval apart is a file of another interval."""
        for course in self._courses.values():
            steps = [step // timedelta(microseconds=1) for step in course.steps.elements()]
            if no_step_fits(np.array(steps, np.int64), self._series.interval):
                usual, _ = course.steps.most_common(1)[0]
                usual_text = interval_text(max(int(usual.total_seconds()), 1))
                reason = (
                    f"no two rows are {interval_text(self._series.interval)} apart; usually they are"
                    f" {usual_text} apart"
                )
                remedy = f"Import it with the interval {usual_text}"
                self._problems.append(Problem(reason, remedy=remedy))
                return

    def _nothing_there(self) -> Problem:
        if self._other_symbols:
            wanted = ", ".join(sorted(self._keys or ()))
            names = ", ".join(name for name, _ in self._other_symbols.most_common(20))
            return Problem(f"no row is of the symbol {wanted}", remedy=f"The file has {names}")
        if self._table.unit == "row":
            return Problem("has columns and no row")
        return Problem("there are no rows below the header")


def _impossible(named: dict[str, Decimal]) -> tuple[str, str]:
    """Which of four prices cannot be, and why."""
    for name, price in named.items():
        if price <= 0:
            return name, "a price must be above zero"
    for name in ("open", "close", "low"):
        if named[name] > named["high"]:
            return name, f"the {name} is above the high of {named['high']}"
    name = "open" if named["open"] < named["low"] else "close"
    return name, f"the {name} is below the low of {named['low']}"


def _plain_text(layout: Layout) -> Callable[[str], str]:
    """From a number as the file writes it to one with a point and no marks between thousands."""
    if layout.thousands:
        grouped = re.compile(
            rf" *\+?\d{{1,3}}(?:{re.escape(layout.thousands)}\d{{3}})+(?:{re.escape(layout.decimal)}\d*)? *"
        )

        def ungrouped(text: str) -> str:
            if grouped.fullmatch(text):
                text = text.replace(layout.thousands, "")
            return text.replace(",", ".") if layout.decimal == "," else text

        return ungrouped
    if layout.decimal == ",":
        return lambda text: text.replace(",", ".")
    return lambda text: text


def _why_no_number(text: str) -> str:
    plain = text.strip().lower()
    if not plain:
        return "the cell is empty"
    if plain in ("nan", "null", "none", "n/a", "na", "-"):
        return "stands for a missing number"
    if plain.lstrip("+-") in ("inf", "infinity"):
        return "is infinite, and no price or volume is"
    if re.fullmatch(_NUMBER, plain.removeprefix("-")):
        return "is negative"
    if re.fullmatch(r"[+-]?\d*\.?\d*e[+-]?\d+|\d{26,}|\d+\.\d{31,}", plain):
        return "has more digits than any price or volume"
    if re.fullmatch(r"[\d.,' ]+", plain):
        return "is a number with thousands marks, or another decimal mark than the rest"
    return "is no number"
