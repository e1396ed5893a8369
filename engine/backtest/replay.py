"""The core driven by a `for` loop over stored bars: the truth every faster path is held to."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

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
from engine.bars import Bars
from engine.core import TradingCore
from engine.execution.paper import PaperBroker
from engine.standing import NAN, StrategyRun
from engine.strategies.evaluation import Evaluation
from shared.domain.decisions import Decision, Outcome
from shared.domain.ledger import LedgerEntry
from shared.domain.orders import Acknowledged, Fill, Order, OrderEvent, Rejected

Progress = Callable[[float], None]


@dataclass(slots=True)
class Record:
    """What a replay leaves behind, in the order it happened.

    times     int64[moments]    nanoseconds, closing times
    equity    float64[moments]  marked, after the moment's fills
    exposure  float64[moments]  value held as a fraction of equity
    """

    times: list[int] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    fills: list[Booked] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)
    orders: int = 0
    rejected: int = 0
    partly_filled: int = 0

    def note(self, action: Action) -> None:
        if isinstance(action, OrderMoved):
            self._count(action.order, action.event)
        elif isinstance(action, Booked):
            self.fills.append(action)
            self.ledger.extend(action.entries)
        elif isinstance(action, Posted):
            self.ledger.extend(action.entries)
        elif isinstance(action, Noted):
            self.noted.append(action)
        elif isinstance(action, Broken):
            self.broken.append(action)
        elif isinstance(action, Failed):
            raise action.error

    def _count(self, order: Order, event: OrderEvent) -> None:
        if isinstance(event, Acknowledged):
            self.orders += 1
        elif isinstance(event, Rejected):
            self.rejected += 1
        elif isinstance(event, Fill) and not event.last and len(order.fill_ids) == 1:
            self.partly_filled += 1


def settle(
    core: TradingCore, broker: PaperBroker, actions: Iterable[Action], at: datetime, record: Record
) -> None:
    """Carry actions out until none is left; every release is granted at once."""
    left = deque(actions)
    while left:
        action = left.popleft()
        record.note(action)
        if isinstance(action, Decide):
            record.decisions.append(action.decision)
            if action.decision.outcome is Outcome.ORDERED:
                left.extendleft(reversed(core.released(action.decision)))
        elif isinstance(action, Submit):
            left.extend(core.submitted(action.request, at))
            for order_id, event in broker.submit(action.request, at):
                left.extend(core.on_order_event(order_id, event))
        elif isinstance(action, Cancel):
            if action.client_order_id not in core.orders:
                continue  # it went with its parent
            for order_id, event in broker.cancel(action.client_order_id, at, "replaced"):
                left.extend(core.on_order_event(order_id, event))


@dataclass(frozen=True, slots=True)
class Prices:
    """The finest bars of one instrument: what fills and marks are taken from."""

    bars: Bars
    rows: Mapping[int, int]
    closes: Sequence[float]


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
    record = Record()
    runs = [core.runs[key] for key in sorted(core.runs)]
    clocks = [_begin(run, series) for run in runs]
    prices = _finest(series)
    times = np.unique(np.concatenate([bars.closed_at for bars in series.values()]))
    if starts_at is not None:
        times = times[times > _nanoseconds(starts_at)]
        _mark_from_history(core, prices, _nanoseconds(starts_at))
    moments = times.tolist()
    quiet = Quiet.of(core, series, clocks, moments)
    steps = max(1, len(moments) // 200)
    number, told = 0, 0
    with memory.no_search_for_garbage():
        while number < len(moments):
            if quiet is not None and broker.is_idle:
                number = quiet.passed(number, record)
                if number == len(moments):
                    break
            now = moments[number]
            at = datetime.fromtimestamp(now // 1_000_000_000, UTC)
            _moment(core, broker, runs, clocks, prices, now, at, record)
            number += 1
            if progress is not None and number >= told:
                told = number + steps
                gc.collect(0)
                progress(number / len(moments))
    return record


class Quiet:
    """Moments of one array strategy on one series in which nothing can be decided, passed at once.

    A target acts when it differs from the one before and from the one acted on. While no order works
    and no time is counted, a moment whose target says nothing new only marks what is held.
    """

    def __init__(self, core: TradingCore, bars: Bars, first_row: int, moments: list[int]) -> None:
        self.core = core
        (self.run,) = core.runs.values()
        (self.bound,) = self.run.traded
        assert self.run.evaluation is not None
        self.closes = bars.close
        self.rows = first_row  # the row of the first moment
        self.moments = moments
        target = self.run.evaluation.target[:, 0]
        new = ~np.isnan(target)
        if not self.run.evaluation.again:
            new[1:] &= target[1:] != target[:-1]
        new[first_row] = True  # nothing was asked before
        self.news = np.flatnonzero(new)

    @classmethod
    def of(
        cls,
        core: TradingCore,
        series: Mapping[tuple[int, int], Bars],
        clocks: Sequence[Mapping[int, int]],
        moments: list[int],
    ) -> Quiet | None:
        """None where moments may hold more than a target: several series, scalars, margin, bands."""
        runs = list(core.runs.values())
        if len(runs) != 1 or len(series) != 1 or runs[0].scalar or not moments:
            return None
        if core.portfolio.margin.enabled or runs[0].sizing.band is not None:
            return None
        (bars,) = series.values()
        return cls(core, bars, clocks[0][moments[0]], moments)

    def passed(self, number: int, record: Record) -> int:
        """The next moment in which something may happen; those before it are on record."""
        run, portfolio = self.run, self.core.portfolio
        standing = run.standings[self.bound.instrument_id]
        held = portfolio.position(run.id, self.bound.instrument_id)
        if standing.time_exit and not held.is_flat:
            return number
        row = self.rows + number
        at = int(np.searchsorted(self.news, row))
        until = int(self.news[at]) if at < len(self.news) else self.rows + len(self.moments)
        count = until - row
        if count <= 0:
            return number
        cash = float(portfolio.cash)
        closes = self.closes[row:until]
        quantity = float(held.quantity)
        worth = cash + quantity * closes if quantity else np.full(count, cash)
        highest = float(worth.max())
        if highest > portfolio.peak:
            portfolio.peak = highest
        record.times.extend(self.moments[number : number + count])
        record.equity.extend(worth.tolist())
        share = (worth - cash) / worth if quantity else np.zeros(count)
        record.exposure.extend(share.tolist())
        if quantity:
            standing.age += count
        run.row = until - 1
        standing.asked = run.evaluation.targets[0][until - 1] if run.evaluation else NAN
        portfolio.marks[self.bound.instrument_id] = float(closes[-1])
        self.core.equity = float(worth[-1])
        self.core.moment_at = datetime.fromtimestamp(
            self.moments[number + count - 1] // 1_000_000_000, UTC
        )
        return number + count


def _moment(
    core: TradingCore,
    broker: PaperBroker,
    runs: Sequence[StrategyRun],
    clocks: Sequence[Mapping[int, int]],
    prices: Mapping[int, Prices],
    now: int,
    at: datetime,
    record: Record,
) -> None:
    closing = [
        (key, found, row)
        for key, found in prices.items()
        if (row := found.rows.get(now)) is not None
    ]
    if not broker.is_idle:
        for order_id, event in broker.on_bars([found.bars.bar(row) for _, found, row in closing]):
            settle(core, broker, core.on_order_event(order_id, event), at, record)
        for order_id, event in broker.expire(at):
            settle(core, broker, core.on_order_event(order_id, event), at, record)
    for instrument_id, found, row in closing:
        core.portfolio.marks[instrument_id] = found.closes[row]
    due = []
    for run, clock in zip(runs, clocks, strict=True):
        if (row := clock.get(now)) is not None:
            run.row = row
            due.append(run)
    actions = core.on_moment(at, due)
    if actions:
        settle(core, broker, actions, at, record)
    equity = float(core.equity) if core.equity is not None else float("nan")
    record.times.append(now)
    record.equity.append(equity)
    cash = float(core.portfolio.cash)
    record.exposure.append(0.0 if cash == equity else (equity - cash) / equity)


def _begin(run: StrategyRun, series: Mapping[tuple[int, int], Bars]) -> dict[int, int]:
    """Evaluate the strategy over all rows; its clock as {closing time: row}."""
    bars = {bound.key: series[bound.instrument_id, bound.interval] for bound in run.inputs}
    run.evaluation = Evaluation(run.strategy, run.inputs, bars)
    return _rows(bars[run.evaluation.clock])


def _finest(series: Mapping[tuple[int, int], Bars]) -> dict[int, Prices]:
    finest: dict[int, tuple[int, Bars]] = {}
    for (instrument_id, interval), bars in sorted(series.items()):
        if instrument_id not in finest or interval < finest[instrument_id][0]:
            finest[instrument_id] = (interval, bars)
    return {
        instrument_id: Prices(bars, _rows(bars), bars.close.tolist())
        for instrument_id, (_, bars) in finest.items()
    }


def _mark_from_history(core: TradingCore, prices: Mapping[int, Prices], at: int) -> None:
    """What was known when trading began: the newest close of each instrument until then."""
    for instrument_id, found in prices.items():
        row = int(np.searchsorted(found.bars.closed_at, at, side="right")) - 1
        if row >= 0:
            core.portfolio.mark(instrument_id, found.closes[row])


def _rows(bars: Bars) -> dict[int, int]:
    return dict(zip(bars.closed_at.tolist(), range(len(bars)), strict=True))


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
