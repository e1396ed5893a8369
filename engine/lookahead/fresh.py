"""A strategy class as if no line of its file had ever run: modules keep things between runs."""

from __future__ import annotations

import builtins
import itertools
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, ModuleType
from typing import Any, Final

import numpy as np

from engine.lookahead.clocks import Clock, watched_module
from engine.lookahead.outside import OPAQUE
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import source_of, types_of

OUR_OWN: Final = ("engine", "shared", "webapp", "deploy")
FOR_STRATEGIES: Final = ("engine.indicators", "engine.strategies", "engine.bars", "shared.domain")


class Fresh:
    """Makes a strategy's class anew, watching what its module imports and where its clock stands."""

    def __init__(self, strategy: type[BaseStrategy], clock: Clock) -> None:
        self.clock = clock
        self.opaque: set[str] = set()
        """What it uses that cannot be watched."""
        self._strategy = strategy
        found = source_of(strategy)
        self._code = compile(found.source, found.file_name, "exec") if found else None
        if self._code is not None and _asks_numpy_for_the_time(self._code):
            self.opaque.add("numpy.datetime64('now')")
        self._file_name = found.file_name if found else ""
        self._name = strategy.__module__

    def load(self) -> type[BaseStrategy]:
        """The class in a new module; the same class where its file is not known."""
        if self._code is None:
            return self._strategy
        self.clock.readings = 0
        module = ModuleType(self._name)
        module.__file__ = self._file_name
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        with _in_place_of(self._name, module):
            types = types_of(lambda: exec(self._code, module.__dict__))  # type: ignore[arg-type]  # noqa: S102
        return next(
            cls for name, cls in types.items() if cls.__qualname__ == self._strategy.__qualname__
        )

    def _import(
        self,
        name: str,
        globals_: Mapping[str, object] | None = None,
        locals_: Mapping[str, object] | None = None,
        names: Any = (),
        level: int = 0,
    ) -> ModuleType:
        module = builtins.__import__(name, globals_, locals_, names or (), level)
        if not level and _is_opaque(name, names or ()):
            self.opaque.add(name)
        return watched_module(module, self.clock)


def _is_opaque(name: str, names: Any) -> bool:
    """Whether the gate cannot see what goes on behind an import."""
    first = name.partition(".")[0]
    if first not in OUR_OWN:
        return first in OPAQUE
    wanted = [name, *(f"{name}.{one}" for one in names)]
    return not any(w == ours or w.startswith(f"{ours}.") for w in wanted for ours in FOR_STRATEGIES)


def _asks_numpy_for_the_time(code: CodeType) -> bool:
    """Whether some function of the code makes a `datetime64` of "now" or "today"."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    asks = "datetime64" in code.co_names and not {"now", "today"}.isdisjoint(
        const for const in code.co_consts if isinstance(const, str)
    )
    return asks or any(_asks_numpy_for_the_time(one) for one in inner)


@contextmanager
def _in_place_of(name: str, module: ModuleType) -> Iterator[None]:
    """`module` under its name while it is made, then what was there."""
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        if before is not None:
            sys.modules[name] = before
        else:
            del sys.modules[name]


_seeds = itertools.count(1)


@contextmanager
def chance_kept() -> Iterator[None]:
    """Inside, whoever draws without a seed draws something else each time; afterwards the process goes on
    as if nothing had been drawn."""
    legacy, plain = np.random.get_state(), random.getstate()
    seed = next(_seeds)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(legacy)
        random.setstate(plain)
