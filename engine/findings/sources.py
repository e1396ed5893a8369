"""The same bars as two sources have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.bars import Bars, instant
from engine.findings.finding import (
    Limits,
    prices_of,
)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two series of one instrument and interval, over the time both span."""

    both: int
    differing: int
    only_here: int
    only_there: int
    worst_bp: float
    examples: tuple[dict[str, Any], ...]


def compare(here: Bars, there: Bars, limits: Limits | None = None) -> Compared:
    """Bars in both, those whose prices differ by more than `source_bp`, and those only one has."""
    if not len(here) or not len(there):
        return Compared(0, 0, 0, 0, 0.0, ())
    start = max(here.opened_at[0], there.opened_at[0])
    end = min(here.closed_at[-1], there.closed_at[-1])
    a, b = _inside(here, start, end), _inside(there, start, end)
    _, left, right = np.intersect1d(a.opened_at, b.opened_at, return_indices=True)
    apart = np.zeros(len(left))
    for name in ("open", "high", "low", "close"):
        one, other = getattr(a, name)[left], getattr(b, name)[right]
        apart = np.maximum(apart, np.abs(one / other - 1) * 10_000)
    asked = (limits or Limits()).source_bp
    worst = [row for row in np.argsort(-apart, kind="stable")[:20] if apart[row] > asked]
    examples = tuple(
        {
            "at": instant(a.opened_at[left[row]]).isoformat(),
            "bp": float(apart[row]),
            "here": prices_of(a, left[row]),
            "there": prices_of(b, right[row]),
        }
        for row in worst
    )
    return Compared(
        both=len(left),
        differing=int((apart > asked).sum()),
        only_here=len(a) - len(left),
        only_there=len(b) - len(left),
        worst_bp=float(apart.max()) if len(apart) else 0.0,
        examples=examples,
    )


def _inside(bars: Bars, start: int, end: int) -> Bars:
    return bars[(bars.opened_at >= start) & (bars.closed_at <= end)]
