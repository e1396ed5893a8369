"""Bayesian search: the next combinations to try, from all that was found so far.

Optuna's samplers do it. The study they see is made anew from our rows each time, so PostgreSQL stays the
only truth; a batch depends on the seed and on what the batches before it found, never on who was first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection

from shared.domain.objectives import Objective
from shared.domain.space import Axis, Combination, Keep, Space, drawn, rounded

BATCH: Final = 20
"""Combinations proposed at a time: many workers have something to do, and each batch learns from the last."""

_TRIES: Final = 10
"""Proposals looked at for each one that is wanted; constraints and repetitions use them up."""

_GENERATION: Final = "NSGAIISampler:generation"


def propose(
    space: Space,
    objectives: Sequence[Objective],
    tried: Sequence[Combination],
    values: Sequence[Sequence[float | None]],
    seed: int,
    wanted: int = BATCH,
    keep: Keep | None = None,
) -> list[Combination]:
    """Up to `wanted` combinations that were not tried yet; none when there are no more.

    `values[i]` are the objectives of `tried[i]`, in their own direction, None where undefined. Without
    anything tried they are random. What the sampler cannot fill is filled at random.
    """
    batch = len(tried) // BATCH
    found: list[Combination] = []
    if tried:
        study = _study(space, objectives, tried, values, seed + batch)
        found = _new(_asked(study, space, wanted * _TRIES), space, tried, wanted, keep)
    missing = wanted - len(found)
    return found + drawn(space, missing, [seed, batch], keep, but=[*tried, *found])


def _study(
    space: Space,
    objectives: Sequence[Objective],
    tried: Sequence[Combination],
    values: Sequence[Sequence[float | None]],
    seed: int,
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=[StudyDirection[objective.direction.upper()] for objective in objectives],
        sampler=_sampler(len(objectives), seed),
    )
    distributions = _distributions(space)
    worst = _worst(objectives, values)
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: _label(space, name, c[name]) for name in distributions},
                distributions=distributions,
                values=[bad if v is None else v for v, bad in zip(found, worst, strict=True)],
                system_attrs={_GENERATION: number // BATCH},
            )
            for number, (c, found) in enumerate(zip(tried, values, strict=True))
        ]
    )
    return study


def _sampler(objectives: int, seed: int) -> optuna.samplers.BaseSampler:
    """TPE for one objective, NSGA-II with a batch a generation for several."""
    if objectives == 1:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=BATCH)


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """Of every axis that varies: numbers by their place among its values, words as categories."""
    found: dict[str, BaseDistribution] = {}
    for axis in space.axes:
        if axis.is_continuous:
            found[axis.name] = FloatDistribution(axis.low, axis.high)
        elif not axis.is_fixed:
            found[axis.name] = (
                IntDistribution(0, len(axis.values) - 1)
                if axis.is_ordered
                else CategoricalDistribution(list(range(len(axis.values))))
            )
    return found


def _label(space: Space, name: str, value: Any) -> Any:
    """A value as the study knows it."""
    axis = next(axis for axis in space.axes if axis.name == name)
    return value if axis.is_continuous else axis.values.index(value)


def _value(axis: Axis, params: Mapping[str, Any]) -> Any:
    if axis.is_continuous:
        return rounded(axis, params[axis.name])
    return axis.values[params.get(axis.name, 0)]


def _worst(
    objectives: Sequence[Objective], values: Sequence[Sequence[float | None]]
) -> list[float]:
    """What a point without a number counts as: the worst that was seen."""
    worst = []
    for place, objective in enumerate(objectives):
        seen = [found[place] for found in values]
        known = [value for value in seen if value is not None]
        worst.append(min(known, key=lambda v: v * objective.sign) if known else 0.0)
    return worst


def _asked(study: optuna.Study, space: Space, most: int) -> Iterator[Combination]:
    distributions = _distributions(space)
    for _ in range(most):
        params = study.ask(distributions).params
        yield {axis.name: _value(axis, params) for axis in space.axes}


def _new(
    proposed: Iterator[Combination],
    space: Space,
    tried: Sequence[Combination],
    wanted: int,
    keep: Keep | None,
) -> list[Combination]:
    """Those proposals that are allowed and were not made before, in their order."""
    seen = {tuple(combination.values()) for combination in tried}
    found: list[Combination] = []
    for combination in proposed:
        key = tuple(combination.values())
        columns = {name: np.array([value]) for name, value in combination.items()}
        if key in seen or not space.allowed(columns)[0] or not (keep is None or keep(combination)):
            continue
        seen.add(key)
        found.append(combination)
        if len(found) == wanted:
            break
    return found
