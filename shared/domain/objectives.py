"""What a sweep is judged by: metrics by name, which way is better, and one number out of several series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

MOST_OBJECTIVES: Final = 3
DIRECTIONS: Final = ("maximize", "minimize")

METRICS: Final[Mapping[str, tuple[str, str]]] = {
    "sharpe": ("Sharpe", "ratio"),
    "sortino": ("Sortino", "ratio"),
    "total_return": ("Total return", "%"),
    "cagr": ("CAGR", "%"),
    "max_drawdown": ("Max drawdown", "%"),
    "calmar": ("Calmar", "ratio"),
    "ulcer_index": ("Ulcer index", "%"),
    "martin": ("Martin ratio", "ratio"),
    "omega": ("Omega", "ratio"),
    "psr": ("Probabilistic Sharpe", "%"),
    "volatility": ("Volatility", "%"),
    "profit_factor": ("Profit factor", "ratio"),
    "win_rate": ("Win rate", "%"),
    "payoff": ("Payoff", "ratio"),
    "sqn": ("SQN", "ratio"),
    "average_trade": ("Average trade", "currency"),
    "average_return": ("Average return", "%"),
    "final_equity": ("Final equity", "currency"),
    "trades": ("Trades", "count"),
    "exposure": ("Exposure", "%"),
    "time_in_market": ("Time in market", "%"),
    "turnover": ("Turnover", "ratio"),
    "fees": ("Fees", "currency"),
    "costs": ("Costs", "currency"),
}
"""Metric -> its title and unit: what can be searched for."""

LOWER_IS_BETTER: Final = frozenset(
    {"max_drawdown", "ulcer_index", "volatility", "fees", "costs", "turnover"}
)
ALWAYS_KEPT: Final = ("sharpe", "total_return", "max_drawdown", "trades")
"""Kept with every point, whatever is searched for."""

AGGREGATES: Final = ("mean", "median", "worst")


class BadObjective(ValueError):
    """An objective that cannot be: names the field, the value, and what to give instead."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to make as large or as small as can be."""

    metric: str
    direction: str = "maximize"

    @property
    def sign(self) -> int:
        """What a value is multiplied with so that larger is better."""
        return 1 if self.direction == "maximize" else -1

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def usual(metric: str) -> str:
    """The direction most people want of a metric."""
    return "minimize" if metric in LOWER_IS_BETTER else "maximize"


def objectives_from(given: Iterable[Mapping[str, Any]]) -> tuple[Objective, ...]:
    """Checked objectives, the first being the one that ranks."""
    found = tuple(
        Objective(metric := str(one.get("metric", "")), str(one.get("direction") or usual(metric)))
        for one in given
    )
    if not 1 <= len(found) <= MOST_OBJECTIVES:
        raise BadObjective(f"objectives: {len(found)} given; give 1 to {MOST_OBJECTIVES}")
    for objective in found:
        if objective.metric not in METRICS:
            raise BadObjective(
                f"objectives: {objective.metric!r} is not one of {', '.join(METRICS)}"
            )
        if objective.direction not in DIRECTIONS:
            raise BadObjective(
                f"objectives: {objective.direction!r} is not one of {', '.join(DIRECTIONS)}"
            )
    if len({objective.metric for objective in found}) < len(found):
        raise BadObjective("objectives: a metric is given twice; give each once")
    return found


def kept(objectives: Iterable[Objective]) -> tuple[str, ...]:
    """The metrics kept with every point, those of the objectives first."""
    return tuple(dict.fromkeys([*(o.metric for o in objectives), *ALWAYS_KEPT]))


def aggregated(values: Sequence[float | None], aggregate: str, direction: str) -> float | None:
    """One number for several series; None where one of them has none."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    if aggregate == "mean":
        return statistics.fmean(known)
    if aggregate == "median":
        return statistics.median(known)
    return min(known) if direction == "maximize" else max(known)


_EULER: Final = 0.5772156649015329


def by_luck(deviation: float, trials: int) -> float:
    """What the best of so many worthless trials is expected to show, when they scatter around 0 like these.

    Bailey and Lopez de Prado, The Deflated Sharpe Ratio (2014), for trials that do not hang together; those of
    a sweep do, so it is the most that luck would show.
    """
    if trials < 2:
        return 0.0
    normal = statistics.NormalDist()
    first = normal.inv_cdf(1 - 1 / trials)
    second = normal.inv_cdf(1 - 1 / (trials * math.e))
    return deviation * ((1 - _EULER) * first + _EULER * second)
