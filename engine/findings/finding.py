"""One thing found, all of one kind, and from when on something is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.bars import Bars, Prices, instant

Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

KEPT: Final = 200
"""Findings of one kind that are kept with their numbers; all of them are counted."""


class BadLimits(ValueError):
    """A limit that cannot be: names the field, the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is told.

    outlier         multiples of the usual move (1.4826 x MAD of the log returns around it)
    outlier_least   a move smaller than this is none, however quiet the market
    outlier_back    how much of the move has to be taken back within three bars
    split           how far a jump may be from a simple ratio, as a fraction
    flat_bars       bars at one price in a row, when shorter than a day
    flat_days       the same for daily bars and longer
    source_bp       prices of two sources that differ by more than this many basis points differ
    """

    outlier: float = 15.0
    outlier_least: float = 0.01
    outlier_back: float = 0.6
    split: float = 0.06
    flat_bars: int = 120
    flat_days: int = 5
    source_bp: float = 10.0

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Limits:
        """Defaults for what is missing; BadLimits for a name nobody knows or a number that is none."""
        known = {f.name: f.default for f in fields(cls)}
        if extra := set(given) - set(known):
            raise BadLimits(
                f"{', '.join(sorted(extra))}: no such limit (known: {', '.join(known)})"
            )
        return cls(**{name: _limit(name, raw, known[name]) for name, raw in given.items()})


def _limit(name: str, raw: Any, default: Any) -> Any:
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise BadLimits(f"{name}: {raw!r} is not a number; the usual one is {default}") from None
    if not math.isfinite(number) or number <= 0:
        raise BadLimits(f"{name}: {raw!r} must be above 0; the usual one is {default}")
    return round(number) if isinstance(default, int) else number


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: from the opening of its first bar to the closing of its last, in words and numbers."""

    kind: str
    at: int
    until: int
    bars: int
    text: str
    numbers: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "at": instant(self.at).isoformat(),
            "until": instant(self.until).isoformat(),
            "bars": self.bars,
            "text": self.text,
            "numbers": {name: plain_number(value) for name, value in self.numbers.items()},
        }


def plain_number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Found:
    """All of one kind: how many there are, how many bars they touch, and those that are kept."""

    count: int = 0
    bars: int = 0
    kept: tuple[Finding, ...] = ()


def collected(found: list[Finding], size: Callable[[Finding], float]) -> Found:
    """All counted; the largest kept, in the order of time."""
    largest = sorted(found, key=size, reverse=True)[:KEPT]
    kept = tuple(sorted(largest, key=lambda one: one.at))
    return Found(len(found), sum(one.bars for one in found), kept)


def first_rows(rows: Rows) -> Iterable[int]:
    return (int(row) for row in rows[:KEPT])


def largest_rows(rows: Rows, size: Prices) -> Iterable[int]:
    chosen = rows[np.argsort(-size[rows], kind="stable")[:KEPT]]
    return (int(row) for row in np.sort(chosen))


def stretches(mask: Mask) -> Iterator[tuple[int, int]]:
    """(first, after) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def at_row(kind: str, bars: Bars, row: int, text: str, numbers: dict[str, float]) -> Finding:
    return Finding(kind, int(bars.opened_at[row]), int(bars.closed_at[row]), 1, text, numbers)


def over_rows(
    kind: str, bars: Bars, first: int, after: int, text: str, numbers: dict[str, float]
) -> Finding:
    ends = int(bars.closed_at[after - 1])
    return Finding(kind, int(bars.opened_at[first]), ends, after - first, text, numbers)


def prices_of(bars: Bars, row: int) -> dict[str, float]:
    names = ("open", "high", "low", "close", "volume")
    return {name: float(getattr(bars, name)[row]) for name in names}


def when_text(at: int | np.int64) -> str:
    moment: datetime = instant(int(at))
    return f"{moment:%Y-%m-%d}" if moment.hour == moment.minute == 0 else f"{moment:%Y-%m-%d %H:%M}"


def price_text(value: float) -> str:
    return f"{value:,.8g}" if abs(value) < 1e6 else f"{value:,.2f}"


def times_text(times: float) -> str:
    return f"{times:,.0f} x" if math.isfinite(times) else "many times"


def counted_text(count: int, interval: int) -> str:
    what = "day" if interval == 86_400 else "bar"
    return what if count == 1 else f"{what}s"
