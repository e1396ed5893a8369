"""Columns as files: CSV by pieces, Parquet whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Table = Mapping[str, npt.NDArray[Any] | list[Any]]
"""Columns of one length by name: numbers, text, or instants as datetime64[ns] in UTC (NaT: none)."""

ROWS_AT_ONCE: Final = 2_000


def csv_pieces(table: Table) -> Iterator[str]:
    """The head, then rows by the thousand. Instants are ISO 8601 in UTC; no value is an empty cell."""
    yield _written([list(table)])
    count = len(next(iter(table.values()))) if table else 0
    for first in range(0, count, ROWS_AT_ONCE):
        part = [_cells(column[first : first + ROWS_AT_ONCE]) for column in table.values()]
        yield _written(zip(*part, strict=True))


def _written(rows: Any) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _cells(column: npt.NDArray[Any] | list[Any]) -> list[str]:
    if isinstance(column, list):
        return ["" if value is None else str(value) for value in column]
    if column.dtype.kind == "M":
        stamps: npt.NDArray[np.datetime64] = column.astype("datetime64[ns]")
        known = stamps[~np.isnat(stamps)].astype(np.int64)
        unit: Literal["s", "us"] = "s" if (known % 1_000_000_000 == 0).all() else "us"
        texts = np.datetime_as_string(stamps, unit=unit).tolist()
        return ["" if text == "NaT" else f"{text}+00:00" for text in texts]
    if column.dtype.kind == "f":
        return ["" if value != value else repr(value) for value in column.tolist()]
    return [str(value) for value in column.tolist()]


def parquet(table: Table) -> bytes:
    """One Parquet file, compressed; instants as timestamps in UTC, no value as null."""
    import pyarrow as pa  # only who asks for such a file waits for it
    import pyarrow.parquet as pq

    columns = {name: _arrow(pa, column) for name, column in table.items()}
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def _arrow(pa: Any, column: npt.NDArray[Any] | list[Any]) -> Any:
    if isinstance(column, list):
        return pa.array(column, type=pa.string())
    if column.dtype.kind == "M":
        return pa.array(column.astype("datetime64[ns]")).cast(pa.timestamp("ns", tz="UTC"))
    if column.dtype.kind == "f":
        return pa.array(column, from_pandas=True)
    return pa.array(column)
