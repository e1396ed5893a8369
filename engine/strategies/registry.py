"""Strategy types by name, and loading their code from files and from rows."""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from engine.strategies.base import BaseStrategy

Class = TypeVar("Class", bound=type[BaseStrategy])

BUILT_IN = ("moving_average_cross", "rsi_reversion", "bollinger_reversion", "donchian_breakout")


@dataclass(frozen=True, slots=True)
class Source:
    """The text a strategy class was made from."""

    file_name: str
    source: str


class BadStrategy(ValueError):
    """A class that cannot be a strategy type; says why and what to do."""


class NoSuchStrategy(LookupError):
    """No type of that name is in the catalogue."""


_collecting: list[tuple[str, type[BaseStrategy]]] = []
_sources: dict[str, Source] = {}


def register_strategy(name: str) -> Callable[[Class], Class]:
    """Put a class in the catalogue of the file being loaded."""

    if not isinstance(name, str) or not name.isidentifier() or len(name) > 80:
        raise BadStrategy(f"name {name!r}: use letters, digits and underscores, at most 80")

    def decorate(cls: Class) -> Class:
        if not issubclass(cls, BaseStrategy):
            raise BadStrategy(f"{name}: class {cls.__name__} must subclass BaseStrategy")
        if cls.is_array() == cls.is_scalar():
            raise BadStrategy(
                f"{name}: define exactly one of generate_signals (arrays) and generate_signal (scalars)"
            )
        for parameter in cls.params().values():
            parameter.check(parameter.default)
        _collecting.append((name, cls))
        return cls

    return decorate


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """One strategy file: its code by hash and the types it registered, or the traceback of why not."""

    file_name: str
    source: str
    hash: str
    types: dict[str, type[BaseStrategy]]
    error: str | None = None


def load_source(file_name: str, source: str) -> LoadedFile:
    """Run a strategy file's source and collect what it registers. A broken one is told, never raised."""
    code_hash = hashlib.sha256(source.encode()).hexdigest()
    module = ModuleType(f"seraphim_strategy_{code_hash[:12]}")
    module.__file__ = file_name
    sys.modules[module.__name__] = module
    _sources[module.__name__] = Source(file_name, source)
    with _collector() as found:
        try:
            exec(compile(source, file_name, "exec"), module.__dict__)  # noqa: S102  the user's own code is what we run
        except BaseException as error:  # a strategy file may fail in any way, SystemExit too
            if isinstance(error, KeyboardInterrupt):
                raise
            return LoadedFile(file_name, source, code_hash, {}, _traceback(file_name))
    if not found:
        text = f"{file_name} registers no strategy: decorate a class with @register_strategy(name)"
        return LoadedFile(file_name, source, code_hash, {}, text)
    names = [name for name, _ in found]
    if twice := {name for name in names if names.count(name) > 1}:
        text = f"{file_name} registers {', '.join(sorted(twice))} twice: names must differ"
        return LoadedFile(file_name, source, code_hash, {}, text)
    return LoadedFile(file_name, source, code_hash, dict(found))


def source_of(cls: type[BaseStrategy]) -> Source | None:
    """The file a class was loaded from; None for one that came otherwise."""
    return _sources.get(cls.__module__)


def types_of(execute: Callable[[], object]) -> dict[str, type[BaseStrategy]]:
    """The types that are registered while `execute` runs."""
    with _collector() as found:
        execute()
        return dict(found)


@contextmanager
def _collector() -> Iterator[list[tuple[str, type[BaseStrategy]]]]:
    _collecting.clear()
    yield _collecting


def _traceback(file_name: str) -> str:
    """The traceback from the user's file on; our own loading frames say nothing to its author."""
    kind, error, trace = sys.exc_info()
    while trace is not None and trace.tb_frame.f_code.co_filename != file_name:
        trace = trace.tb_next
    return "".join(traceback.format_exception(kind, error, trace))


def built_in_files() -> list[LoadedFile]:
    """The strategies that ship with Seraphim, read as any user's file is."""
    folder = files("engine.strategies")
    return [
        load_source(f"{name}.py", (folder / f"{name}.py").read_text(encoding="utf-8"))
        for name in BUILT_IN
    ]


def user_files(folder: Path) -> list[LoadedFile]:
    """The user's own files, by name. An unreadable one is told like a broken one."""
    loaded = []
    for path in sorted(folder.glob("*.py")):
        if path.name.startswith(("_", ".")):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            if "\0" in source:
                raise ValueError(f"{path.name} holds a zero byte: it is no Python source")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8
            loaded.append(
                LoadedFile(path.name, "", hashlib.sha256(b"").hexdigest(), {}, str(error))
            )
            continue
        loaded.append(load_source(path.name, source))
    return loaded


TEMPLATE = '''"""{title}: say in a sentence what it bets on."""

from engine.indicators import sma
from engine.strategies.base import BaseStrategy, param
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals, StopLoss

import numpy as np


@register_strategy("{name}")
class {cls}(BaseStrategy):
    """What the console shows beside the form. Long while the close is above its average."""

    # Parameters: typed by their default, bounded, documented. They become the console's form.
    window = param(50, ge=2, le=500, help="Bars in the average.")
    stop = param(0.05, gt=0, lt=1, help="Leave when the price falls this fraction below the entry.")

    def features(self, bars):
        # Columns of float64, one row a bar, computed from this bar and earlier ones only.
        # bars["main"] has opened_at, closed_at, open, high, low, close, volume.
        close = bars["main"].close
        return {{"close": close, "average": sma(close, self.window)}}

    def generate_signals(self, f):
        # One row a moment. 1.0 is fully long, 0.0 flat, NaN leaves things as they are.
        # A target acts only when it changes; an order decided here fills on a later bar.
        target = np.where(f["close"] > f["average"], 1.0, 0.0)
        target[np.isnan(f["average"])] = np.nan
        return Signals(target, exits=(StopLoss(fraction=self.stop),))

    def because(self, now):
        # The reason that is kept with the decision and shown in the console.
        return f"close {{now['close']:.6g}}, average {{now['average']:.6g}}"
'''


def template(name: str) -> str:
    """A commented strategy file to start from."""
    if not name.isidentifier() or name != name.lower():
        raise BadStrategy(f"name {name!r}: use lower-case letters, digits and underscores")
    words = name.split("_")
    return TEMPLATE.format(
        name=name,
        cls="".join(word.capitalize() for word in words),
        title=" ".join(words).capitalize(),
    )
