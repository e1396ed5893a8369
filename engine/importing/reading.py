"""Every row of a file as one bar, checked: a single bad row refuses the file, with line, value and reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Final

from engine.importing.dates import BadTime, TimeReader, zone
from engine.importing.days import session
from engine.importing.files import Table, open_table
from engine.importing.layout import Layout
from engine.importing.problems import BadFile, Problem
from shared.domain.market import interval_text

DAY_SECONDS: Final = 86_400
MOST_PROBLEMS: Final = 5
"""Bad rows told at once; a file with more is wrong in some way that these already show."""

STEPS_WATCHED: Final = 2_000
TELL_EVERY: Final = 1_000

_NUMBER: Final = r" *\+?(?:\d{1,25}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})? *"
_NUMERIC: Final = re.compile(_NUMBER)
_RECORD: Final = re.compile("\t".join([_NUMBER] * 5))
_MIDNIGHT: Final = time(0)
_NO_ADJUSTED: Final = r"\N"


@dataclass(frozen=True, slots=True)
class Series:
    """What the rows are bars of."""

    interval: int
    calendar: str = "24/7"
    timezone: str = "UTC"
    symbol: str = ""


@dataclass(slots=True)
class Row:
    """A row that passed: its bar's span as naive moments in UTC, and its numbers as they were written."""

    line: int
    opened_at: datetime
    closed_at: datetime
    numbers: str

    def copy_line(self) -> str:
        """As COPY takes it: see `engine.history.Adding.take`."""
        return f"{self.opened_at.isoformat()}+00\t{self.closed_at.isoformat()}+00\t{self.numbers}"


def rows(
    path: Path,
    file_name: str,
    layout: Layout,
    series: Series,
    *,
    most: int | None = None,
    tell: Callable[[float, int], None] = lambda fraction, done: None,
) -> Iterator[Row]:
    """The file's bars in its own order, or BadFile with its first few problems, at the latest at the end.

    `most` looks at that many rows only. `tell` hears how far it is: the fraction read, and rows so far.
    """
    with open_table(path, file_name, layout.delimiter) as table:
        if problems := layout.problems(table.header):
            raise BadFile(file_name, problems)
        checker = _Checker(file_name, layout, series, table)
        yield from checker.check(table, most, tell)
        checker.refuse_if_bad()


class Spans:
    """From the text of a time to the bar's [opened_at, closed_at), as naive moments in UTC."""

    def __init__(self, layout: Layout, series: Series) -> None:
        self._times = TimeReader(layout.date_style, series.timezone)
        self._zone = zone(series.timezone)
        self._interval = timedelta(seconds=series.interval)
        self._calendar = series.calendar
        self._days = 0 if series.interval % DAY_SECONDS else series.interval // DAY_SECONDS
        self._is_close = layout.stamp == "close"

    def of(
        self, text: str, previous: datetime | None = None, *, ascending: bool = True
    ) -> tuple[datetime, datetime]:
        """A date alone, for bars of whole days, spans the session of the calendar on that date."""
        if self._days:
            local, offset = self._times.local(text)
            if local.time() == _MIDNIGHT and not offset:
                return session(local.date(), self._days, self._calendar, self._zone)
        moment = self._times.read(text, previous, ascending=ascending)
        if self._is_close:
            return moment - self._interval, moment
        return moment, moment + self._interval


