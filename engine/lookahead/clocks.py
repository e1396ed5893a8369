"""Modules as a strategy's own code sees them: the clock stands where we put it, and readings are noticed."""

from __future__ import annotations

import datetime as real_datetime
import os
import time as real_time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from engine.lookahead.outside import tell

SECOND: Final = 1_000_000_000
TICK: Final = 1000
"""Nanoseconds that pass between two readings, so that code which waits for time to pass ends."""


@dataclass(slots=True)
class Clock:
    """Wall-clock time in nanoseconds. It stands still but for a tick a reading: two evaluations see the same."""

    at: int
    readings: int = 0

    def now(self) -> int:
        self.readings += 1
        return self.at + self.readings * TICK


class Watched(ModuleType):
    """A module with some names changed; everything else is the module's own."""

    def __init__(self, module: ModuleType, changed: dict[str, Any]) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(changed)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __dir__(self) -> list[str]:
        return dir(self._module)


def watched_module(module: ModuleType, clock: Clock) -> ModuleType:
    """The module as strategies get it: time, datetime and pandas tell the clock's time."""
    makes = _CHANGED.get(module.__name__)
    return Watched(module, makes(clock, module)) if makes else module


def _time(clock: Clock, module: ModuleType) -> dict[str, Any]:
    def seconds() -> float:
        return clock.now() / SECOND

    def of_now(function: Callable[[float], Any]) -> Callable[..., Any]:
        return lambda at=None: function(seconds() if at is None else at)

    def strftime(form: str, *given: Any) -> str:
        return real_time.strftime(form, *(given or (real_time.localtime(seconds()),)))

    changed: dict[str, Any] = {"strftime": strftime}
    for name in ("localtime", "gmtime", "ctime"):
        changed[name] = of_now(getattr(real_time, name))
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        changed[name] = seconds
        changed[f"{name}_ns"] = clock.now
    return changed


class _Passing(type):
    """A class that stands for another one: made, asked and compared as it."""

    real: type

    def __call__(cls, *args: Any, **given: Any) -> Any:
        return cls.real(*args, **given)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other.real if isinstance(other, _Passing) else other, cls.real)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)


def _standing_for(real: type, own: dict[str, Any]) -> type:
    methods = {name: staticmethod(function) for name, function in own.items()}
    return _Passing(real.__name__, (), {"real": real, **methods})


def _moments(clock: Clock) -> dict[str, Any]:
    def now(tz: Any = None) -> real_datetime.datetime:
        return real_datetime.datetime.fromtimestamp(clock.now() / SECOND, tz)

    def utcnow() -> real_datetime.datetime:
        return now(real_datetime.UTC).replace(tzinfo=None)

    return {"now": now, "utcnow": utcnow, "today": now}


def _datetime(clock: Clock, module: ModuleType) -> dict[str, Any]:
    moments = _moments(clock)
    return {
        "datetime": _standing_for(real_datetime.datetime, moments),
        "date": _standing_for(real_datetime.date, {"today": lambda: moments["now"]().date()}),
    }


def _pandas(clock: Clock, module: ModuleType) -> dict[str, Any]:
    stamp: type = module.Timestamp

    def as_stamp(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: stamp(function(*given, **named))

    moments = {name: as_stamp(function) for name, function in _moments(clock).items()}

    class _Stamps(_Passing):
        def __call__(cls, *given: Any, **named: Any) -> Any:
            if given[:1] in (("now",), ("today",)):
                return moments["now"](named.get("tz"))
            return stamp(*given, **named)

    methods = {name: staticmethod(function) for name, function in moments.items()}
    return {"Timestamp": _Stamps("Timestamp", (), {"real": stamp, **methods})}


class _Environment(MutableMapping[str, str]):
    """The environment, telling who reads it."""

    def __getitem__(self, name: str) -> str:
        tell(f"reads the environment variable {name!r}")
        return os.environ[name]

    def __setitem__(self, name: str, value: str) -> None:
        os.environ[name] = value

    def __delitem__(self, name: str) -> None:
        del os.environ[name]

    def __iter__(self) -> Iterator[str]:
        tell("lists the environment variables")
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)


def _os(clock: Clock, module: ModuleType) -> dict[str, Any]:
    environment = _Environment()
    return {"environ": environment, "getenv": environment.get}


_CHANGED: Final[dict[str, Callable[[Clock, ModuleType], dict[str, Any]]]] = {
    "time": _time,
    "datetime": _datetime,
    "pandas": _pandas,
    "os": _os,
}
