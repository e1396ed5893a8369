"""What a strategy is: typed parameters, the bars it reads, features over them, and signals."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from engine.bars import Bars
from engine.indicators import Column, Feature
from shared.domain.orders import Fill
from shared.domain.signals import JSON, Signal, Signals

UNDECLARED_MEMORY = 500
"""Bars of history for a strategy with plain arrays among its features and no `history` of its own."""


class Input(NamedTuple):
    """A bar series the strategy reads. `instrument` is its symbol; `interval` as text, such as `1m`."""

    instrument: str
    interval: str
    trades: bool = True


class BadParameter(ValueError):
    """A parameter the strategy cannot run with: names it, the value, and what to give instead."""

    def __init__(self, name: str, value: object, remedy: str) -> None:
        super().__init__(f"{name}: {value!r} {remedy}")
        self.name = name
        self.value = value
        self.remedy = remedy


@dataclass(slots=True)
class Param:
    """A typed, bounded, documented parameter: a field of the console's form."""

    default: Any
    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None
    choices: Sequence[Any] | None = None
    help: str = ""
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: BaseStrategy | None, owner: type) -> Any:
        return self if instance is None else instance.parameters[self.name]

    @property
    def type(self) -> str:
        if self.choices is not None:
            return "choice"
        return {bool: "bool", int: "int", float: "float"}.get(type(self.default), "text")

    def check(self, value: Any) -> Any:
        """The value as its type, or BadParameter."""
        value = self._typed(value)
        if self.choices is not None and value not in self.choices:
            raise BadParameter(
                self.name, value, f"is not one of {', '.join(map(str, self.choices))}"
            )
        bounds: tuple[tuple[float | None, Callable[[Any, Any], bool], str], ...] = (
            (self.ge, operator.ge, "at least"),
            (self.le, operator.le, "at most"),
            (self.gt, operator.gt, "more than"),
            (self.lt, operator.lt, "less than"),
        )
        for bound, holds, words in bounds:
            if bound is not None and not holds(value, bound):
                raise BadParameter(self.name, value, f"must be {words} {bound:g}")
        return value

    def _typed(self, value: Any) -> Any:
        kind = type(self.default)
        if kind is bool:
            if isinstance(value, str) and value.lower() in {"true", "yes", "on", "1"}:
                return True
            if isinstance(value, str) and value.lower() in {"false", "no", "off", "0", ""}:
                return False
            if not isinstance(value, bool):
                raise BadParameter(self.name, value, "is not yes or no")
            return value
        try:
            number = kind(value) if not isinstance(value, bool) else None
        except (TypeError, ValueError):
            number = None
        if number is None or (kind is int and float(value) != number):
            words = {int: "a whole number", float: "a number"}.get(kind, "text")
            raise BadParameter(self.name, value, f"is not {words}")
        if kind is float and not math.isfinite(number):
            raise BadParameter(self.name, value, "is not a finite number")
        return number


def param(
    default: Any,
    *,
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    lt: float | None = None,
    choices: Sequence[Any] | None = None,
    help: str = "",
) -> Any:
    """Declare a parameter in a strategy's class body; read it as an attribute."""
    return Param(default, ge, le, gt, lt, choices, help)


@dataclass(slots=True)
class Series:
    """A bar series the user chooses: an instrument and an interval."""

    trades: bool = True
    help: str = ""
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


def series(*, trades: bool = True, help: str = "") -> Any:
    """Declare a further input in a strategy's class body. Every strategy has `main`."""
    return Series(trades, help)


class Features:
    """Feature columns on the clock's rows; `f["short"]` is float64[moments]."""

    __slots__ = ("closed_at", "columns")

    def __init__(self, columns: Mapping[str, Column], closed_at: np.ndarray[Any, Any]) -> None:
        self.columns = columns
        self.closed_at = closed_at

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.closed_at)


@dataclass(slots=True)
class Moment:
    """One closing of the clock, as the strategy may see it: this row and the ones before, no later one.

    `now["short"]` is a feature's value; `columns` and `bars` end at this row; `held` is {symbol:
    signed quantity}; `entry_price` the average price of what is held.
    """

    closed_at: datetime
    row: int
    _columns: Mapping[str, Column]
    _bars: Callable[[], Mapping[str, Bars]]
    held: Mapping[str, float] = field(default_factory=dict)
    entry_price: Mapping[str, float] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Column]:
        return {name: column[: self.row + 1] for name, column in self._columns.items()}

    @property
    def bars(self) -> Mapping[str, Bars]:
        return self._bars()

    def __getitem__(self, name: str) -> float:
        return float(self._columns[name].item(self.row))

    def before(self, name: str, bars: int = 1) -> float:
        """A feature's value `bars` moments ago; NaN before there was one."""
        if bars < 0:
            raise ValueError(f"before({name!r}, {bars}) would read the future; give 0 or more")
        row = self.row - bars
        return float(self._columns[name][row]) if row >= 0 else math.nan


