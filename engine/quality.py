"""What may be wrong with stored bars, found from the bars alone: pure, over columns.

Nothing here changes a bar. A finding says what, where and with which numbers; whether it matters is decided
by whoever runs something on the bars (`refused`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final

import orjson

from engine.bars import Bars, Prices, fill_quiet
from engine.findings.finding import Found, Limits, plain_number
from engine.findings.gaps import duplicates, gaps
from engine.findings.jumps import Moves, outliers, splits
from engine.findings.still import flat, off_tick, zero_volume

POLICY_KINDS: Final = ("gaps", "duplicates", "outliers", "splits")
"""The kinds a run may be refused for."""

RULES_VERSION: Final = 1
"""Part of the fingerprint of what was found: raised when the finding itself changes."""


def fingerprint(limits: Limits, calendar: str, tick: Decimal | None) -> str:
    """What else than the bars the findings depend on."""
    said = [
        RULES_VERSION,
        asdict(limits),
        calendar,
        None if tick is None else f"{tick.normalize():f}",
    ]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a series, or in the part of it that a run uses. `usual` is the usual move of a bar."""

    bars: int
    filled: int
    zero_volume: int
    usual: float
    found: dict[str, Found]

    def count(self, kind: str) -> int:
        return self.found[kind].count if kind in self.found else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "bars": self.bars,
            "filled": self.filled,
            "zero_volume": self.zero_volume,
            "usual": plain_number(self.usual),
            "counts": {kind: found.count for kind, found in self.found.items()},
            "bars_touched": {kind: found.bars for kind, found in self.found.items()},
            "findings": {
                kind: [one.as_json() for one in found.kept] for kind, found in self.found.items()
            },
        }


def look(
    bars: Bars,
    calendar: str,
    *,
    tick: Decimal | None = None,
    adjusted: Prices | None = None,
    limits: Limits | None = None,
) -> Report:
    """Everything there is to find in stored bars (those without a `filled` mark), oldest first.

    `adjusted` are the adjusted closes, NaN where there is none.
    """
    asked = limits or Limits()
    move = Moves.of(bars)
    whole = fill_quiet(bars, calendar)
    finders: dict[str, Callable[[], Found]] = {
        "gaps": lambda: gaps(bars, whole, calendar),
        "duplicates": lambda: duplicates(bars),
        "outliers": lambda: outliers(bars, move, asked),
        "splits": lambda: splits(bars, move, adjusted, asked),
        "flat": lambda: flat(bars, asked),
        "off_tick": lambda: off_tick(bars, tick),
        "zero_volume": lambda: zero_volume(bars),
    }
    return Report(
        bars=len(bars),
        filled=len(whole) - len(bars),
        zero_volume=int((bars.volume == 0).sum()),
        usual=move.overall,
        found={kind: find() for kind, find in finders.items()},
    )


def refused(report: Report, kinds: Sequence[str]) -> str:
    """Why bars with this report may not be used, or "" when nothing of those kinds was found."""
    told = [
        f"{_WORDS[kind].format(n=report.count(kind))} (first: {report.found[kind].kept[0].text})"
        for kind in kinds
        if report.count(kind)
    ]
    return "; ".join(told)


_WORDS: Final = {
    "gaps": "{n} gaps",
    "duplicates": "{n} duplicates",
    "outliers": "{n} outliers",
    "splits": "{n} likely splits",
}
