"""Which points are best, and whether each stands on a hill or is a spike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.domain.space import Axis, Combination

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

FEWEST: Final = 2
"""Neighbours without which nothing can be said about a point's surroundings."""

_WIDE: Final = 4
"""Parameters up to which a grid's neighbours are all those one step away in any of them at once."""

_AT_ONCE: Final = 512


# --- hill or spike ----------------------------------------------------------------------------------


def plateau(
    axes: Sequence[Axis], combinations: Sequence[Combination], values: Values, method: str
) -> Values:
    """How much of its lead each point's neighbours keep, 0 (a spike) to 1 (a plateau).

    A point's lead is its value above the median of all points. What a neighbour keeps of it is its own
    lead over the point's, not below 0 nor above 1; one without a value keeps nothing. The score is the mean
    over neighbours: on a grid those one step away, at random the nearest in space with every parameter scaled
    to its range. NaN for points no better than the median, and for those with fewer than two neighbours.
    `values` are such that more is better, NaN where there is none.
    """
    score = np.full(len(values), np.nan)
    known = np.isfinite(values)
    if not known.any():
        return score
    lead = np.where(known, values - np.median(values[known]), 0.0)
    varied = [axis for axis in axes if not axis.is_fixed]
    near = _beside(varied, combinations) if method == "grid" else _nearest(varied, combinations)
    for rows, neighbours in near:
        _score(score, lead, rows, neighbours)
    return score


def _score(score: Values, lead: Values, rows: Rows, neighbours: Rows) -> None:
    """Fill in the score of `rows`; `neighbours` int[rows, k] holds -1 where there is none."""
    own = lead[rows]
    there = neighbours >= 0
    count = there.sum(axis=1)
    judged = (own > 0) & (count >= FEWEST)
    kept = np.clip(lead[neighbours] / np.where(own > 0, own, 1.0)[:, None], 0.0, 1.0)
    mean = np.where(there, kept, 0.0).sum(axis=1) / np.maximum(count, 1)
    score[rows[judged]] = mean[judged]


def _beside(
    axes: Sequence[Axis], combinations: Sequence[Combination]
) -> Iterator[tuple[Rows, Rows]]:
    """Every point with those one step away on the grid. Words and yes-or-no have no steps."""
    places = [{value: place for place, value in enumerate(axis.values)} for axis in axes]
    at = np.array(
        [
            [place[c[axis.name]] for axis, place in zip(axes, places, strict=True)]
            for c in combinations
        ],
        dtype=np.int64,
    ).reshape(len(combinations), len(axes))
    shape = tuple(len(axis.values) for axis in axes)
    row_at = np.full(int(np.prod(shape)) if shape else 1, -1, dtype=np.int64)
    if not shape:
        return
    row_at[np.ravel_multi_index(tuple(at.T), shape)] = np.arange(len(at))
    found = []
    for step in _steps(axes):
        beside = at + step
        inside = np.all((beside >= 0) & (beside < np.array(shape)), axis=1)
        flat = np.ravel_multi_index(tuple(np.where(inside[:, None], beside, 0).T), shape)
        found.append(np.where(inside, row_at[flat], -1))
    if found:
        yield np.arange(len(at)), np.stack(found, axis=1)


def _steps(axes: Sequence[Axis]) -> list[Rows]:
    ordered = [number for number, axis in enumerate(axes) if axis.is_ordered]
    if len(ordered) <= _WIDE:
        moves = [
            dict(zip(ordered, moved, strict=True))
            for moved in itertools.product((-1, 0, 1), repeat=len(ordered))
        ]
    else:
        moves = [{number: by} for number in ordered for by in (-1, 1)]
    steps = [_step(len(axes), moved) for moved in moves]
    return [step for step in steps if step.any()]


def _step(width: int, moved: dict[int, int]) -> Rows:
    step = np.zeros(width, dtype=np.int64)
    for number, by in moved.items():
        step[number] = by
    return step


def _nearest(
    axes: Sequence[Axis], combinations: Sequence[Combination]
) -> Iterator[tuple[Rows, Rows]]:
    """Every point with the nearest others: two for each parameter, at least four, of the same words."""
    ordered = [axis for axis in axes if axis.is_ordered]
    words = [axis.name for axis in axes if not axis.is_ordered]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, combination in enumerate(combinations):
        groups.setdefault(tuple(combination[name] for name in words), []).append(row)
    wanted = max(4, 2 * len(ordered))
    for members in groups.values():
        rows = np.array(members, dtype=np.int64)
        if not ordered or len(rows) <= FEWEST:
            continue
        at = _scaled(ordered, [combinations[row] for row in members])
        yield from _nearest_of(rows, at, min(wanted, len(rows) - 1))


def _scaled(axes: Sequence[Axis], combinations: Sequence[Combination]) -> Values:
    """Where each point lies, every parameter from 0 to 1 over its range."""
    columns = []
    for axis in axes:
        low = axis.low if axis.is_continuous else min(axis.values)
        high = axis.high if axis.is_continuous else max(axis.values)
        column = np.array([c[axis.name] for c in combinations], dtype=np.float64)
        columns.append((column - low) / ((high - low) or 1.0))
    return np.stack(columns, axis=1)


def _nearest_of(rows: Rows, at: Values, wanted: int) -> Iterator[tuple[Rows, Rows]]:
    squares = (at**2).sum(axis=1)
    for first in range(0, len(rows), _AT_ONCE):
        some = at[first : first + _AT_ONCE]
        distance = squares[None, :] - 2 * some @ at.T
        itself = np.arange(len(some))
        distance[itself, first + itself] = np.inf
        near = np.argpartition(distance, wanted - 1, axis=1)[:, :wanted]
        yield rows[first : first + _AT_ONCE], rows[near]


# --- the best ---------------------------------------------------------------------------------------


def front(values: Values) -> npt.NDArray[np.bool_]:
    """bool[rows]: points that no other beats or equals in every objective while beating it in one.

    `values` float[rows, objectives] are such that more is better; a point with a NaN is never best.
    """
    best = np.zeros(len(values), dtype=bool)
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(known):
        return best
    # Best first in the first objective: whoever beats a point stands before it.
    order = known[
        np.lexsort(tuple(-values[known, column] for column in reversed(range(values.shape[1]))))
    ]
    kept: list[int] = []
    for row in order:
        others = values[kept]
        beaten = (others >= values[row]).all(axis=1) & (others > values[row]).any(axis=1)
        if not beaten.any():
            kept.append(int(row))
    best[kept] = True
    return best
