"""A strategy's opinion at every row of some bars: computed once for a backtest, per moment when live."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from engine.bars import Bars, instant
from engine.indicators import Column
from engine.strategies.base import BaseStrategy, Features, Moment, aligned
from shared.domain.market import Bar
from shared.domain.signals import Entry, Exit, Limit, Signal, Signals, Stop

NAN: Final = math.nan

Holdings = Callable[[], tuple[Mapping[str, float], Mapping[str, float]]]
"""({symbol: signed quantity}, {symbol: average price}) of what is held."""

_NOTHING_HELD: Final[tuple[Mapping[str, float], Mapping[str, float]]] = ({}, {})


@dataclass(frozen=True, slots=True)
class BoundInput:
    """An input of a strategy, bound to an instrument we know."""

    key: str
    instrument_id: int
    symbol: str
    interval: int
    trades: bool


class BadSignal(ValueError):
    """A strategy said something that is no signal: which field, what, and what it should be."""


class Evaluation:
    """A strategy over `bars`: its columns on the clock's rows, and its signals there.

    signals  what the array form said; None of the scalar form
    target   float64[moments, trading instruments], its targets
    """

    __slots__ = (
        "_is_finite", "bars", "clock", "columns", "inputs", "signals", "strategy", "target", "traded",
    )  # fmt: skip

    def __init__(
        self, strategy: BaseStrategy, inputs: Sequence[BoundInput], bars: Mapping[str, Bars]
    ) -> None:
        self.strategy = strategy
        self.inputs = {bound.key: bound for bound in inputs}
        self.bars = bars
        self.clock = next(bound.key for bound in inputs if bound.trades)
        self.traded = traded_inputs(inputs)
        self.columns, closed_at = aligned(strategy, bars, self.clock)
        self.signals: Signals | None = None
        self._is_finite = False
        if strategy.is_array():
            self.signals = strategy.generate_signals(Features(self.columns, closed_at))
            self.target = self._shaped(np.asarray(self.signals.target, np.float64), len(closed_at))

    def __len__(self) -> int:
        return len(self.bars[self.clock])

    def _shaped(self, target: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
        if target.ndim == 1:
            target = target[:, None]
        if target.shape != (rows, len(self.traded)):
            raise BadSignal(
                f"target has shape {target.shape}; give one row a moment and one column a trading "
                f"instrument: {(rows, len(self.traded))}"
            )
        return target

    @property
    def again(self) -> bool:
        """Whether a target of the array form acts though it repeats the one before."""
        return self.signals is not None and self.signals.again

    def target_at(self, column: int, row: int) -> float:
        """The target of one trading instrument at one row. BadSignal if any of them is infinite."""
        if not self._is_finite:
            if np.isinf(self.target).any():
                raise BadSignal("target holds an infinite value: give a fraction, or NaN to leave")
            self._is_finite = True
        return float(self.target.item(row, column))

    def signal(self, column: int, row: int) -> Signal:
        """The array form's signal of one instrument at one row, in scalars."""
        assert self.signals is not None
        target = self.target_at(column, row)
        return Signal(
            instrument=self.traded[column].symbol,
            target=None if math.isnan(target) else target,
            entry=_scalar_entry(self.signals.entry, row, column),
            exits=tuple([_scalar_exit(exit_, row, column) for exit_ in self.signals.exits]),
            tag=self.signals.tag,
            again=self.signals.again,
        )

    def scalar_signals(self, row: int, holdings: Holdings) -> list[Signal]:
        """What the scalar form says at one row."""
        held = holdings()  # now: a strategy may keep a moment and look at it later
        said = self.strategy.generate_signal(self.moment(row, lambda: held))
        if said is None:
            return []
        signals = [said] if isinstance(said, Signal) else list(_signals(said))
        signals = [_in_python(signal) for signal in signals]
        known = {bound.symbol for bound in self.traded}
        for signal in signals:
            if signal.instrument not in known:
                raise BadSignal(
                    f"signal for {signal.instrument!r}, which this strategy does not trade "
                    f"(it trades {', '.join(sorted(known))})"
                )
            if signal.target is not None and not math.isfinite(signal.target):
                raise BadSignal(f"signal for {signal.instrument}: target {signal.target}")
        return signals

    def moment(self, row: int, holdings: Holdings | None = None) -> Moment:
        """`holdings` is asked while the strategy looks at the moment, or never."""
        return _Moment(self, row, holdings)

    def known_bars(self, row: int) -> Callable[[], Mapping[str, Bars]]:
        """Every input's bars up to the clock's row, cut only when the strategy looks at them."""

        def cut() -> Mapping[str, Bars]:
            return {
                key: bars[: self._row_of(self.inputs[key], row) + 1]
                for key, bars in self.bars.items()
            }

        return cut

    def closed_at(self, row: int) -> datetime:
        return instant(self.bars[self.clock].closed_at.item(row))

    def bar_of(self, bound: BoundInput, row: int) -> Bar | None:
        """The newest closed bar of an input at the clock's row; None before its first."""
        own = self._row_of(bound, row)
        return self.bars[bound.key].bar(own) if own >= 0 else None

    def recent(self, bound: BoundInput, row: int, count: int) -> tuple[Column, Column]:
        """(closes, traded values) of up to `count` newest closed bars of an input."""
        bars = self.bars[bound.key]
        last = self._row_of(bound, row) + 1
        window = slice(max(0, last - count), last)
        return bars.close[window], bars.close[window] * bars.volume[window]

    def _row_of(self, bound: BoundInput, row: int) -> int:
        if bound.key == self.clock:
            return row
        now = self.bars[self.clock].closed_at[row]
        return int(np.searchsorted(self.bars[bound.key].closed_at, now, side="right")) - 1


