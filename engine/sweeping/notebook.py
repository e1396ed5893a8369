"""Sweeps from Python: `from engine.backtest import sweep`. docs/research.md shows how."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pandas as pd

from engine import warming
from engine.backtest.given import Given
from engine.backtest.notebook import specified
from engine.backtest.specification import Specification
from engine.strategies.base import BaseStrategy
from engine.sweeping.evaluation import Evaluated, evaluate
from engine.sweeping.planning import Refusals, typed
from shared.domain.objectives import Objective, kept, objectives_from, usual
from shared.domain.space import BadSpace, Combination, grid, space_from

MOST_PROCESSES = 64


def sweep(
    strategy: type[BaseStrategy] | str,
    bars: Given | Mapping[str, Given],
    over: Mapping[str, Iterable[Any]],
    *,
    where: Sequence[str] = (),
    objectives: Sequence[str] = ("sharpe",),
    parameters: Mapping[str, Any] | None = None,
    processes: int = 2,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Every combination of some parameters' values: a row each, the best first.

    over        {parameter: values}, as a list or a range
    where       conditions between parameters, such as "short < long"
    objectives  metrics; the first ranks, the way it is better unless ":minimize" or ":maximize" follows
    parameters  what stays
    options     costs, sizing, capital and what else `engine.backtest.run` takes

    Columns are the parameters of `over`, the metrics, and `error` where a combination failed. ValueError names
    what cannot be.
    """
    if not 1 <= processes <= MOST_PROCESSES:
        raise ValueError(f"processes: {processes!r} must be from 1 to {MOST_PROCESSES}")
    wanted = objectives_from([_objective(text) for text in objectives])
    metrics = kept(wanted)
    combinations, base = _combinations(strategy, over, where, parameters or {}, bars, options)
    found = _evaluated(base, combinations, metrics, min(processes, len(combinations)), seed)
    return _table(list(over), combinations, metrics, found, wanted[0])


def _objective(text: str) -> dict[str, str]:
    metric, _, direction = text.partition(":")
    return {"metric": metric, "direction": direction or usual(metric)}


def _combinations(
    strategy: type[BaseStrategy] | str,
    over: Mapping[str, Iterable[Any]],
    where: Sequence[str],
    stays: Mapping[str, Any],
    bars: Given | Mapping[str, Given],
    options: Mapping[str, Any],
) -> tuple[list[Combination], Specification]:
    """What is tried, and the run it is tried in."""
    base = specified(strategy, bars, **options)
    cls = base.strategy
    fixed = {name: param.default for name, param in cls.params().items()} | dict(stays)
    axes = [{"name": name, "values": _values(values)} for name, values in over.items()]
    axes += [{"name": name, "values": [v]} for name, v in fixed.items() if name not in over]
    refusals = Refusals(cls)
    combinations = grid(typed(space_from(axes, where), cls), refusals.keep)
    if not combinations:
        why = f" The strategy refuses the others: {refusals.last}" if refusals.last else ""
        raise BadSpace("over", f"no combination is left; widen it or drop a condition.{why}")
    return combinations, replace(base, parameters={})


def _values(values: Iterable[Any]) -> list[Any]:
    """As plain Python values: numpy's are no JSON."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


# Doing it ---------------------------------------------------------------------------------------


def _evaluated(
    base: Specification,
    combinations: Sequence[Combination],
    metrics: Sequence[str],
    processes: int,
    seed: int,
) -> list[Evaluated]:
    """In order, whoever did them: none depends on those before it."""
    warming.make_ready()
    warming.load()  # here, once: every fork takes it over
    if processes == 1:
        return evaluate(base, combinations, metrics, seed=seed)
    cuts = [len(combinations) * part // processes for part in range(processes + 1)]
    crew = [_Child(base, combinations[first:last], metrics, seed) for first, last in pairwise(cuts)]
    try:
        return [one for child in crew for one in child.found()]
    finally:
        for child in crew:
            child.end()


class _Child:
    """A fork that does some of the combinations: it has the strategy and the bars already."""

    def __init__(self, base: Specification, *asked: Any) -> None:
        context = multiprocessing.get_context("fork")
        self._answers, answer = context.Pipe(duplex=False)
        self._process = context.Process(target=_do, args=(answer, base, *asked), daemon=True)
        self._process.start()
        answer.close()

    def found(self) -> list[Evaluated]:
        try:
            found: list[Evaluated] = self._answers.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"a process of the sweep ended with code {code}") from None
        return found

    def end(self) -> None:
        """Also when another failed, or Ctrl-C came."""
        self._answers.close()
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()


def _do(
    answer: Connection,
    base: Specification,
    combinations: Sequence[Combination],
    metrics: Sequence[str],
    seed: int,
) -> None:
    answer.send(evaluate(base, combinations, metrics, seed=seed))
    answer.close()


def _table(
    names: list[str],
    combinations: Sequence[Combination],
    metrics: Sequence[str],
    found: Sequence[Evaluated],
    ranking: Objective,
) -> pd.DataFrame:
    frame = pd.DataFrame(
        [
            {name: combination[name] for name in names}
            | dict(zip(metrics, one.numbers, strict=True))
            | {"error": one.error}
            for combination, one in zip(combinations, found, strict=True)
        ]
    )
    frame[list(metrics)] = frame[list(metrics)].astype(float)
    if not frame["error"].any():
        frame = frame.drop(columns="error")
    order = frame.sort_values(
        ranking.metric, ascending=ranking.direction == "minimize", kind="stable"
    )
    return order.reset_index(drop=True)
