"""The decisions of a run through the core, kept as they were told.

What a kernel decided follows from numbers (`shared.domain.decided`); the core also says what no number
holds. Its decisions are kept as JSON, a thousand at a time, behind the columns they are looked up by.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np

from shared.domain.decided import OUTCOMES, DecidedRow, Kept
from shared.domain.decisions import Decision

AT_ONCE: Final = 1_000

_COLUMNS: Final = ("at", "instrument", "outcome")
_Line = tuple[
    int, datetime, str, float | None, str, dict[str, Any] | None, list[dict[str, Any]],
    list[dict[str, Any]], str, str,
]  # fmt: skip
_READ: Final = msgspec.json.Decoder(list[_Line])
_WRITE: Final = msgspec.json.Encoder(decimal_format="number")


def line_of(decision: Decision) -> tuple[Any, ...]:
    """What is kept of a decision; numbers that are none become null."""
    d = decision
    return (
        d.instrument_id, d.decided_at, d.kind, d.target, d.because, d.bar, d.checks, d.steps,
        d.outcome, d.reason,
    )  # fmt: skip


def pack(lines: Sequence[tuple[Any, ...]], at: Sequence[int]) -> bytes:
    """Lines of decisions made `at` (nanoseconds), as bytes for a row."""
    columns = np.array(
        [list(at), [line[0] for line in lines], [OUTCOMES.index(line[8]) for line in lines]], "<i8"
    )
    pieces = [
        zlib.compress(_WRITE.encode(lines[first : first + AT_ONCE]), 1)
        for first in range(0, len(lines), AT_ONCE)
    ]
    head = json.dumps({"count": len(lines), "pieces": [len(piece) for piece in pieces]}).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, columns.tobytes(), *pieces])


class Told(Kept):
    """The decisions of one run. A thousand are opened when one of them is asked for."""

    def __init__(self, data: bytes) -> None:
        start = 4 + int.from_bytes(data[:4], "little")
        head = json.loads(data[4:start])
        count = head["count"]
        columns = np.frombuffer(data, "<i8", 3 * count, start).reshape(3, count)
        super().__init__(dict(zip(_COLUMNS, columns, strict=True)))
        ends = np.cumsum([start + columns.nbytes, *head["pieces"]]).tolist()
        self._pieces = [data[first:last] for first, last in pairwise(ends)]
        self._opened: dict[int, list[_Line]] = {}

    def row(self, index: int) -> DecidedRow:
        piece, place = divmod(index, AT_ONCE)
        if piece not in self._opened:
            self._opened = {piece: _READ.decode(zlib.decompress(self._pieces[piece]))}
        return DecidedRow(index + 1, *self._opened[piece][place])
