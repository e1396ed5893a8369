"""A stretch of the run's bars, and the bars in it that decided an order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from engine.bars import Bars
from engine.lookahead.cutting import Rows, between

PARTS: Final = 3
"""Where all bars would cost too much: stretches from the beginning, the middle and the end."""

LEAST_ROWS: Final = 400


@dataclass(frozen=True, slots=True)
class Span:
    """Bars by input, the clock's key, and the clock's rows that decided."""

    bars: Mapping[str, Bars]
    clock: str
    deciding: Rows

    def __len__(self) -> int:
        return len(self.bars[self.clock])

    def now(self, row: int) -> int:
        """The closing time of a row, nanoseconds."""
        return int(self.bars[self.clock].closed_at[row])

    def points(self) -> list[int]:
        """Rows to cut after: those that decided, or some spread over all if none did.

        The middle one, the first, the last, and then ever closer in between.
        """
        rows = self.deciding if len(self.deciding) else spread_rows(len(self), 32)
        return [int(rows[i]) for i in spread_order(len(rows))]


def spans(bars: Mapping[str, Bars], clock: str, decided_at: Any, rows: int) -> list[Span]:
    """The whole of the bars if they are no more than `rows`, else three stretches of them."""
    whole = bars[clock]
    if len(whole) <= max(rows, PARTS * LEAST_ROWS):
        return [Span(bars, clock, _deciding(whole, decided_at))]
    length = max(LEAST_ROWS, rows // PARTS)
    starts = [0, (len(whole) - length) // 2, len(whole) - length]
    found = []
    for start in starts:
        first, last = int(whole.opened_at[start]), int(whole.closed_at[start + length - 1])
        part = between(bars, first, last)
        found.append(Span(part, clock, _deciding(part[clock], decided_at)))
    return found


def _deciding(bars: Bars, decided_at: Any) -> Rows:
    """The rows that closed at those instants and are not the last."""
    rows = np.searchsorted(bars.closed_at, np.unique(np.asarray(decided_at, np.int64)))
    kept: Rows = np.unique(rows[rows < len(bars) - 1]).astype(np.intp)
    return kept[np.isin(bars.closed_at[kept], decided_at)]


def spread_rows(count: int, wanted: int) -> Rows:
    """Rows spread over `count`, the first and the last left out: nothing is before or after them."""
    if count < 3:
        return np.zeros(0, np.intp)
    return np.unique(np.linspace(1, count - 2, min(wanted, count - 2)).astype(np.intp))


def spread_order(count: int) -> list[int]:
    """The middle, 0, the last, the quarters, ...: whoever stops early has seen them spread."""
    if not count:
        return []
    order = dict.fromkeys((count // 2, 0, count - 1))
    step = count
    while len(order) < count:
        step = max(1, step // 2)
        order.update(dict.fromkeys(range(step, count, step)))
    return list(order)
