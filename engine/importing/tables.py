"""A source as a table of texts: row by row for naming what is wrong, or column by column for speed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from engine.importing.problems import BadFile
from engine.importing.sources import MOST_COLUMNAR, Opened, Source, bad_byte, opened

LONGEST_LINE: Final = 100_000
"""Characters. A longer line is no bar; reading it whole could fill the memory."""

BLOCK_BYTES: Final = 1024**2
BLOCK_ROWS: Final = 65_536


class Odd(Exception):
    """Not in the plain form that is read column by column: reading row by row decides, and names what is wrong."""


@dataclass(slots=True)
class Table:
    """A table being read, once, either by `rows` or by `columns`. Its lines are counted from 1; a Parquet
    or Feather file has no lines, its rows are counted instead (`unit`)."""

    source: Source
    header: list[str]
    unit: str
    _opened: Opened
    _delimiter: str = ","
    _first_line: int = 1
    _text: io.TextIOWrapper | None = None
    _batches: Iterator[pa.RecordBatch] | None = None
    line: int = 0
    """The line of the row that came last."""

    _blocks: int = 0

    @property
    def fraction(self) -> float:
        """How much has been dealt with, 0 to 1. Blocks are read ahead, so they are counted as they come."""
        if self._blocks and self._opened.length:
            return min(self._blocks * BLOCK_BYTES / self._opened.length, 1.0)
        return self._opened.fraction

    def rows(self) -> Iterator[list[str]]:
        """Each row's cells as they are written."""
        if self._batches is not None:
            for batch in self._batches:
                texts = [_as_text(self.source, n, c) for n, c in _columns_of(batch)]
                for row in zip(*(column.to_pylist() for column in texts), strict=True):
                    self.line += 1
                    yield list(row)
            return
        assert self._text is not None
        reader = csv.reader(_lines(self._text, self.source), delimiter=self._delimiter)
        try:
            for cells in reader:
                self.line = reader.line_num
                if self.line >= self._first_line:
                    yield cells
        except csv.Error as error:
            raise self.source.refuse(f"is no CSV there: {error}", line=reader.line_num) from error

    def columns(self, names: Sequence[str]) -> Iterator[dict[str, pa.StringArray]]:
        """The named columns, some ten thousand rows at a time; Odd where the table is not plain."""
        at = {name: self.header.index(name) for name in names}
        for batch in self._batches if self._batches is not None else self._read_csv(at.values()):
            if batch.num_rows:
                yield {
                    name: _as_text(
                        self.source, name, batch.column(f"c{i}" if self._batches is None else i)
                    )
                    for name, i in at.items()
                }

    def _read_csv(self, wanted: Any) -> Iterator[pa.RecordBatch]:
        assert self._text is not None
        names = [f"c{i}" for i in range(len(self.header))]
        try:
            blocks = pa.csv.open_csv(
                pa.PythonFile(self._text.detach(), "r"),
                read_options=pa.csv.ReadOptions(
                    block_size=BLOCK_BYTES, column_names=names, skip_rows=self._first_line - 1
                ),
                parse_options=pa.csv.ParseOptions(delimiter=self._delimiter),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=[f"c{i}" for i in sorted(set(wanted))],
                    strings_can_be_null=False,
                ),
            )
            for block in blocks:
                self._blocks += 1
                yield block
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise Odd(str(error)) from error


@contextmanager
def open_table(source: Source, delimiter: str = ",", *, has_header: bool = True) -> Iterator[Table]:
    """The source as a table. Whatever is wrong with the file itself is raised as BadFile."""
    with opened(source) as file:
        if file.kind != "text":
            yield _columnar(source, file)
            return
        # newline="" as csv wants it; utf-8-sig drops the mark that some editors put first.
        text = io.TextIOWrapper(file.stream, encoding="utf-8-sig", newline="")
        try:
            line = _first_line(source)
            header = _header(source, line, delimiter, has_header=has_header)
            yield Table(source, header, "line", file, delimiter, 2 if has_header else 1, _text=text)
        except UnicodeDecodeError as error:
            raise bad_byte(source) from error


def first_line(source: Source) -> str:
    """The first line of a text, for finding the delimiter; "" for Parquet and Feather."""
    with opened(source) as file:
        kind = file.kind
    return _first_line(source) if kind == "text" else ""


