"""What a strategy says at a moment when it is asked again, on the bars up to then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sqlalchemy.orm import Session

from engine import catalogue
from engine.bars import SECOND, Bars, instant, nanoseconds
from engine.core import FAILURES
from engine.margin import Margin
from engine.narrator import stopped_at_error
from engine.risk.volatility import annual_volatility
from engine.sizing import Sizing, wanted_exposure
from engine.strategies.base import BaseStrategy, Input
from engine.strategies.evaluation import BoundInput, Evaluation, needed_rows
from engine.strategies.registry import NoSuchStrategy
from engine.why_facts import (
    DAY,
    FeatureFacts,
    SignalFacts,
)
from shared.domain.instruments import Instrument
from shared.domain.market import interval_text

NO_MARGIN: Final = Margin()
PICTURED: Final = 90
"""Bars before the moment of which features are told, for the picture."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A strategy of the catalogue with its parameters; without one, `error` says why."""

    inputs: tuple[BoundInput, ...]
    sizing: Sizing
    rows: int
    needed: int
    strategy: BaseStrategy | None = None
    error: str = ""

    @property
    def clock(self) -> BoundInput:
        return next(bound for bound in self.inputs if bound.trades)

    def symbols(self, *, trading: bool) -> tuple[str, ...]:
        found = [b.symbol for b in self.inputs if b.trades is trading or not trading]
        return tuple(dict.fromkeys(found))


def subject_of(
    session: Session,
    type_: str,
    code_hash: str,
    parameters: Mapping[str, Any],
    inputs: Sequence[BoundInput],
    sizing: Sizing,
    window: int,
) -> Subject:
    named = {b.key: Input(b.symbol, interval_text(b.interval), b.trades) for b in inputs}
    try:
        cls = catalogue.strategy_class(session.connection(), type_, code_hash)
        strategy = cls(parameters, named)
        needed = strategy.memory()
        rows = needed_rows(strategy, window, sizing.window + 1)
    except NoSuchStrategy as error:
        return Subject(tuple(inputs), sizing, 300, 0, error=str(error))
    except FAILURES as error:
        return Subject(tuple(inputs), sizing, 300, 0, error=stopped_at_error(error))
    return Subject(tuple(inputs), sizing, rows, needed, strategy)


@dataclass(frozen=True, slots=True)
class Seen:
    """The bars up to the asked time, the clock's moment in them, and the strategy over them."""

    bars: Mapping[str, Bars]
    clock: BoundInput
    moment: datetime
    row: int
    evaluation: Evaluation | None = None
    error: str = ""

    @property
    def interval(self) -> int:
        return self.clock.interval

    @property
    def has_bar(self) -> bool:
        return self.row >= 0

    @classmethod
    def at(cls, subject: Subject, bars: Mapping[str, Bars], at: datetime) -> Seen:
        """The clock's newest bar that closed at or before `at`, if it is no older than one interval."""
        clock = subject.clock
        closed = bars[clock.key].closed_at
        row = int(np.searchsorted(closed, nanoseconds(at), side="right")) - 1
        if row < 0 or nanoseconds(at) - int(closed[row]) >= clock.interval * SECOND:
            return cls(bars, clock, _on_grid(at, clock.interval), -1)
        moment = instant(int(closed[row]))
        if subject.strategy is None:
            return cls(bars, clock, moment, row, error=subject.error)
        try:
            evaluation = Evaluation(subject.strategy, subject.inputs, bars)
        except FAILURES as error:
            return cls(bars, clock, moment, row, error=stopped_at_error(error))
        return cls(bars, clock, moment, row, evaluation)


def _on_grid(at: datetime, interval: int) -> datetime:
    """The last multiple of the interval since 1970: when a bar would close. Days keep their time."""
    if interval >= DAY:
        return at
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % interval, UTC)


