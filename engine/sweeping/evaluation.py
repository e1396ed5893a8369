"""What combinations of parameters are worth on some bars: the one door between a sweep and the backtest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from rq.timeouts import JobTimeoutException

from engine import rolling
from engine.backtest.job import began
from engine.backtest.kernel import NotCovered
from engine.backtest.many import REMEMBERED_BYTES, Search
from engine.backtest.metrics import Curve, measure_only
from engine.backtest.metrics.curves import daily_rows
from engine.backtest.provenance import start_chance
from engine.backtest.results import Simulated
from engine.backtest.simulation import fastest
from engine.backtest.specification import Specification
from engine.backtest.trades import round_trips
from engine.bars import nanoseconds
from engine.work import AttemptSuperseded, JobCancelled

Progress = Callable[[float], None]

_INTERRUPTIONS: Final = (JobCancelled, AttemptSuperseded, JobTimeoutException)
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One combination's numbers in the order they were asked for, None where one is not defined.

    `error` says why there are none at all.
    """

    numbers: tuple[float | None, ...]
    error: str = ""


def evaluate(
    specification: Specification,
    combinations: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
    progress: Progress | None = None,
    seed: int = 0,
) -> list[Evaluated]:
    """The metrics of each combination, in order. One that fails says so and stops no other.

    Each begins with chance started from `seed`, as its full run does: none depends on those before it.

    `progress` hears how far it is, 0 to 1, several times a combination where runs are long; whatever it
    raises ends the work.
    """
    found = []
    counting = Counting.of(specification, metrics)
    with rolling.remembered(REMEMBERED_BYTES):
        for number, parameters in enumerate(combinations):

            def within(fraction: float, done: int = number) -> None:
                if progress is not None:
                    progress((done + fraction) / len(combinations))

            own = replace(specification, parameters=parameters)
            found.append(_evaluated(own, metrics, within, counting, seed))
            within(1.0)
    return found


class Counting:
    """The quick way to numbers that need no curve: see `engine.backtest.many`."""

    def __init__(self, specification: Specification, metrics: Sequence[str]) -> None:
        self.specification = specification
        self.metrics = metrics
        traded = [bound for bound in specification.inputs if bound.trades]
        self._calendar = specification.instruments[traded[0].instrument_id].calendar
        times = specification.bars[traded[0].key].closed_at
        if specification.starts_at is not None:
            first = np.searchsorted(times, nanoseconds(specification.starts_at), side="right")
            times = times[first:]
        whole = Curve(
            began(specification, specification.bars[traded[0].key]),
            specification.capital,
            times,
            np.ones(len(times)),
            np.zeros(len(times)),
        )
        _, rows = daily_rows(whole, self._calendar)
        self._rows = np.unique(rows[rows >= 0])
        self._thin = replace(
            whole, times=times[self._rows], equity=np.ones(len(self._rows)),
            exposure=np.zeros(len(self._rows)),
        )  # fmt: skip
        self._search = Search(specification, self._rows)

    @classmethod
    def of(cls, specification: Specification, metrics: Sequence[str]) -> Counting | None:
        """None where a curve is needed, or there is more than one series."""
        if not COUNTED.issuperset(metrics) or len(specification.bars) != 1:
            return None
        return cls(specification, metrics)

    def numbers(self, parameters: Mapping[str, Any]) -> tuple[float | None, ...]:
        """The metrics of one combination. NotCovered when it takes a whole run."""
        found = self._search.worth(parameters)
        by_day = [name for name in self.metrics if name in BY_DAY]
        curve = replace(self._thin, equity=found.day_equity)
        values = measure_only(by_day, curve, calendar=self._calendar) if by_day else {}
        counted: dict[str, float | None] = {
            "final_equity": found.final_equity,
            "max_drawdown": found.max_drawdown,
            "trades": float(found.trades),
        }
        return tuple({**values, **counted}[name] for name in self.metrics)


BY_DAY: Final = frozenset({"sharpe", "total_return", "cagr", "volatility"})
"""Metrics of equity at the ends of days."""

COUNTED: Final = BY_DAY | {"final_equity", "max_drawdown", "trades"}


def _evaluated(
    own: Specification,
    metrics: Sequence[str],
    progress: Progress,
    counting: Counting | None,
    seed: int,
) -> Evaluated:
    try:
        counted = None if counting is None else _counted(counting, own.parameters, seed)
        if counted is not None:
            return Evaluated(counted)
        start_chance(seed)
        values = _measured(own, fastest(own, decisions=False, progress=progress), metrics)
    except _INTERRUPTIONS:
        raise
    except Exception as error:  # a strategy's own code may raise anything, for some parameters only
        return Evaluated((None,) * len(metrics), _told(error))
    return Evaluated(tuple(values[name] for name in metrics))


def _measured(
    own: Specification, simulated: Simulated, metrics: Sequence[str]
) -> dict[str, float | None]:
    """What `engine.backtest.job.conclude` would say of these metrics, and nothing else of it."""
    traded = [bound for bound in own.inputs if bound.trades]
    bars = {bound.instrument_id: own.bars[bound.key] for bound in reversed(traded)}
    first = traded[0].instrument_id
    curve = Curve(
        began(own, bars[first]),
        own.capital,
        simulated.times,
        simulated.equity,
        simulated.exposure,
    )
    return measure_only(
        metrics,
        curve,
        round_trips(simulated.fills, bars),
        fills=simulated.fills,
        paid=simulated.paid,
        counts=simulated.counts,
        calendar=own.instruments[first].calendar,
        hold=[
            b if own.starts_at is None else b.between(own.starts_at, None) for b in bars.values()
        ],
    )


def _counted(
    counting: Counting, parameters: Mapping[str, Any], seed: int
) -> tuple[float | None, ...] | None:
    """The quick way's numbers, None where it takes a whole run.

    Each combination is asked for itself, so what one comes to never hangs on those before it in its chunk.
    """
    start_chance(seed)
    try:
        return counting.numbers(parameters)
    except NotCovered:
        return None


def _told(error: Exception) -> str:
    """A refusal in its own words, anything else with its kind."""
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return text.replace("\0", "")[:_LONGEST] or type(error).__name__