def _first_line(source: Source) -> str:
    with opened(source) as file:
        text = io.TextIOWrapper(file.stream, encoding="utf-8-sig", newline="")
        try:
            line = next(_lines(text, source), "").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise bad_byte(source) from error
    if not line.strip():
        raise source.refuse("line 1, which should name the columns, is empty")
    return line


def _header(source: Source, line: str, delimiter: str, *, has_header: bool) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise source.refuse(f"is no CSV there: {error}", line=1) from error
    if has_header:
        return [name.strip() for name in cells]
    return [f"column {number}" for number in range(1, len(cells) + 1)]


def _lines(text: io.TextIOWrapper, source: Source) -> Iterator[str]:
    number = 0
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            reason = (
                f"the line is longer than {LONGEST_LINE:,} characters: this is no table of bars"
            )
            raise source.refuse(reason, line=number, value=line[:100])
        if "\0" in line:
            reason = "holds a zero byte: this is no text, or the file was cut while it was written"
            raise source.refuse(reason, "Fetch it again", line=number)
        yield line


# --- Parquet and Feather ----------------------------------------------------------------------------


def _columnar(source: Source, file: Opened) -> Table:
    what = "Parquet" if file.kind == "parquet" else "Feather"
    try:
        schema, batches = (_parquet if file.kind == "parquet" else _feather)(source, file)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, BadFile):
            raise
        raise _damaged(source, what, error) from error
    _refuse_long(source, schema)
    return Table(source, schema, "row", file, _batches=_guarded(source, what, batches))


def _parquet(source: Source, file: Opened) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    parquet = pa.parquet.ParquetFile(file.stream)
    meta = parquet.metadata
    size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    if size > MOST_COLUMNAR:
        raise source.refuse("unpacks to more than 4 GB", "Split it")
    return list(parquet.schema_arrow.names), parquet.iter_batches(batch_size=BLOCK_ROWS)


def _feather(source: Source, file: Opened) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    start = file.stream.read(6)
    file.stream.seek(0)
    if start != b"ARROW1":  # the first version of the format
        table = pa.feather.read_table(file.stream)
        return list(table.column_names), iter(table.to_batches(max_chunksize=BLOCK_ROWS))
    reader = pa.ipc.open_file(file.stream)
    names = list(reader.schema.names)
    return names, _small(reader.get_batch(i) for i in range(reader.num_record_batches))


def _small(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, BLOCK_ROWS):
            yield batch.slice(start, BLOCK_ROWS)


def _guarded(
    source: Source, what: str, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Damage deep inside such a file shows only when it is read."""
    try:
        yield from batches
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(source, what, error) from error


def _damaged(source: Source, what: str, error: Exception) -> BadFile:
    told = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return source.refuse(f"is a damaged or cut {what} file ({told})", "Write it again")


def _refuse_long(source: Source, names: Sequence[str]) -> None:
    if not names:
        raise source.refuse("has no columns")


def _columns_of(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    return zip(batch.schema.names, batch.columns, strict=True)


def _as_text(source: Source, name: str, column: pa.Array) -> pa.StringArray:
    """A column of any plain type as text that says exactly the same; nothing there is ""."""
    try:
        return _text_of(source, name, column)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise source.refuse(f"the column cannot be read ({error})", value=name) from error


def _text_of(source: Source, name: str, column: pa.Array) -> pa.StringArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_string(kind) and not column.null_count:
        return column
    if pa.types.is_timestamp(kind):
        column = _timestamps(column)
    elif not _is_plain(kind):
        reason = f"the column is of type {kind}, which is neither number, text nor time"
        raise source.refuse(reason, "Write it as one of these", value=name)
    return pc.fill_null(pc.cast(column, pa.string()), "")


def _timestamps(column: pa.Array) -> pa.Array:
    """With a zone: in UTC, marked Z. Without: as it stands."""
    zoned = column.type.tz is not None
    texts = pc.cast(pc.cast(column, pa.timestamp(column.type.unit)), pa.string())
    return pc.binary_join_element_wise(texts, "Z", "") if zoned else texts


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_date(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_null(kind)
    )
