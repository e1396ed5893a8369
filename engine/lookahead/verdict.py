"""What an examination came to: the verdict, what was cut, and what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Answer(StrEnum):
    """clean: nothing was found. leaks: it looks ahead. unproven: it could not be told."""

    CLEAN = "clean"
    LEAKS = "leaks"
    UNPROVEN = "unproven"


class Kind(StrEnum):
    """What was wrong. The last four prove nothing against a strategy, and nothing for it."""

    FUTURE = "future"  # later bars change what was said earlier
    SLOWER = "slower"  # a bar of a slower input is seen before it closed
    STATE = "state"  # an earlier evaluation changes a later one
    CLOCK = "clock"  # the wall clock changes what is said
    OUTSIDE = "outside"  # it reads or writes what is not in the bars
    ENDS = "ends"  # it hangs on where the bars end, not on what they hold
    CHANCE = "chance"  # asked twice, it says two things
    FAILS = "fails"  # it raises when bars are missing
    UNSEEN = "unseen"  # it uses what cannot be watched

    @property
    def is_leak(self) -> bool:
        return self not in (Kind.ENDS, Kind.CHANCE, Kind.FAILS, Kind.UNSEEN)


@dataclass(frozen=True, slots=True)
class Picture:
    """A column around the first bar that changed: with all bars, and with the future cut off."""

    times: list[int]
    """Closing times, seconds since 1970."""
    whole: list[float | None]
    cut: list[float | None]
    cut_at: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `at` is the closing time of the bar whose value changed, `cut_at` that of the last bar left (both
    seconds since 1970, None where no bar is meant). `what` names the feature or the part of the signal.
    `ahead` is how many bars it looks ahead at least, None when all rows change.
    """

    kind: Kind
    text: str
    what: str = ""
    at: int | None = None
    cut_at: int | None = None
    whole: str = ""
    cut: str = ""
    ahead: int | None = None
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class Warmup:
    """How much history a feature needs to be what it is with all of it.

    `declared` bars are kept for it live; `needed` is None when even `tested` bars did not do.
    """

    feature: str
    declared: int
    needed: int | None
    tested: int

    @property
    def is_enough(self) -> bool:
        return self.needed is not None and self.needed <= self.declared


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was looked at.

    deciding   bars that decided an order
    examined   those of them after which the future was taken away
    cuts       evaluations with nothing after a bar, exact and from the first bar on
    hidden     bars whose future was replaced instead, many at once
    shuffles   evaluations with the later bars in another order
    rows       bars looked at; all of them unless they would cost more than the budget
    """

    deciding: int = 0
    examined: int = 0
    cuts: int = 0
    hidden: int = 0
    shuffles: int = 0
    rows: int = 0
    of_rows: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is kept with a run."""

    answer: Answer
    text: str
    coverage: Coverage
    budget_seconds: float
    seconds: float
    findings: tuple[Finding, ...] = ()
    warmups: tuple[Warmup, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; `verdict` is the answer."""
        return {
            "verdict": self.answer.value,
            "text": self.text,
            **asdict(self.coverage),
            "budget_seconds": round(self.budget_seconds, 3),
            "seconds": round(self.seconds, 3),
            "findings": [
                {**asdict(f), "kind": f.kind.value, "leak": f.kind.is_leak} for f in self.findings
            ],
            "warmups": [{**asdict(w), "enough": w.is_enough} for w in self.warmups],
        }


def concluded(
    findings: Sequence[Finding],
    warmups: Sequence[Warmup],
    coverage: Coverage,
    *,
    budget_seconds: float,
    seconds: float,
) -> Verdict:
    """The verdict that follows from what was found; leaks come first."""
    ordered = sorted(findings, key=lambda f: not f.kind.is_leak)
    answer = Answer.CLEAN
    if ordered:
        answer = Answer.LEAKS if ordered[0].kind.is_leak else Answer.UNPROVEN
    elif not coverage.cuts + coverage.hidden:
        answer = Answer.UNPROVEN
    text = ordered[0].text if ordered else _nothing_found(coverage)
    return Verdict(answer, text, coverage, budget_seconds, seconds, tuple(ordered), tuple(warmups))


def _nothing_found(coverage: Coverage) -> str:
    if not coverage.cuts + coverage.hidden:
        return "there are too few bars to cut any off"
    if not coverage.deciding:
        return (
            f"no bar decided an order; at {coverage.cuts} bars spread over the run the future was "
            "cut off and nothing changed"
        )
    return (
        f"signals do not change when the future is taken away: {coverage.examined:,} of "
        f"{coverage.deciding:,} deciding bars examined"
    )


def number_text(value: Any) -> str:
    """A value as a finding tells it."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.10g}"
    return str(value)
