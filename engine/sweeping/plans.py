"""The combinations of a sweep, numbered, as one packed column of its row."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import orjson

from shared.domain.space import Combination


def pack(combinations: Sequence[Combination]) -> bytes:
    """Names once, then values combination by combination."""
    names = list(combinations[0]) if combinations else []
    rows = [[combination[name] for name in names] for combination in combinations]
    return zlib.compress(orjson.dumps([names, rows]), 1)


def unpack(plan: bytes, first: int = 0, points: int | None = None) -> list[Combination]:
    """The combinations numbered from `first`, all of them or `points`."""
    names, rows = orjson.loads(zlib.decompress(plan))
    last = len(rows) if points is None else first + points
    return [dict(zip(names, row, strict=True)) for row in rows[first:last]]


def plain(value: Any) -> Any:
    """A parameter's value as JSON has it."""
    return value.item() if hasattr(value, "item") else value
