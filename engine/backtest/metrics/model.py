"""A metric: a number, or the reason why there is none, with how it came about."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.backtest.metrics.facts import Facts


@dataclass(frozen=True, slots=True)
class Metric:
    """One number, how it was worked out (`how`) and from how many inputs (`n`).

    `value` is None when it is not defined, and `reason` says why. `details` are further facts, as JSON.
    """

    name: str
    value: float | None
    reason: str
    n: int
    unit: str
    how: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Undefined(Exception):
    """Why there is no number, and from how many inputs there is none."""

    def __init__(self, reason: str, n: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.n = n


@dataclass(frozen=True, slots=True)
class Found:
    """A defined value, from `n` inputs."""

    value: float
    n: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric by name: its unit, its formula in words, and the function that finds it.

    Units: `%` (a fraction, 0.05 reads 5 %), `ratio`, `currency`, `count`, `seconds`.
    """

    name: str
    unit: str
    how: str
    find: Callable[[Facts], Found]

    def measured(self, facts: Facts) -> Metric:
        try:
            found = self.find(facts)
        except Undefined as undefined:
            return Metric(self.name, None, undefined.reason, undefined.n, self.unit, self.how)
        if not math.isfinite(found.value):
            reason = "too large to be a number"
            return Metric(self.name, None, reason, found.n, self.unit, self.how)
        return Metric(self.name, found.value, "", found.n, self.unit, self.how, found.details)


def as_json(metrics: Iterable[Metric]) -> dict[str, Any]:
    """{name: {"value", "reason", "n", "unit", "how"[, "details"]}}."""
    found: dict[str, Any] = {}
    for metric in metrics:
        found[metric.name] = {
            "value": metric.value,
            "reason": metric.reason,
            "n": metric.n,
            "unit": metric.unit,
            "how": metric.how,
        }
        if metric.details:
            found[metric.name]["details"] = dict(metric.details)
    return found
