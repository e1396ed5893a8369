"""A strategy at work, and where it stands: what it last asked, and what it last acted on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from engine.sizing import Sizing
from engine.strategies.base import BaseStrategy
from engine.strategies.evaluation import BoundInput, Evaluation, traded_inputs
from shared.domain.orders import Number

NAN: Final = math.nan


class Standing(Struct):
    """Where a strategy stands in one instrument: what it last asked, and what it last acted on.

    `asked` is the raw target of the moment before (NaN when it said nothing); a target acts when it
    differs from both, so a stop that closed a position is not undone by the same target going on.
    """

    target: float = 0.0
    before: float = 0.0
    asked: float = NAN
    age: int = 0
    time_exit: int = 0

    def as_json(self) -> dict[str, Any]:
        asked = None if math.isnan(self.asked) else self.asked
        return {
            "target": self.target,
            "before": self.before,
            "asked": asked,
            "age": self.age,
            "time_exit": self.time_exit,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Standing:
        asked = given.get("asked")
        return cls(
            target=given.get("target", 0.0),
            before=given.get("before", 0.0),
            asked=NAN if asked is None else asked,
            age=given.get("age", 0),
            time_exit=given.get("time_exit", 0),
        )


@dataclass(slots=True)
class StrategyRun:
    """A strategy at work: its opinion so far (`evaluation` at `row`) and where it stands."""

    id: int
    name: str
    strategy: BaseStrategy
    inputs: tuple[BoundInput, ...]
    allocation: Number
    sizing: Sizing
    standings: dict[int, Standing] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    row: int = -1
    stopping: bool = False
    traded: list[BoundInput] = field(init=False)
    scalar: bool = field(init=False)

    def __post_init__(self) -> None:
        self.traded = traded_inputs(self.inputs)
        self.scalar = self.strategy.is_scalar()
        for bound in self.traded:
            self.standings.setdefault(bound.instrument_id, Standing())

    def state(self) -> dict[str, Any]:
        """What a restart needs, as JSON. Of a strategy that failed for its state, without that."""
        standings = {str(key): value.as_json() for key, value in self.standings.items()}
        try:
            self.check_state()
        except (TypeError, ValueError, RecursionError):
            return {"standings": standings, "own": {}}
        return {"standings": standings, "own": self.strategy.state}

    def check_state(self) -> None:
        """Raises when JSON could not hold the strategy's own state, and so no restart give it back."""
        if not isinstance(self.strategy.state, dict):
            raise TypeError(f"state is {self.strategy.state!r}: keep it a dict")
        if self.strategy.state:
            json.dumps(self.strategy.state, allow_nan=False)

    def restore(self, state: Mapping[str, Any]) -> None:
        for key, value in state.get("standings", {}).items():
            self.standings[int(key)] = Standing.from_json(value)
        self.strategy.state = dict(state.get("own", {}))