def signal_of(
    subject: Subject,
    seen: Seen,
    instrument: Instrument,
    held: float,
    standing: float,
    worth: float | None = None,
    margin: Margin = NO_MARGIN,
) -> SignalFacts | None:
    """What the strategy says at the moment and said at the one before."""
    if not seen.has_bar:
        return None
    had = seen.row + 1
    evaluation = seen.evaluation
    if evaluation is None:
        error = seen.error or subject.error
        return SignalFacts(needed=subject.needed, had=had, standing=standing, error=error)
    place = [b.instrument_id for b in evaluation.traded]
    if instrument.id not in place:
        return None
    bound = evaluation.traded[place.index(instrument.id)]
    try:
        now, before, because = _said(evaluation, bound, seen.row, held)
    except FAILURES as error:
        text = stopped_at_error(error)
        return SignalFacts(needed=subject.needed, had=had, standing=standing, error=text)
    bar = evaluation.bar_of(bound, seen.row)
    exposure = wanted = None
    if bar is not None and worth:
        exposure = held * bar.close / worth
        if not math.isnan(now):
            volatility = _volatility(evaluation, subject.sizing, bound, instrument, seen.row)
            wanted = wanted_exposure(now, subject.sizing, worth, bar.close, volatility, margin)
    return SignalFacts(
        target=now,
        before=before,
        standing=standing,
        because=because,
        needed=subject.needed,
        had=had,
        features=tuple(_features(evaluation, seen.row)),
        caveat=_caveat(evaluation),
        exposure=exposure,
        wanted=wanted,
        band=subject.sizing.band,
    )


def _volatility(
    evaluation: Evaluation, sizing: Sizing, bound: BoundInput, instrument: Instrument, row: int
) -> float | None:
    if sizing.method != "volatility":
        return None
    closes, _ = evaluation.recent(bound, row, sizing.window + 1)
    return annual_volatility(closes, sizing.window, instrument.bars_per_year(bound.interval))


def _said(
    evaluation: Evaluation, bound: BoundInput, row: int, held: float
) -> tuple[float, float, str]:
    """(target now, target the moment before, its reason)."""

    def holdings() -> tuple[dict[str, float], dict[str, float]]:
        return {bound.symbol: held}, {}

    strategy = evaluation.strategy
    if strategy.is_array():
        column = [b.instrument_id for b in evaluation.traded].index(bound.instrument_id)
        now = evaluation.target_at(column, row)
        before = evaluation.target_at(column, row - 1) if row else math.nan
    else:
        now = _scalar(evaluation, bound, row, holdings)
        before = _scalar(evaluation, bound, row - 1, holdings) if row else math.nan
    because = str(strategy.because(evaluation.moment(row, holdings)) or "")
    return now, before, because


def _scalar(evaluation: Evaluation, bound: BoundInput, row: int, holdings: Any) -> float:
    kept = dict(evaluation.strategy.state)
    said = evaluation.scalar_signals(row, holdings)
    evaluation.strategy.state = kept
    found = next((signal.target for signal in said if signal.instrument == bound.symbol), None)
    return math.nan if found is None else float(found)


def _caveat(evaluation: Evaluation) -> str:
    if evaluation.strategy.is_array():
        return ""
    return (
        "In scalar form with nothing in its own state: what it remembered at that moment is not stored, "
        "so a strategy that keeps state may have said something else."
    )


def _features(evaluation: Evaluation, row: int) -> Iterator[FeatureFacts]:
    for name, column in evaluation.columns.items():
        before = float(column[row - 1]) if row else math.nan
        yield FeatureFacts(name, float(column[row]), before)


def drawn(seen: Seen) -> dict[str, list[tuple[int, float | None]]]:
    """Features that are prices, as lines: those that stay within the bars' own range, a little beyond."""
    evaluation = seen.evaluation
    if evaluation is None or not seen.has_bar:
        return {}
    bars = seen.bars[seen.clock.key]
    rows = slice(max(0, seen.row + 1 - PICTURED), min(len(bars), seen.row + 1 + PICTURED // 2))
    low, high = float(bars.low[rows].min()), float(bars.high[rows].max())
    room = high - low
    opened = (bars.opened_at[rows] // SECOND).tolist()
    found = {}
    for name, column in evaluation.columns.items():
        values = column[rows]
        known = values[~np.isnan(values)]
        if len(known) and low - room <= known.min() and known.max() <= high + room and room > 0:
            found[name] = [
                (second, None if math.isnan(value) else value)
                for second, value in zip(opened, values.tolist(), strict=True)
            ]
    return found
