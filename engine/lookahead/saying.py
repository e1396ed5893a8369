"""What a strategy says over some bars: its features, and its signals where they are arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from engine.bars import Bars, Instants
from engine.indicators import Column
from engine.strategies.base import BaseStrategy, Features, Input, aligned
from engine.strategies.evaluation import BoundInput
from shared.domain.market import interval_text
from shared.domain.signals import Limit, Signals, Stop

RELATIVE: Final = 1e-9
ABSOLUTE: Final = 1e-12
"""Two values are the same when they differ by less than 1e-9 of themselves or 1e-12 of the column's
largest: sums that end elsewhere may round otherwise, and nothing of the future fits in between."""


@dataclass(frozen=True, slots=True)
class Said:
    """Columns by name, features first, on the clock's rows. What is one value for all rows stands in `fixed`."""

    closed_at: Instants
    columns: dict[str, Column]
    fixed: dict[str, Any]

    def __len__(self) -> int:
        return len(self.closed_at)


def instance(
    cls: type[BaseStrategy], parameters: Mapping[str, Any], inputs: Sequence[BoundInput]
) -> BaseStrategy:
    """As a run makes it."""
    named = {b.key: Input(b.symbol, interval_text(b.interval), b.trades) for b in inputs}
    return cls(parameters, named)


def said(strategy: BaseStrategy, inputs: Sequence[BoundInput], bars: Mapping[str, Bars]) -> Said:
    """Ask for everything there is to ask for at once."""
    clock = next(bound.key for bound in inputs if bound.trades)
    columns, closed_at = aligned(strategy, bars, clock)
    if not strategy.is_array():
        return Said(closed_at, columns, {})
    signals = strategy.generate_signals(Features(columns, closed_at))
    symbols = list(dict.fromkeys(b.symbol for b in inputs if b.trades))
    found = dict(columns)
    fixed: dict[str, Any] = {}
    for name, value in _parts(signals):
        if isinstance(value, np.ndarray) and value.ndim:
            if len(value) != len(closed_at):
                raise ValueError(f"{name} has {len(value)} rows for {len(closed_at)} moments")
            found.update(_by_symbol(name, value, symbols))
        else:
            fixed[f"signal: {name}"] = value
    return Said(closed_at, found, fixed)


def _parts(signals: Signals) -> Iterator[tuple[str, Any]]:
    """Target, entry, exits and tag, each with the name a finding gives it."""
    yield "target", np.asarray(signals.target, dtype=np.float64)
    yield "entry", type(signals.entry).__name__
    if isinstance(signals.entry, Limit | Stop):
        yield f"{_words(signals.entry)} price", signals.entry.price
    for exit_ in signals.exits:
        for field in fields(exit_):
            value = getattr(exit_, field.name)
            if value is not None:
                yield f"{_words(exit_)} {field.name}", value
    yield "exits", tuple(type(exit_).__name__ for exit_ in signals.exits)
    yield "tag", signals.tag


def _words(part: Any) -> str:
    return {
        "Limit": "limit",
        "Stop": "stop",
        "StopLoss": "stop loss",
        "TakeProfit": "take profit",
        "TrailingStop": "trailing stop",
        "TimeExit": "time exit",
    }.get(type(part).__name__, type(part).__name__)


def _by_symbol(name: str, value: Any, symbols: Sequence[str]) -> Iterator[tuple[str, Column]]:
    columns = np.asarray(value, dtype=np.float64)
    if columns.ndim == 1:
        yield f"signal: {name}", columns
        return
    for place, symbol in enumerate(symbols):
        yield f"signal: {name} of {symbol}", columns[:, place]


# Where two sayings differ -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A column that is not the same: at which rows, first to last, or a fixed value (`rows` empty)."""

    name: str
    rows: Any
    whole: Any
    cut: Any


def unlike(whole: Any, cut: Any) -> Any:
    """The rows where two columns are not the same; NaN is the same as NaN."""
    rows = np.flatnonzero(whole != cut)
    a, b = whole[rows], cut[rows]
    numbers = ~(np.isnan(a) & np.isnan(b))
    rows, a, b = rows[numbers], a[numbers], b[numbers]
    if not len(rows):
        return rows
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(a), np.abs(b))
        near = np.abs(a - b) <= np.maximum(RELATIVE * size, ABSOLUTE * largest(whole))
    return rows[~(near & np.isfinite(size))]


def largest(column: Any) -> float:
    """The largest finite size in a column; 0 if there is none."""
    finite = np.abs(column[np.isfinite(column)])
    return float(finite.max()) if len(finite) else 0.0


def differences(whole: Said, cut: Said, rows: int, starts: int = 0) -> list[Difference]:
    """What differs in the rows from `starts` to `rows`; a feature that is there only once differs everywhere."""
    part = slice(starts, rows)
    found = [
        Difference(name, (), name in whole.columns, name in cut.columns)
        for name in whole.columns.keys() ^ cut.columns.keys()
    ]
    for name, column in whole.columns.items():
        if name not in cut.columns:
            continue
        a, b = column[part], cut.columns[name][part]
        differ = unlike(a, b)
        if len(differ):
            first = int(differ[0])
            found.append(Difference(name, differ + starts, float(a[first]), float(b[first])))
    found += [
        Difference(name, (), value, cut.fixed.get(name))
        for name, value in whole.fixed.items()
        if not same(value, cut.fixed.get(name))
    ]
    return found


def same(a: Any, b: Any) -> bool:
    """Two values that are no columns."""
    if isinstance(a, float | np.floating) and isinstance(b, float | np.floating):
        return bool(
            a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=RELATIVE)
        )
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b)