class _Moment(Moment):
    """A moment that asks what is held when the strategy first looks: most never do."""

    __slots__ = ("_holdings",)

    def __init__(self, evaluation: Evaluation, row: int, holdings: Holdings | None) -> None:
        self.closed_at, self.row = evaluation.closed_at(row), row
        self._columns, self._bars = evaluation.columns, evaluation.known_bars(row)
        self._holdings = holdings

    def __getattr__(self, name: str) -> Any:
        if name not in ("held", "entry_price"):
            raise AttributeError(name)
        self.held, self.entry_price = self._holdings() if self._holdings else _NOTHING_HELD
        return getattr(self, name)


def traded_inputs(inputs: Iterable[BoundInput]) -> list[BoundInput]:
    """One input an instrument it trades: the first declared, in the order of instrument ids."""
    first: dict[int, BoundInput] = {}
    for bound in inputs:
        if bound.trades:
            first.setdefault(bound.instrument_id, bound)
    return [first[instrument_id] for instrument_id in sorted(first)]


def _in_python(signal: Signal) -> Signal:
    """With a target of Python's own: numpy's would go on into orders, rows and JSON."""
    if signal.target is None or type(signal.target) is float:
        return signal
    try:
        return signal._replace(target=float(signal.target))
    except (TypeError, ValueError):
        raise BadSignal(
            f"signal for {signal.instrument}: target {signal.target!r} is no number"
        ) from None


def _signals(said: Iterable[Any]) -> Iterable[Signal]:
    for signal in said:
        if not isinstance(signal, Signal):
            raise BadSignal(
                f"generate_signal gave {signal!r}: give Signal, several of them, or None"
            )
        yield signal


def _cell(value: Any, row: int, column: int) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return float(value[row] if value.ndim == 1 else value[row, column])


def _scalar_entry(entry: Entry, row: int, column: int) -> Entry:
    if isinstance(entry, Limit | Stop):
        return replace(entry, price=_cell(entry.price, row, column))
    return entry


def _scalar_exit(exit_: Exit, row: int, column: int) -> Exit:
    changed = {
        field.name: _cell(value, row, column)
        for field in fields(exit_)
        if isinstance(value := getattr(exit_, field.name), np.ndarray)
    }
    return replace(exit_, **changed) if changed else exit_


class Window:
    """The newest bars of each input of a live strategy: enough for its features, and no more."""

    def __init__(
        self,
        strategy: BaseStrategy,
        inputs: Sequence[BoundInput],
        history: Mapping[str, Bars],
        rows: int,
    ) -> None:
        self.strategy = strategy
        self.inputs = list(inputs)
        self.rows = rows
        self.bars = {key: bars[-self.rows :] for key, bars in history.items()}

    def add(self, bar: Bar) -> bool:
        """Take a closed bar in; True when it is one of the clock's."""
        clock = next(bound.key for bound in self.inputs if bound.trades)
        is_clock = False
        for bound in self.inputs:
            if (bound.instrument_id, bound.interval) != (bar.instrument_id, bar.interval):
                continue
            held = self.bars[bound.key]
            if len(held) and int(held.closed_at[-1]) >= Bars.of([bar]).closed_at[0]:
                continue
            self.bars[bound.key] = Bars.joined([held, Bars.of([bar])])[-self.rows :]
            is_clock = is_clock or bound.key == clock
        return is_clock

    def evaluate(self) -> Evaluation:
        return Evaluation(self.strategy, self.inputs, self.bars)


def needed_rows(strategy: BaseStrategy, *windows: int) -> int:
    """Rows that make the newest row whole: the features' memory, what rules and sizing read, and room."""
    return max(strategy.memory() + 10, 300, *(window + 10 for window in windows))