class BaseStrategy:
    """Subclass it, register it, declare parameters with `param`, and give features and signals.

    Exactly one of `generate_signals` (arrays over all rows; row t is the signal of moment t) and
    `generate_signal` (scalars, one moment at a time; may keep `state`) is defined. A target acts
    only when it changes.
    """

    main = series(help="The bars it decides on, and the instrument it trades.")
    history: ClassVar[int | None] = None
    """Bars needed before the first signal, when plain arrays among the features hide it."""

    def __init__(self, parameters: Mapping[str, Any], inputs: Mapping[str, Input]) -> None:
        self.parameters = self.checked(parameters)
        self._inputs = dict(inputs)
        self.state: dict[str, JSON] = {}
        self.check()

    # What a strategy may define -----------------------------------------------------------

    def check(self) -> None:
        """Raise BadParameter when parameters do not go together."""

    def inputs(self) -> Mapping[str, Input]:
        """The bar series it reads, by key. The first trading one is the clock."""
        return self._inputs

    def features(self, bars: Mapping[str, Bars]) -> Mapping[str, Feature | Column]:
        """Causal columns. Those of a slower input say so with `.on(key)`."""
        return {}

    def generate_signals(self, f: Features) -> Signals:
        raise AttributeError("not in array form")

    def generate_signal(self, now: Moment) -> Signal | Iterable[Signal] | None:
        raise AttributeError("not in scalar form")

    def because(self, now: Moment) -> str:
        """The reason for this moment's signal, in a few words, for the record."""
        return ", ".join(f"{name} {now[name]:.6g}" for name in now.columns)

    def on_fill(self, fill: Fill, now: Moment | None) -> None:
        """Scalar form only: hear of a fill."""

    # What the engine asks ---------------------------------------------------------------

    @classmethod
    def params(cls) -> dict[str, Param]:
        """Declared parameters, in the order of the class body."""
        return {
            name: value
            for owner in reversed(cls.__mro__)
            for name, value in vars(owner).items()
            if isinstance(value, Param)
        }

    @classmethod
    def series(cls) -> dict[str, Series]:
        """Declared inputs, `main` first."""
        return {
            name: value
            for owner in reversed(cls.__mro__)
            for name, value in vars(owner).items()
            if isinstance(value, Series)
        }

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter with its type and bounds checked and defaults filled in."""
        declared = cls.params()
        for name in given:
            if name not in declared:
                known = ", ".join(declared) or "none"
                raise BadParameter(name, given[name], f"is no parameter here (known: {known})")
        return {
            name: p.check(given[name]) if name in given else p.default
            for name, p in declared.items()
        }

    @classmethod
    def is_scalar(cls) -> bool:
        return cls.generate_signal is not BaseStrategy.generate_signal

    @classmethod
    def is_array(cls) -> bool:
        return cls.generate_signals is not BaseStrategy.generate_signals

    @classmethod
    def schema(cls) -> list[dict[str, Any]]:
        """Parameters and inputs as the console's form needs them."""
        rows: list[dict[str, Any]] = [
            {
                "name": p.name,
                "type": p.type,
                "default": p.default,
                "ge": p.ge,
                "le": p.le,
                "gt": p.gt,
                "lt": p.lt,
                "choices": list(p.choices) if p.choices is not None else None,
                "help": p.help,
            }
            for p in cls.params().values()
        ]
        rows += [
            {"name": s.name, "type": "input", "trades": s.trades, "help": s.help}
            for s in cls.series().values()
        ]
        return rows

    def clock_key(self) -> str:
        """The first trading input: its bars are the moments."""
        for key, wanted in self.inputs().items():
            if wanted.trades:
                return key
        raise BadParameter("inputs", list(self.inputs()), "hold none that trades")

    def memory(self) -> int:
        """Bars of the clock's history that make its newest features whole."""
        probe = {key: Bars.empty(0, 60) for key in self.inputs()}
        own = self.history
        try:
            found = self.features(probe)
        except (IndexError, ValueError):
            return own or UNDECLARED_MEMORY
        memories = [value.memory for value in found.values() if isinstance(value, Feature)]
        plain = [value for value in found.values() if not isinstance(value, Feature)]
        # A raw bar column needs one bar; other plain arrays cannot say what they need.
        names = ("open", "high", "low", "close", "volume")
        raw = {id(getattr(bars, name)) for bars in probe.values() for name in names}
        if own is None and any(id(value) not in raw for value in plain):
            memories.append(UNDECLARED_MEMORY)
        return max([own or 1, *memories])


def aligned(
    strategy: BaseStrategy, bars: Mapping[str, Bars], clock: str
) -> tuple[dict[str, Column], np.ndarray[Any, Any]]:
    """The strategy's features on the clock's rows: slower inputs joined on closed_at <= now."""
    closed_at = bars[clock].closed_at
    columns: dict[str, Column] = {}
    for name, given in strategy.features(bars).items():
        feature = given if isinstance(given, Feature) else Feature(np.asarray(given, np.float64), 1)
        key = feature.input or clock
        source = bars[key]
        if len(feature.values) != len(source):
            raise ValueError(
                f"feature {name!r} has {len(feature.values)} rows, its input {key!r} has "
                f"{len(source)}: say which input it belongs to with .on(key)"
            )
        columns[name] = (
            feature.values if key == clock else _joined(feature.values, source.closed_at, closed_at)
        )
    return columns, closed_at


def _joined(
    values: Column, known_at: np.ndarray[Any, Any], moments: np.ndarray[Any, Any]
) -> Column:
    rows = np.searchsorted(known_at, moments, side="right") - 1
    if not len(values):
        return np.full(len(moments), np.nan)
    return cast(Column, np.where(rows >= 0, values[np.maximum(rows, 0)], np.nan))
