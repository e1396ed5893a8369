"""Bars as arrays on their way into PostgreSQL: exact decimals, and rows of COPY's binary format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]

POSTGRES_EPOCH: Final = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970
BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
END: Final = b"\xff\xff"
COLUMNS: Final = (
    "instrument_id", "source", "interval", "opened_at", "closed_at", "open", "high", "low", "close",
    "volume", "adjusted_close", "job_id",
)  # fmt: skip

MOST_DECIMALS: Final = 16
"""Decimals that still fit beside their group of four in 64 bits."""

_BASE: Final = 10_000  # NUMERIC keeps groups of four decimal digits


class TooLong(ValueError):
    """A number has more digits than 64 bits hold."""


@dataclass(frozen=True, slots=True)
class Decimals:
    """Numbers not below zero, exactly: each is `scaled` / 10**`scale`. `decimals` are those it was written with."""

    scaled: Integers
    scale: int
    decimals: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.scaled)

    def take(self, rows: Rows | slice) -> Self:
        return type(self)(self.scaled[rows], self.scale, self.decimals[rows])

    def text(self, row: int) -> str:
        """One of them, as it was written."""
        whole, part = divmod(int(self.scaled[row]), 10**self.scale)
        decimals = int(self.decimals[row])
        return f"{whole}.{part:0{self.scale}}"[: len(str(whole)) + 1 + decimals].rstrip(".")


@dataclass(frozen=True, slots=True)
class Block:
    """Bars of one series, column by column; times in microseconds since 1970. The four prices share a scale."""

    opened_at: Integers
    closed_at: Integers
    open: Decimals
    high: Decimals
    low: Decimals
    close: Decimals
    volume: Decimals
    adjusted_close: Decimals | None = None

    def __len__(self) -> int:
        return len(self.opened_at)

    def numbers(self) -> dict[str, Decimals | None]:
        return {
            "open": self.open,
            "high": self.high,
            "low": self.low,
            "close": self.close,
            "volume": self.volume,
            "adjusted_close": self.adjusted_close,
        }


def pack(
    block: Block, instrument_id: int, source: str, interval: int, job_id: UUID | None
) -> bytes:
    """The block as rows of COPY's binary format, for `COLUMNS`; without BEGIN and END.

    Within a block every row has the same width, so all rows are one array: NUMERIC may be sent with
    leading and trailing zero groups, which PostgreSQL strips.
    """
    source_bytes, job_bytes = source.encode(), job_id.bytes if job_id else None
    groups = {name: _groups(column) for name, column in block.numbers().items()}
    rows = np.zeros(len(block), _row_type(len(source_bytes), groups, has_job=job_id is not None))
    rows["fields"] = len(COLUMNS)
    _put(rows, "instrument_id", instrument_id, 8)
    _put(rows, "source", source_bytes, len(source_bytes))
    _put(rows, "interval", interval, 8)
    _put(rows, "opened_at", block.opened_at - POSTGRES_EPOCH, 8)
    _put(rows, "closed_at", block.closed_at - POSTGRES_EPOCH, 8)
    for name, column in block.numbers().items():
        if column is None:
            rows[f"{name}_bytes"] = -1
        else:
            _put_numbers(rows, name, column, *groups[name])
    if job_bytes is None:
        rows["job_id_bytes"] = -1
    else:
        _put(rows, "job_id", np.void(job_bytes), 16)
    return rows.tobytes()


def _put(rows: Rows, name: str, value: Any, width: int) -> None:
    rows[f"{name}_bytes"] = width
    rows[name] = value


def _groups(column: Decimals | None) -> tuple[int, int]:
    """Groups of four digits before and behind the decimal mark."""
    if column is None or not len(column):
        return 0, 0
    if column.scale > MOST_DECIMALS:
        raise TooLong(f"{column.scale} decimals")
    whole = int(column.scaled.max()) // 10**column.scale
    return max(-(-len(str(whole)) // 4), 1), -(-column.scale // 4)


def _row_type(
    source_width: int, groups: dict[str, tuple[int, int]], *, has_job: bool
) -> np.dtype[Any]:
    parts: list[Any] = [("fields", ">i2")]
    kinds: dict[str, Any] = {
        "instrument_id": ">i8",
        "source": f"S{source_width}",
        "interval": ">i8",
        "opened_at": ">i8",
        "closed_at": ">i8",
    }
    for name, kind in kinds.items():
        parts += [(f"{name}_bytes", ">i4"), (name, kind)]
    for name, (before, behind) in groups.items():
        parts.append((f"{name}_bytes", ">i4"))
        if before:
            parts += [(f"{name}_head", ">i2", (4,)), (name, ">i2", (before + behind,))]
    parts.append(("job_id_bytes", ">i4"))
    if has_job:
        parts.append(("job_id", "V16"))
    return np.dtype(parts)


def _put_numbers(rows: Rows, name: str, column: Decimals, before: int, behind: int) -> None:
    """NUMERIC's binary form: how many groups, weight of the first, sign, decimals shown, the groups."""
    rows[f"{name}_bytes"] = 8 + 2 * (before + behind)
    head = rows[f"{name}_head"]
    head[:, 0], head[:, 1], head[:, 3] = before + behind, before - 1, column.decimals
    unit = 10**column.scale
    digits = rows[name]
    whole = column.scaled // unit
    part = (column.scaled - whole * unit) * 10 ** (4 * behind - column.scale)
    for at in range(before - 1, 0, -1):
        digits[:, at] = whole % _BASE
        whole = whole // _BASE
    digits[:, 0] = whole
    for at in range(before + behind - 1, before, -1):
        digits[:, at] = part % _BASE
        part = part // _BASE
    if behind:
        digits[:, before] = part
