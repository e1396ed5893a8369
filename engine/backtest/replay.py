"""The core driven by a `for` loop over stored bars: the truth every faster path is held to."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.actions import (
    Action,
    Booked,
    Broken,
    Cancel,
    Decide,
    Failed,
    Noted,
    OrderMoved,
    Posted,
    Submit,
)
from engine.backtest import memory
from engine.bars import Bars, instant
from engine.core import TradingCore
from engine.execution.paper import PaperBroker
from engine.standing import StrategyRun
from engine.strategies.evaluation import Evaluation
from shared.domain.decisions import Decision, Outcome
from shared.domain.ledger import LedgerEntry
from shared.domain.orders import Acknowledged, Fill, Order, OrderEvent, Rejected

Progress = Callable[[float], None]

GARBAGE: Final = 500_000
"""Objects made since the last look from which on a strategy's own cycles are looked for."""


@dataclass(slots=True)
class Record:
    """What a replay leaves behind, in the order it happened.

    times   int64[moments]    nanoseconds, closing times
    equity  float64[moments]  marked, after the moment's fills; NaN while it is not known
    cash    float64[moments]  of the base asset
    """

    times: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    equity: npt.NDArray[np.float64] = field(init=False)
    cash: npt.NDArray[np.float64] = field(init=False)
    decisions: list[Decision] = field(default_factory=list)
    fills: list[Booked] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)
    orders: int = 0
    rejected: int = 0
    partly_filled: int = 0

    def __post_init__(self) -> None:
        self.equity = np.empty(len(self.times))
        self.cash = np.empty(len(self.times))

    @property
    def exposure(self) -> npt.NDArray[np.float64]:
        """float64[moments], the value held as a fraction of equity."""
        held = self.equity - self.cash
        return np.divide(held, self.equity, out=np.zeros(len(held)), where=held != 0)

    def note(self, action: Action) -> None:
        if isinstance(action, Posted):
            self.ledger.extend(action.entries)
        elif isinstance(action, Noted):
            self.noted.append(action)
        elif isinstance(action, Broken):
            self.broken.append(action)
        elif isinstance(action, Failed):
            raise action.error

    def book(self, booked: Booked) -> None:
        self.fills.append(booked)
        self.ledger.extend(booked.entries)

    def count(self, order: Order, event: OrderEvent) -> None:
        kind = type(event)
        if kind is Acknowledged:
            self.orders += 1
        elif kind is Rejected:
            self.rejected += 1
        elif isinstance(event, Fill) and not event.last and len(order.fill_ids) == 1:
            self.partly_filled += 1


def settle(
    core: TradingCore, broker: PaperBroker, actions: Iterable[Action], at: datetime, record: Record
) -> None:
    """Carry actions out, and what follows from them; every release is granted at once."""
    for action in actions:
        if isinstance(action, OrderMoved):
            record.count(action.order, action.event)
        elif isinstance(action, Booked):
            record.book(action)
        elif isinstance(action, Decide):
            decision = action.decision
            record.decisions.append(decision)
            if decision.outcome is Outcome.ORDERED:
                settle(core, broker, core.released(decision), at, record)
        elif isinstance(action, Submit):
            settle(core, broker, core.submitted(action.request, at), at, record)
            for order_id, event in broker.submit(action.request, at):
                settle(core, broker, core.on_order_event(order_id, event), at, record)
        elif isinstance(action, Cancel):
            if action.client_order_id not in core.orders:
                continue  # it went with its parent
            for order_id, event in broker.cancel(action.client_order_id, at, "replaced"):
                settle(core, broker, core.on_order_event(order_id, event), at, record)
        else:
            record.note(action)


@dataclass(frozen=True, slots=True)
class Prices:
    """The finest bars of one instrument: what fills and marks are taken from, and its row at each moment."""

    instrument_id: int
    bars: Bars
    rows: Sequence[int]


