"""What combinations of parameters are worth on some bars: the one door between a sweep and the backtest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rq.timeouts import JobTimeoutException

from engine.backtest.job import conclude
from engine.backtest.provenance import start_chance
from engine.backtest.simulation import fastest
from engine.backtest.specification import Specification
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
    for number, parameters in enumerate(combinations):

        def within(fraction: float, done: int = number) -> None:
            if progress is not None:
                progress((done + fraction) / len(combinations))

        start_chance(seed)
        found.append(_evaluated(specification, parameters, metrics, within))
        within(1.0)
    return found


def _evaluated(
    specification: Specification,
    parameters: Mapping[str, Any],
    metrics: Sequence[str],
    progress: Progress,
) -> Evaluated:
    own = replace(specification, parameters=parameters)
    try:
        simulated = fastest(own, decisions=False, progress=progress)
        values = {m.name: m.value for m in conclude(own, simulated).metrics}
    except _INTERRUPTIONS:
        raise
    except Exception as error:  # a strategy's own code may raise anything, for some parameters only
        return Evaluated((None,) * len(metrics), _told(error))
    return Evaluated(tuple(values.get(name) for name in metrics))


def _told(error: Exception) -> str:
    """A refusal in its own words, anything else with its kind."""
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return text.replace("\0", "")[:_LONGEST] or type(error).__name__
