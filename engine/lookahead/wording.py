"""Findings in words a quant understands, with the numbers they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from engine.bars import instant
from engine.lookahead.saying import Difference, Said
from engine.lookahead.verdict import Finding, Kind, Picture, number_text
from engine.lookahead.walking import Answers, answer_text

SHOWN_BEFORE: Final = 60
SHOWN_AFTER: Final = 12
SECOND: Final = 1_000_000_000
MOST: Final = 8
"""Findings of one cut that are told; features come first."""

HOW: Final = {
    "cut": "when the bars after {cut_at} are cut off",
    "shuffled": "when the bars after {cut_at} are others",
}


def when(at: int) -> str:
    """A closing time in nanoseconds as people read it."""
    return (
        f"{instant(at):%Y-%m-%d %H:%M} UTC"
        if at % (60 * SECOND) == 0
        else f"{instant(at):%Y-%m-%d %H:%M:%S} UTC"
    )


def columns_changed(
    kind: Kind, how: str, whole: Said, cut: Said, row: int, found: Sequence[Difference]
) -> list[Finding]:
    """A finding a column that says something else once what follows `row` is taken away."""
    return [_column_changed(kind, how, whole, cut, row, one) for one in found[:MOST]]


def _column_changed(
    kind: Kind, how: str, whole: Said, cut: Said, row: int, found: Difference
) -> Finding:
    ended = HOW[how].format(cut_at=when(int(whole.closed_at[row])))
    if not len(found.rows):
        text = f"{_named(found.name)} is {number_text(found.whole)} with all bars and {number_text(found.cut)} {ended}: one value for all rows must not come from the data"
        return Finding(
            kind, text, found.name, None, _seconds(whole, row), number_text(found.whole),
            number_text(found.cut),
        )  # fmt: skip
    ahead = _ahead(found, row)
    at = int(found.rows[0] if ahead else found.rows[-1])
    before, after = (float(said.columns[found.name][at]) for said in (whole, cut))
    looks = (
        f"it looks at least {ahead} bar{'s' if ahead > 1 else ''} ahead"
        if ahead
        else f"{len(found.rows):,} of {row + 1:,} rows change: it depends on the whole series"
    )
    if kind is Kind.SLOWER:
        looks = "a bar of a slower input is seen before it has closed"
    text = (
        f"{_named(found.name)} at {when(int(whole.closed_at[at]))} is {number_text(before)} with all bars "
        f"and {number_text(after)} {ended}: {looks}"
    )
    return Finding(
        kind, text, found.name, _seconds(whole, at), _seconds(whole, row), number_text(before),
        number_text(after), ahead, _picture(whole, cut, found.name, at, row),
    )  # fmt: skip


def _ahead(found: Difference, row: int) -> int | None:
    """How far it looks ahead, from the rows that change before the cut; None if most of them do."""
    first = int(found.rows[0])
    return row - first + 1 if len(found.rows) <= max(8, (row + 1) // 4) else None


def _named(name: str) -> str:
    part, _, rest = name.partition(": ")
    return f"the signal's {rest}" if part == "signal" and rest else f"the feature {name!r}"


def _seconds(said: Said, row: int) -> int:
    return int(said.closed_at[row]) // SECOND


def _picture(whole: Said, cut: Said, name: str, at: int, row: int) -> Picture:
    first = max(0, min(at, row) - SHOWN_BEFORE // 2, row - SHOWN_BEFORE)
    rows = range(first, min(len(whole), row + 1 + SHOWN_AFTER))
    seen = cut.columns[name]
    return Picture(
        [_seconds(whole, r) for r in rows],
        [_plain(whole.columns[name][r]) for r in rows],
        [_plain(seen[r]) if r <= row else None for r in rows],
        _seconds(whole, row),
    )


def _plain(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def answers_changed(
    kind: Kind, how: str, whole: Said, answers: tuple[Answers, Answers], at: int, row: int
) -> Finding:
    """The same for what a scalar strategy answered at the row `at`."""
    before, after = (answer_text(a[at]) if at < len(a) else "nothing" for a in answers)
    ended = HOW[how].format(cut_at=when(int(whole.closed_at[row])))
    text = f"the signal at {when(int(whole.closed_at[at]))} is {before!r} with all bars and {after!r} {ended}"
    return Finding(
        kind, text, "signal", _seconds(whole, at), _seconds(whole, row), before, after,
        picture=_targets_picture(whole, answers, at, row),
    )  # fmt: skip


def _targets_picture(whole: Said, answers: tuple[Answers, Answers], at: int, row: int) -> Picture:
    rows = range(
        max(0, at - SHOWN_BEFORE // 2), min(row + 1, at + SHOWN_BEFORE // 2, len(answers[1]))
    )
    lines = [[_target(a[r]) if r < len(a) else None for r in rows] for a in answers]
    return Picture([_seconds(whole, r) for r in rows], lines[0], lines[1], _seconds(whole, row))


def _target(answer: Any) -> float | None:
    return answer[0].target if answer else None