def replay(
    core: TradingCore,
    broker: PaperBroker,
    series: Mapping[tuple[int, int], Bars],
    *,
    starts_at: datetime | None = None,
    progress: Progress | None = None,
) -> Record:
    """Run every strategy of `core` over `series` ({(instrument, interval): bars}).

    Bars that closed at or before `starts_at` are history only: strategies see them, nothing is decided.
    """
    every = [bars.closed_at for bars in series.values()]
    times = every[0] if len(every) == 1 else np.unique(np.concatenate(every))
    if starts_at is not None:
        times = times[times > _nanoseconds(starts_at)]
    runs = [core.runs[key] for key in sorted(core.runs)]
    clocks = [_begin(run, series, times) for run in runs]
    prices = _finest(series, times)
    if starts_at is not None:
        _mark_from_history(core, prices, _nanoseconds(starts_at))
    record = Record(times)
    quiet = Quiet.of(core, series, clocks, record)
    count = len(times)
    steps = max(1, count // 200)
    number, told = 0, 0
    with memory.no_search_for_garbage():
        while number < count:
            if quiet is not None and broker.is_idle:
                number = quiet.passed(number)
                if number == count:
                    break
            at = instant(times.item(number))
            _moment(core, broker, runs, clocks, prices, number, at, record)
            number += 1
            if progress is not None and number >= told:
                told = number + steps
                if gc.get_count()[0] > GARBAGE:
                    gc.collect(0)
                progress(number / count)
    if quiet is not None:
        quiet.told()
    return record


class Quiet:
    """Moments of one array strategy on one series in which nothing can be decided, passed at once.

    A target acts when it differs from the one before and from the one acted on. While no order works
    and no time is counted, a moment whose target says nothing new only marks what is held.
    """

    def __init__(self, core: TradingCore, bars: Bars, first_row: int, record: Record) -> None:
        self.core = core
        self.record = record
        (self.run,) = core.runs.values()
        (bound,) = self.run.traded
        assert self.run.evaluation is not None
        self.instrument_id = bound.instrument_id
        self.key = (self.run.id, bound.instrument_id)
        self.closes = bars.close
        self.asked = self.run.evaluation.target_at
        self.rows = first_row  # the row of the first moment
        target = self.run.evaluation.target[:, 0]
        new = ~np.isnan(target)
        if not self.run.evaluation.again:
            new[1:] &= target[1:] != target[:-1]
        new[first_row] = True  # nothing was asked before
        self.news = [*np.flatnonzero(new).tolist(), len(target)]
        self.at = 0
        self.stretches: list[tuple[int, int, float, float]] = []
        """(first moment, one after the last, money, quantity) of those passed."""

    @classmethod
    def of(
        cls,
        core: TradingCore,
        series: Mapping[tuple[int, int], Bars],
        clocks: Sequence[Sequence[int]],
        record: Record,
    ) -> Quiet | None:
        """None where moments may hold more than a target: several series, scalars, margin, bands."""
        runs = list(core.runs.values())
        if len(runs) != 1 or len(series) != 1 or runs[0].scalar or not len(record.times):
            return None
        if core.portfolio.margin.enabled or runs[0].sizing.band is not None:
            return None
        (bars,) = series.values()
        return cls(core, bars, clocks[0][0], record)

    def passed(self, number: int) -> int:
        """The next moment in which something may happen; `told` puts those before it on record."""
        run, portfolio = self.run, self.core.portfolio
        standing = run.standings[self.instrument_id]
        held = portfolio.positions.get(self.key)
        quantity = 0.0 if held is None else float(held.quantity)
        if standing.time_exit and quantity:
            return number
        row = self.rows + number
        while self.news[self.at] < row:
            self.at += 1
        until = self.news[self.at]
        count = until - row
        if count <= 0:
            return number
        cash = highest = float(portfolio.cash)
        last = self.closes.item(until - 1)
        if quantity:
            closes = self.closes[row:until]
            highest += quantity * float(closes.max() if quantity > 0 else closes.min())
            standing.age += count
        if highest > portfolio.peak:
            portfolio.peak = highest
        run.row = until - 1
        standing.asked = self.asked(0, until - 1)
        portfolio.marks[self.instrument_id] = last
        self.core.equity = cash + quantity * last
        self.core.moment_at = None  # nothing is owed for time where there is no margin
        self.stretches.append((number, number + count, cash, quantity))
        return number + count

    def told(self) -> None:
        """Put what was passed on record."""
        if not self.stretches:
            return
        first, after, cash, quantity = (
            np.array(column) for column in zip(*self.stretches, strict=True)
        )
        counts = after - first
        ends = np.cumsum(counts)
        moments = np.arange(ends[-1]) + np.repeat(first - ends + counts, counts)
        money = np.repeat(cash, counts)
        self.record.cash[moments] = money
        self.record.equity[moments] = (
            money + np.repeat(quantity, counts) * self.closes[self.rows + moments]
        )


def _moment(
    core: TradingCore,
    broker: PaperBroker,
    runs: Sequence[StrategyRun],
    clocks: Sequence[Sequence[int]],
    prices: Sequence[Prices],
    number: int,
    at: datetime,
    record: Record,
) -> None:
    closing = [(found, row) for found in prices if (row := found.rows[number]) >= 0]
    if not broker.is_idle:
        for order_id, event in broker.on_bars([found.bars.bar(row) for found, row in closing]):
            settle(core, broker, core.on_order_event(order_id, event), at, record)
        for order_id, event in broker.expire(at):
            settle(core, broker, core.on_order_event(order_id, event), at, record)
    marks = core.portfolio.marks
    for found, row in closing:
        marks[found.instrument_id] = found.bars.close.item(row)
    due = []
    for run, clock in zip(runs, clocks, strict=True):
        if (row := clock[number]) >= 0:
            run.row = row
            due.append(run)
    actions = core.on_moment(at, due)
    if actions:
        settle(core, broker, actions, at, record)
    record.equity[number] = math.nan if core.equity is None else core.equity
    record.cash[number] = core.portfolio.cash


def _begin(
    run: StrategyRun, series: Mapping[tuple[int, int], Bars], times: npt.NDArray[np.int64]
) -> Sequence[int]:
    """Evaluate the strategy over all rows; the rows of its clock at each moment."""
    bars = {bound.key: series[bound.instrument_id, bound.interval] for bound in run.inputs}
    run.evaluation = Evaluation(run.strategy, run.inputs, bars)
    return _rows(bars[run.evaluation.clock], times)


def _finest(series: Mapping[tuple[int, int], Bars], times: npt.NDArray[np.int64]) -> list[Prices]:
    """One for each instrument, in the order of their ids."""
    finest: dict[int, tuple[int, Bars]] = {}
    for (instrument_id, interval), bars in sorted(series.items()):
        if instrument_id not in finest or interval < finest[instrument_id][0]:
            finest[instrument_id] = (interval, bars)
    return [
        Prices(instrument_id, bars, _rows(bars, times))
        for instrument_id, (_, bars) in sorted(finest.items())
    ]


def _mark_from_history(core: TradingCore, prices: Sequence[Prices], at: int) -> None:
    """What was known when trading began: the newest close of each instrument until then."""
    for found in prices:
        row = int(np.searchsorted(found.bars.closed_at, at, side="right")) - 1
        if row >= 0:
            core.portfolio.mark(found.instrument_id, found.bars.close.item(row))


def _rows(bars: Bars, times: npt.NDArray[np.int64]) -> Sequence[int]:
    """The row that closes at each of `times`, -1 where none does."""
    closed_at = bars.closed_at
    skipped = len(closed_at) - len(times)
    if skipped >= 0 and np.array_equal(closed_at[skipped:], times):
        return range(skipped, len(closed_at))
    rows = np.searchsorted(closed_at, times)
    rows[rows == len(closed_at)] = 0
    rows[closed_at[rows] != times] = -1
    found: list[int] = rows.tolist()
    return found


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
