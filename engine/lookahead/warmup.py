"""How much history features need, measured: the bars after which an evaluation agrees with that of all bars."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.lookahead.asking import Asking, Class, Fails
from engine.lookahead.cutting import newest
from engine.lookahead.saying import Said, instance, largest
from engine.lookahead.span import Span
from engine.lookahead.verdict import Warmup
from engine.strategies.base import aligned

AGREES: Final = 1e-9
"""Of the column's largest size in the last `SCALE` rows."""
SCALE: Final = 1000
MOST_ROWS: Final = 8192


def measured(
    asking: Asking, span: Span, whole: Said, rows: Sequence[int], deadline: float
) -> tuple[Warmup, ...]:
    """For each feature the least history that gives its value at all of `rows`."""
    own, declared = asking.memories()
    cls = asking.anew()
    names = [name for name in whole.columns if not name.startswith("signal: ")]
    kept = {name: own.get(name, declared) for name in names}
    needed: dict[str, int | None] = dict.fromkeys(names, 1)
    tested = dict.fromkeys(names, 0)
    for row in rows:
        agreed = _agreed(asking, cls, span, whole, row, kept, deadline)
        for name, found in agreed.items():
            if not found:
                continue  # no time was left
            least = _least(found)
            tested[name] = max(tested[name], max(found, default=0))
            before = needed[name]
            needed[name] = None if least is None or before is None else max(before, least)
    known = [n for n in names if tested[n] and (needed[n] or tested[n] >= kept[n])]
    return tuple(Warmup(n, kept[n], needed[n], tested[n]) for n in known)


def _agreed(
    asking: Asking,
    cls: Class,
    span: Span,
    whole: Said,
    row: int,
    kept: dict[str, int],
    deadline: float,
) -> dict[str, dict[int, bool]]:
    """{feature: {bars of history: whether they give its value at the row}}, for those that have one."""
    here = {
        name: (float(whole.columns[name][row]), _scale(whole, name, row))
        for name in kept
        if np.isfinite(whole.columns[name][row])
    }
    found: dict[str, dict[int, bool]] = {name: {} for name in here}
    for length in _lengths(row, set(kept.values())):
        if time.perf_counter() > deadline:
            break
        try:
            values = _newest_values(asking, cls, span, row, length)
        except Fails:
            continue  # that it needs more bars to say anything is told elsewhere
        for name, (value, scale) in here.items():
            got = values.get(name, np.nan)
            found[name][length] = bool(abs(got - value) <= AGREES * scale)
    return found


def _lengths(row: int, declared: set[int]) -> list[int]:
    """Histories to try, all shorter than the whole of it: doubling, and what is declared."""
    doubling = {2**i for i in range(1 + MOST_ROWS.bit_length())}
    longest = max(MOST_ROWS, *declared)
    return sorted(n for n in doubling | declared if n <= min(row, longest))


def _scale(whole: Said, name: str, row: int) -> float:
    return largest(whole.columns[name][max(0, row + 1 - SCALE) : row + 1])


def _newest_values(
    asking: Asking, cls: Class, span: Span, row: int, length: int
) -> dict[str, float]:
    with asking.watched():
        strategy = instance(cls, asking.parameters, asking.inputs)
        columns, _ = aligned(strategy, newest(span.bars, span.now(row), length), span.clock)
        return {name: float(column[-1]) for name, column in columns.items()}


def _least(found: dict[int, bool]) -> int | None:
    """The length from which on all agree; None if the longest does not."""
    least = None
    for length in sorted(found, reverse=True):
        if not found[length]:
            break
        least = length
    return least