class _Checker:
    """Reads rows one after the other and remembers what was wrong with them."""

    def __init__(self, file_name: str, layout: Layout, series: Series, table: Table) -> None:
        self._file_name = file_name
        self._layout = layout
        self._series = series
        self._header = table.header
        self._spans = Spans(layout, series)
        self._interval = timedelta(seconds=series.interval)
        self._at = {name: self._header.index(column) for name, column in _columns(layout).items()}
        self._numbers_at = [
            self._at.get(name, -1) for name in ("open", "high", "low", "close", "volume")
        ]
        self._now = datetime.now(UTC).replace(tzinfo=None)
        self._problems: list[Problem] = []
        self._previous: Row | None = None
        self._ascending: bool | None = None
        self._steps: Counter[timedelta] = Counter()
        self._other_symbols: Counter[str] = Counter()
        self._count = 0

    def check(
        self, table: Table, most: int | None, tell: Callable[[float, int], None]
    ) -> Iterator[Row]:
        wanted = self._series.symbol if "symbol" in self._at else None
        for cells in islice(table.rows, most):
            if not cells:
                continue  # an empty line
            if wanted is not None and len(cells) == len(self._header):
                symbol = cells[self._at["symbol"]].strip()
                if symbol != wanted:
                    self._other_symbols[symbol] += 1
                    continue
            row = self._row(table.line, cells)
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
        if not self._problems:
            self._watch_interval()
        if self._problems:
            raise BadFile(self._file_name, self._problems)

    def _row(self, line: int, cells: list[str]) -> Row | None:
        """The row's bar; None once what is wrong with it has been noted."""
        if len(cells) != len(self._header):
            reason = f"the row has {len(cells)} cells, the header {len(self._header)}"
            self._note(line, "", "", reason)
            return None
        numbers = self._numbers(line, cells)
        span = self._span(line, cells)
        if numbers is None or span is None or not self._in_order(line, cells, span):
            return None
        row = Row(line, *span, numbers)
        self._previous = row
        return row

    def _note(self, line: int, column: str, value: str, reason: str, remedy: str = "") -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(reason, line, column, value, remedy))

    # numbers

    def _numbers(self, line: int, cells: list[str]) -> str | None:
        """The five numbers and the adjusted close, as COPY takes them: the file's own digits."""
        texts = [cells[i] if i >= 0 else "0" for i in self._numbers_at]
        if self._layout.decimal == ",":
            texts = [text.replace(",", ".") for text in texts]
        record = "\t".join(texts)
        if not _RECORD.fullmatch(record):
            self._note_bad_number(line, cells)
            return None
        opened, high, low, closed = map(Decimal, texts[:4])
        if not 0 < low <= opened <= high or not low <= closed <= high:
            self._note_bad_prices(line, cells, opened, high, low, closed)
            return None
        adjusted = self._adjusted(line, cells)
        return None if adjusted is None else f"{record}\t{adjusted}"

    def _adjusted(self, line: int, cells: list[str]) -> str | None:
        at = self._at.get("adjusted_close")
        if at is None:
            return _NO_ADJUSTED
        text = cells[at].replace(",", ".") if self._layout.decimal == "," else cells[at]
        if not _NUMERIC.fullmatch(text):
            self._note(line, self._header[at], cells[at], _why_no_number(cells[at]))
            return None
        return text

    def _note_bad_number(self, line: int, cells: list[str]) -> None:
        for i in (i for i in self._numbers_at if i >= 0):
            text = cells[i].replace(",", ".") if self._layout.decimal == "," else cells[i]
            if not _NUMERIC.fullmatch(text):
                remedy = "Delete the row, or put the number in" if not cells[i].strip() else ""
                self._note(line, self._header[i], cells[i], _why_no_number(cells[i]), remedy)
                return

    def _note_bad_prices(
        self,
        line: int,
        cells: list[str],
        opened: Decimal,
        high: Decimal,
        low: Decimal,
        closed: Decimal,
    ) -> None:
        """Which price cannot be. They are never put right silently: what would be right nobody knows."""
        named = {"open": opened, "high": high, "low": low, "close": closed}
        for name, price in named.items():
            if price <= 0:
                self._note(
                    line, self._column(name), cells[self._at[name]], "a price must be above zero"
                )
                return
        for name in ("open", "close", "low"):
            if named[name] > high:
                reason = f"the {name} is above the high of {high}"
                self._note(line, self._column(name), cells[self._at[name]], reason)
                return
        for name in ("open", "close"):
            if named[name] < low:
                reason = f"the {name} is below the low of {low}"
                self._note(line, self._column(name), cells[self._at[name]], reason)
                return

    # times

    def _span(self, line: int, cells: list[str]) -> tuple[datetime, datetime] | None:
        text = cells[self._at["time"]]
        if "time_of_day" in self._at:
            text = f"{text.strip()} {cells[self._at['time_of_day']].strip()}"
        previous = self._previous.opened_at if self._previous else None
        try:
            return self._spans.of(text, previous, ascending=self._ascending is not False)
        except (BadTime, OverflowError) as error:
            reason = str(error) if text.strip() else "the cell is empty"
            remedy = f"Times are read as {self._layout.date_style}"
            self._note(line, self._layout.time, text, reason, remedy)
            return None

    def _in_order(self, line: int, cells: list[str], span: tuple[datetime, datetime]) -> bool:
        opened_at, closed_at = span
        text = cells[self._at["time"]]
        if closed_at > self._now:
            reason = f"this bar closes in the future ({closed_at:%Y-%m-%d %H:%M} UTC)"
            self._note(line, self._layout.time, text, reason, "Delete the row: it is not over yet")
            return False
        before = self._previous
        if before is None:
            return True
        if self._ascending is None and opened_at != before.opened_at:
            self._ascending = opened_at > before.opened_at
        follows = (
            closed_at <= before.opened_at
            if self._ascending is False
            else opened_at >= before.closed_at
        )
        if not follows:
            self._note(line, self._layout.time, text, self._why_not_after(before, opened_at))
            return False
        if self._count < STEPS_WATCHED:
            self._steps[abs(opened_at - before.opened_at)] += 1
        return True

    def _why_not_after(self, before: Row, opened_at: datetime) -> str:
        if opened_at == before.opened_at:
            return f"has the same time as line {before.line}"
        way = "ascending" if self._ascending else "descending"
        if (opened_at > before.opened_at) == self._ascending:
            length = interval_text(self._series.interval)
            return f"overlaps line {before.line}: the two are less than {length} apart"
        return (
            f"comes out of order after line {before.line}: the file's times are {way} until there"
        )

    def _watch_interval(self) -> None:
        """A file whose rows are never one interval apart is a file of another interval."""
        is_daily = self._series.interval % DAY_SECONDS == 0
        if is_daily or not self._steps or self._steps[self._interval]:
            return
        usual, times = self._steps.most_common(1)[0]
        if times > 2:
            usual_text = interval_text(max(int(usual.total_seconds()), 1))
            reason = (
                f"no two rows are {interval_text(self._series.interval)} apart; usually they are"
                f" {usual_text} apart"
            )
            self._problems.append(
                Problem(reason, remedy=f"Import it with the interval {usual_text}")
            )

    def _nothing_there(self) -> Problem:
        if self._other_symbols:
            names = ", ".join(name for name, _ in self._other_symbols.most_common(20))
            return Problem(
                f"no row is of the symbol {self._series.symbol}", remedy=f"The file has {names}"
            )
        return Problem("there are no rows below the header")

    def _column(self, name: str) -> str:
        return self._header[self._at[name]]


def _columns(layout: Layout) -> dict[str, str]:
    """What each word is called in the file's header."""
    words = (
        "time",
        "time_of_day",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "adjusted_close",
        "symbol",
    )
    return {word: column for word in words if (column := getattr(layout, word))}


def _why_no_number(text: str) -> str:
    plain = text.strip().lower()
    if not plain:
        return "the cell is empty"
    if plain in ("nan", "null", "none", "n/a", "na", "-", "inf", "infinity", "-inf"):
        return "stands for a missing number"
    if re.fullmatch(_NUMBER, plain.removeprefix("-")):
        return "is negative"
    if re.fullmatch(r"[\d.,' ]+", plain):
        return "is a number with thousands marks, or another decimal mark than the rest"
    return "is no number"
