"""A table of bars or trades, checked and read column by column; `Odd` when it is not plain and in order.

What is wrong is not said here: `engine.importing.reading` goes through the same table row by row then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.importing.columns import MICROSECOND, ColumnSpans, Local, decimals
from engine.importing.dates import EPOCH, zone
from engine.importing.layout import PRICES, Layout
from engine.importing.reading import STEPS_WATCHED, Series, no_step_fits
from engine.importing.sources import Source
from engine.importing.tables import Odd, Table, open_table
from engine.importing.trades import Trades
from engine.packing import Block, Decimals, Integers

ALL_ROWS: Final = slice(None)
Tell = Callable[[float, int], None]


def bar_blocks(
    source: Source, layout: Layout, series: Series, keys: Collection[str] | None, tell: Tell
) -> Iterator[tuple[str, Block]]:
    """(symbol in the file, its bars), block by block. `keys`: the symbols that are wanted; None for all."""
    courses: dict[str, _Course] = {}
    spans = _spans(layout, series)
    for cells in _cells(source, layout, series, tell):
        local = _local(cells, layout, spans)
        prices = decimals([cells[getattr(layout, name)] for name in PRICES], layout.decimal)
        others = [
            decimals([cells[name]], layout.decimal)[0] if name else None
            for name in (layout.volume, layout.adjusted_close)
        ]
        _check_prices(prices)
        for key, rows in _by_symbol(cells, layout, keys):
            course = courses.setdefault(key, _Course())
            opened, closed = course.spans(spans, local.take(rows))
            course.follow(opened, closed)
            volume, adjusted = (None if each is None else each.take(rows) for each in others)
            four = [price.take(rows) for price in prices]
            volume = _nothing(len(opened)) if volume is None else volume
            yield key, Block(opened, closed, four[0], four[1], four[2], four[3], volume, adjusted)
    _finish(courses, series)


def trade_blocks(
    source: Source, layout: Layout, series: Series, keys: Collection[str] | None, tell: Tell
) -> Iterator[tuple[str, Trades]]:
    """(symbol in the file, its trades), block by block."""
    courses: dict[str, _Course] = {}
    spans = replace(_spans(layout, series), interval=1, is_close=False)
    for cells in _cells(source, layout, series, tell):
        local = _local(cells, layout, spans)
        [price] = decimals([cells[layout.price]], layout.decimal)
        [volume] = decimals([cells[layout.volume]], layout.decimal)
        if (price.scaled <= 0).any():
            raise Odd("a price that is not above zero")
        for key, rows in _by_symbol(cells, layout, keys):
            course = courses.setdefault(key, _Course())
            at, _ = course.spans(spans, local.take(rows))
            course.follow(at, at)
            yield key, Trades(at, price.take(rows), volume.take(rows), course.runs_backwards)
    _finish(courses, None)


def _spans(layout: Layout, series: Series) -> ColumnSpans:
    if layout.thousands:
        raise Odd("numbers with thousands marks")
    zone(series.timezone)
    return ColumnSpans.of_layout(layout, series.interval, series.calendar, series.timezone)


def _cells(
    source: Source, layout: Layout, series: Series, tell: Tell
) -> Iterator[dict[str, pa.StringArray]]:
    with open_table(source, layout.delimiter, has_header=layout.has_header) as table:
        if layout.problems(table.header):
            raise Odd("the layout does not fit")
        yield from _told(table, layout, tell)


def _told(table: Table, layout: Layout, tell: Tell) -> Iterator[dict[str, pa.StringArray]]:
    done = 0
    for cells in table.columns(list(layout.columns().values())):
        yield cells
        done += len(next(iter(cells.values())))
        tell(table.fraction, done)


def _local(cells: dict[str, pa.StringArray], layout: Layout, spans: ColumnSpans) -> Local:
    clocks = cells[layout.time_of_day] if layout.time_of_day else None
    return spans.times.local(cells[layout.time], clocks)


def _check_prices(prices: list[Decimals]) -> None:
    opened, high, low, closed = (price.scaled for price in prices)
    fits = (low > 0) & (low <= opened) & (opened <= high) & (low <= closed) & (closed <= high)
    if not fits.all():
        raise Odd("prices that cannot be")


def _nothing(count: int) -> Decimals:
    """The volume of a file that names none."""
    return Decimals(np.zeros(count, np.int64), 0, np.zeros(count, np.int16))


def _by_symbol(
    cells: dict[str, pa.StringArray], layout: Layout, keys: Collection[str] | None
) -> Iterator[tuple[str, Any]]:
    """The rows of each symbol that is wanted, in the file's order."""
    if not layout.symbol:
        yield "", ALL_ROWS
        return
    encoded = pc.dictionary_encode(pc.utf8_trim_whitespace(cells[layout.symbol]))
    names = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    if len(names) == 1:
        if keys is None or names[0] in keys:
            yield names[0], ALL_ROWS
        return
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(names) + 1))
    for number, name in enumerate(names):
        if keys is None or name in keys:
            yield name, order[ends[number] : ends[number + 1]]


@dataclass(slots=True)
class _Course:
    """How the times of one symbol run."""

    last: tuple[int, int] | None = None
    ascending: bool | None = None
    opened: list[int] = field(default_factory=list)
    count: int = 0

    @property
    def runs_backwards(self) -> bool:
        return self.ascending is False

    def spans(self, spans: ColumnSpans, local: Local) -> tuple[Integers, Integers]:
        if self.ascending is None:
            different = np.flatnonzero(local.at != local.at[0])
            start = local.at[0]
            if len(different):
                self.ascending = bool(local.at[different[0]] > start)
        previous = self.last[0] if self.last else None
        return spans.of(local, ascending=self.ascending is not False, previous=previous)

    def follow(self, opened: Integers, closed: Integers) -> None:
        """Each row begins where the one before has ended, or ends where it begins."""
        now = (datetime.now(UTC).replace(tzinfo=None) - EPOCH) // MICROSECOND
        if int(closed.max()) > now:
            raise Odd("a time in the future")
        if self.last is not None:
            opened = np.concatenate([[self.last[0]], opened])
            closed = np.concatenate([[self.last[1]], closed])
        runs_on = (
            closed[1:] <= opened[:-1] if self.ascending is False else opened[1:] >= closed[:-1]
        )
        if not runs_on.all():
            raise Odd("times out of order")
        if len(self.opened) < STEPS_WATCHED:
            self.opened += opened[: STEPS_WATCHED - len(self.opened)].tolist()
        self.last = int(opened[-1]), int(closed[-1])
        self.count += len(opened)


def _finish(courses: dict[str, _Course], series: Series | None) -> None:
    if not courses:
        raise Odd("no rows")
    for course in courses.values():
        steps = np.abs(np.diff(np.array(course.opened, np.int64)))
        if series is not None and no_step_fits(steps, series.interval):
            raise Odd("another interval")
