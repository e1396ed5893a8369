"""One strategy asked again and again: each time anew, watched, and over other bars."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.bars import Bars
from engine.lookahead.clocks import Clock
from engine.lookahead.fresh import Fresh, chance_kept
from engine.lookahead.holding import Holding
from engine.lookahead.outside import listening
from engine.lookahead.saying import Said, instance, said
from engine.lookahead.walking import Answers, walk, walk_blind
from engine.strategies.base import BaseStrategy
from engine.strategies.evaluation import BoundInput

Class = type[BaseStrategy]


class Fails(Exception):
    """The strategy's code raised. Says what."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Reply:
    """All it said: its columns, and for a scalar strategy its answers row by row.

    `seconds` is what the columns took.
    """

    said: Said
    seconds: float
    answers: Answers | None = None


@dataclass(slots=True)
class Asking:
    """Asks a strategy, and remembers what it touched beside the bars.

    A frugal one loads the file twice and no more: code that is compiled when it is loaded would cost the
    whole budget otherwise.
    """

    strategy: Class
    inputs: tuple[BoundInput, ...]
    parameters: Mapping[str, Any]
    clock: Clock
    heard: dict[str, str] = field(default_factory=dict)
    fresh: Fresh = field(init=False)
    is_frugal: bool = False
    _loaded: list[Class] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fresh = Fresh(self.strategy, self.clock)

    @property
    def is_scalar(self) -> bool:
        return self.strategy.is_scalar()

    def anew(self) -> Class:
        """A class nobody has used; with a frugal one, the second of two from then on."""
        if self.is_frugal and len(self._loaded) >= 2:
            return self._loaded[1]
        with self.watched():
            cls = self.fresh.load()
        if self.is_frugal:
            self._loaded.append(cls)
        return cls

    def ask(self, cls: Class, bars: Mapping[str, Bars], held: Holding, rows: int = 0) -> Reply:
        """Columns on all rows; a scalar strategy's answers in the first `rows`. Raises Fails."""
        with self.watched():
            started = time.perf_counter()
            columns = said(self._instance(cls), self.inputs, bars)
            seconds = time.perf_counter() - started
            if not self.is_scalar or not rows:
                return Reply(columns, seconds)
            answers = walk(self._instance(cls), self.inputs, bars, held, rows=rows)
            return Reply(columns, seconds, answers)

    def ask_anew(self, bars: Mapping[str, Bars], held: Holding, rows: int = 0) -> Reply:
        return self.ask(self.anew(), bars, held, rows)

    def ask_blind(self, bars: Mapping[str, Bars], whole: Said, held: Holding, rows: int) -> Answers:
        """A scalar strategy's answers while the future holds other bars."""
        cls = self.anew()
        with self.watched():
            return walk_blind(self._instance(cls), self.inputs, bars, whole.columns, held, rows)

    def memories(self) -> tuple[dict[str, int], int]:
        """Bars each feature declares it remembers, and what the strategy as a whole declares."""
        from engine.indicators import Feature

        cls = self.anew()
        with self.watched():
            strategy = self._instance(cls)
            empty = {b.key: Bars.empty(b.instrument_id, b.interval) for b in self.inputs}
            whole = strategy.memory()
            try:
                found = strategy.features(empty)
            except (IndexError, ValueError):
                return {}, whole
            own = {name: f.memory for name, f in found.items() if isinstance(f, Feature)}
        return own, whole

    def _instance(self, cls: Class) -> BaseStrategy:
        return instance(cls, self.parameters, self.inputs)

    @contextmanager
    def watched(self) -> Iterator[None]:
        with listening() as heard, chance_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except (Exception, SystemExit) as error:
                raise Fails(error) from error
            finally:
                for said_, event in heard.items():
                    self.heard.setdefault(said_, event)
