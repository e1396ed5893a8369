"""The live shell of one account: the feed's events go through the core one turn at a time.

A turn is: the core decides, the journal commits, released requests go to the broker, and what the
broker says goes back to the core, until nothing is left. No turn begins before the last has ended,
so a restart finds rows that agree with each other and goes on from the last moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import structlog

from engine.actions import (
    Action,
    Amend,
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
from engine.bars import BarBuilder
from engine.byhand import closing
from engine.core import FAILURES, TradingCore
from engine.costs import Costs
from engine.indicators import Column
from engine.journal import Batch, CommandGone, Journal, Settlement, Snapshot, Told
from engine.margin import Margin
from engine.matching import Matching
from engine.narrator import decided, filled, stopped_at_error
from engine.ports import Broker, Feed
from engine.standing import StrategyRun
from engine.strategies.evaluation import Window, needed_rows
from shared.domain.decisions import Decision, Outcome
from shared.domain.identity import BY_HAND
from shared.domain.instruments import Instrument
from shared.domain.market import Bar, Closed, MarketEvent, Quote, Tick
from shared.domain.orders import Leg

log = structlog.get_logger()

BASE_INTERVAL = 60
_NEXT = timedelta(microseconds=1)
SNAPSHOT_SECONDS = 5.0
"""Machine time between equity snapshots, but for the first of each market day."""


@dataclass(slots=True)
class Live:
    """A strategy at work in this account, and its newest bars."""

    run: StrategyRun
    window: Window


@dataclass(slots=True)
class Pulse:
    """What the status line says of an account."""

    market_time: datetime | None = None
    heard_at: float = 0.0
    quotes: dict[int, dict[str, Any]] = field(default_factory=dict)


class AccountLoop:
    """One account at work. Everything that changes it happens inside `turn_lock`."""

    def __init__(
        self,
        account_id: int,
        venue: str,
        core: TradingCore,
        broker: Broker,
        feed: Feed,
        journal: Journal,
        journal_thread: ThreadPoolExecutor,
        instruments: Mapping[int, Instrument],
        *,
        moment_at: datetime,
        base_interval: int | None,
        on_failure: Callable[[int, str], None],
    ) -> None:
        self.account_id = account_id
        self.venue = venue
        self.core = core
        self.broker = broker
        self.feed = feed
        self.instruments = instruments
        self.moment_at = moment_at
        self.turn_lock = asyncio.Lock()
        self.pulse = Pulse(market_time=moment_at)
        self.live: dict[int, Live] = {}
        self._journal = journal
        self._thread = journal_thread
        self._base_interval = base_interval
        self._builders: dict[tuple[int, int], BarBuilder] = {}
        self._arrived: list[Bar] = []
        self._snapshot_due = 0.0
        self._snapshot_day: date | None = None
        self._heard_until = moment_at
        """Everything before this market time has been heard, as batches are heard whole."""
        self._on_failure = on_failure
        if base_interval is not None:
            for instrument_id in instruments:
                self._build(instrument_id, base_interval)

    # The feed ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Trade until the market ends or we are cancelled."""
        async for batch in self.feed.events():
            async with self.turn_lock:
                for event in batch:
                    await self._hear(event)
            self.pulse.heard_at = time.time()
            await asyncio.sleep(0)

    async def _hear(self, event: MarketEvent) -> None:
        if isinstance(event, Quote):
            await self._hear_quote(event)
        elif isinstance(event, Tick):
            self._heard_until = event.traded_at + _NEXT
            for (instrument_id, _), builder in self._builders.items():
                if instrument_id == event.instrument_id:
                    builder.add(event)
        elif isinstance(event, Bar):
            self._arrived.append(event)
        else:
            await self._close(event)

    async def _hear_quote(self, quote: Quote) -> None:
        middle = float((quote.bid + quote.ask) / 2)
        self._heard_until = quote.quoted_at + _NEXT
        self.core.on_mark(quote.instrument_id, middle)
        self.pulse.market_time = quote.quoted_at
        self.pulse.quotes[quote.instrument_id] = {
            "bid": str(quote.bid),
            "ask": str(quote.ask),
            "last": str((quote.bid + quote.ask) / 2),
            "at": quote.quoted_at.isoformat(),
            "received_at": datetime.now(UTC).isoformat(),
        }
        if self.broker.is_idle:
            return
        # One commit for all that a quote does: a fill and the protection it wakes stand or fall together.
        actions: list[Action] = []
        for order_id, event in self.broker.on_quote(quote):
            actions.extend(self.core.on_order_event(order_id, event))
        await self.turn(actions, quote.quoted_at)

    async def _close(self, closed: Closed) -> None:
        """One moment: all bars that close now, then fills, marks, exits and entries; one commit."""
        if closed.at <= self.moment_at:
            return
        bars = self._closing(closed.at)
        actions: list[Action] = []
        if self.feed.matching == "bars" and not self.broker.is_idle:
            for order_id, event in self.broker.on_bars(_finest(bars)):
                actions.extend(self.core.on_order_event(order_id, event))
        for order_id, event in self.broker.expire(closed.at):
            actions.extend(self.core.on_order_event(order_id, event))
        for bar in _finest(bars):
            if self.feed.matching == "bars" or bar.instrument_id not in self.core.portfolio.marks:
                self.core.on_mark(bar.instrument_id, bar.close)
        due = self._due(bars)
        actions.extend(self.core.on_moment(closed.at, [live.run for live in due]))
        batch = self._batch(closed.at)
        if self._base_interval is not None:
            batch.bars = [bar for bar in bars if not bar.filled]
        batch.moment_at = closed.at
        batch.peak = self.core.portfolio.peak
        batch.trails = list(self.broker.trails())
        batch.states = {live.run.id: live.run.state() for live in due}
        batch.snapshot = self._snapshot(closed.at)
        await self.turn(actions, closed.at, batch)
        self._heard_until = max(self._heard_until, closed.at)
        self.moment_at = closed.at
        self.pulse.market_time = closed.at

    def _closing(self, at: datetime) -> list[Bar]:
        """All bars that close at `at`: built from ticks, or arrived as bars."""
        if self._base_interval is None:
            bars, self._arrived = self._arrived, []
            return sorted(bars, key=lambda bar: (bar.instrument_id, bar.interval))
        seconds = int(at.timestamp())
        built = [
            builder.close(at)
            for (_, interval), builder in sorted(self._builders.items())
            if seconds % interval == 0
        ]
        return [bar for bar in built if bar is not None]

    def _due(self, bars: Iterable[Bar]) -> list[Live]:
        """Strategies whose clock closed, evaluated; one that fails is stopped, the others go on."""
        bars = list(bars)
        due = []
        for strategy_id, live in sorted(self.live.items()):
            if live.run.stopping:
                continue
            closed = [live.window.add(bar) for bar in bars]
            if not any(closed):
                continue
            self.core.deciding = strategy_id
            try:
                live.run.evaluation = live.window.evaluate()
            except FAILURES as error:
                self._fail(strategy_id, error)
                continue
            finally:
                self.core.deciding = None
            live.run.row = len(live.run.evaluation) - 1
            due.append(live)
        return due

    def _fail(self, strategy_id: int, error: BaseException) -> None:
        text = stopped_at_error(error)
        log.error("strategy.failed", strategy=strategy_id, error=text)
        self.core.runs[strategy_id].stopping = True
        self._on_failure(strategy_id, text)

    def _snapshot(self, at: datetime) -> Snapshot | None:
        now = time.monotonic()
        if now < self._snapshot_due and at.date() == self._snapshot_day:
            return None
        self._snapshot_due, self._snapshot_day = now + SNAPSHOT_SECONDS, at.date()
        portfolio = self.core.portfolio
        holdings = []
        for instrument_id, instrument in sorted(self.instruments.items()):
            quantity = portfolio.held(instrument_id)
            if quantity == 0:
                continue
            mark = portfolio.marks.get(instrument_id)
            holdings.append(
                {
                    "asset": instrument.base_asset,
                    "instrument_id": instrument_id,
                    "quantity": str(quantity),
                    "mark": None if mark is None else repr(mark),
                    "value": None if mark is None else str(quantity * Decimal(repr(mark))),
                }
            )
        return Snapshot(at, portfolio.equity(), portfolio.cash, holdings)

    # Turns ------------------------------------------------------------------------------

    def _batch(self, at: datetime) -> Batch:
        return Batch(self.account_id, self.venue, at)

    async def turn(
        self, actions: Iterable[Action], at: datetime, batch: Batch | None = None
    ) -> list[Decision]:
        """Journal and carry out actions until none is left; the decisions as they ended."""
        batch = batch or self._batch(at)
        left = deque(actions)
        ended: list[Decision] = []
        while True:
            self._carry_out(left, at, batch)
            if batch.is_empty:
                return ended
            try:
                refused = await self._commit(batch)
            except CommandGone:
                for decision in reversed(batch.decisions):
                    self.core.refused(decision, "its command is gone")
                return []
            # Newest first: each stands again where it stood before, the first of a moment last.
            for decision in reversed(batch.decisions):
                why = refused.get(decision.id)
                if why and decision.outcome is Outcome.ORDERED:
                    ended.append(self.core.refused(decision, why))
            for decision in batch.decisions:
                if decision.id not in refused:
                    ended.append(decision)
                    if decision.outcome is Outcome.ORDERED:
                        left.extend(self.core.released(decision))
            batch = self._batch(at)

    def _carry_out(self, left: deque[Action], at: datetime, batch: Batch) -> None:
        """Everything that needs no commit of its own; decisions wait in the batch for theirs."""
        while left:
            action = left.popleft()
            if isinstance(action, Decide):
                batch.decisions.append(action.decision)
                if told := decided(
                    action.decision, self._names(action.decision.strategy_id), self.instruments
                ):
                    batch.told.append(told)
            elif isinstance(action, Submit):
                left.extend(self.core.submitted(action.request, at))
                for order_id, event in self.broker.submit(action.request, at):
                    left.extend(self.core.on_order_event(order_id, event))
            elif isinstance(action, Cancel):
                if action.client_order_id not in self.core.orders:
                    continue  # it went with its parent
                for order_id, event in self.broker.cancel(action.client_order_id, at):
                    left.extend(self.core.on_order_event(order_id, event))
            elif isinstance(action, Amend):
                terms = {
                    "quantity": action.quantity,
                    "limit_price": action.limit_price,
                    "stop_price": action.stop_price,
                }
                for order_id, event in self.broker.amend(action.client_order_id, at, **terms):
                    left.extend(self.core.on_order_event(order_id, event))
            elif isinstance(action, OrderMoved):
                batch.moves.append(action)
            elif isinstance(action, Booked):
                batch.booked.append(action)
                batch.told.append(
                    filled(action, self._names(action.fill.strategy_id), self.instruments)
                )
            elif isinstance(action, Posted):
                batch.posted.append(action)
                if action.text:
                    batch.told.append(Told("ledger", "info", action.text, at=at))
            elif isinstance(action, Noted):
                batch.told.append(Told(action.kind, action.severity, action.text, "/risk", at))
            elif isinstance(action, Broken):
                batch.broken.append(action)
            elif isinstance(action, Failed):
                self._fail(action.strategy_id, action.error)

    def _names(self, strategy_id: int) -> str:
        run = self.core.runs.get(strategy_id)
        return run.name if run is not None else ""

    async def _commit(self, batch: Batch) -> dict[UUID, str]:
        """Commit, and with it where each strategy that was touched stands."""
        touched = {decision.strategy_id for decision in batch.decisions}
        touched |= {move.order.request.strategy_id for move in batch.moves}
        for strategy_id in touched:
            if (run := self.core.runs.get(strategy_id)) is not None:
                batch.states[strategy_id] = run.state()
        for decision in batch.decisions:
            if (stood := self.core.stood_before(decision)) is not None:
                batch.stood[decision.id] = stood.as_json()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._journal.commit, batch)

    # Strategies -------------------------------------------------------------------------

    def start(self, run: StrategyRun) -> None:
        """Warm a strategy up from history and let it decide from the next moment on.

        Raises whatever the user's code raises; then nothing has started.
        """
        self.core.deciding = run.id
        try:
            self._warm_up(run)
        finally:
            self.core.deciding = None

    def _warm_up(self, run: StrategyRun) -> None:
        for bound in run.inputs:
            self._build(bound.instrument_id, bound.interval)
        history = {}
        count = needed_rows(run.strategy, self.core.policy.window(), run.sizing.window + 1)
        for bound in run.inputs:
            history[bound.key] = self.feed.history(
                bound.instrument_id, bound.interval, self.moment_at, count
            )
        live = Live(run, Window(run.strategy, run.inputs, history, count))
        if len(live.window.bars[_clock(run)]):
            live.run.evaluation = live.window.evaluate()
            live.run.row = len(live.run.evaluation) - 1
        for bound in run.inputs:
            bars = live.window.bars[bound.key]
            if len(bars) and bound.instrument_id not in self.core.portfolio.marks:
                self.core.on_mark(bound.instrument_id, float(bars.close[-1]))
        self.live[run.id] = live
        self.core.start(run)
        self.core.agree(run)

    async def stop(self, strategy_id: int) -> None:
        """Let a strategy decide no more: working entries are cancelled, protective orders stay."""
        at = self.market_time()
        actions = self.core.stop(strategy_id, at, flatten=False, because="stopped")
        await self.turn(actions, at)
        self.live.pop(strategy_id, None)

    async def flatten(self, run: StrategyRun, because: str) -> list[Decision]:
        """Close what a strategy holds, running or not; the decisions that did."""
        known = self.core.runs.setdefault(run.id, run)
        known.stopping = known.stopping or run.id not in self.live
        at = self.market_time()
        return await self.turn(self.core.flatten(run.id, at, because=because), at)

    async def flatten_by_hand(self, because: str) -> None:
        """Sell whatever no strategy holds."""
        at = self.market_time()
        actions: list[Action] = []
        for (owner, instrument_id), position in sorted(self.core.portfolio.positions.items()):
            if owner == BY_HAND and not position.is_flat:
                account_id = self.account_id
                asked = closing(account_id, owner, instrument_id, position, at, because, "flatten")
                actions.extend(self.core.take(self.core.by_hand(asked, at)))
        await self.turn(actions, at)

    async def obey(
        self, settlement: Settlement, actions: Iterable[Action], at: datetime
    ) -> list[Decision]:
        """What a command asks, and its settlement, in one commit. The caller holds the turn lock."""
        batch = self._batch(at)
        batch.command = settlement
        return await self.turn(actions, at, batch)

    def reconfigure(self, costs: Costs, matching: Matching, margin: Margin) -> None:
        """Trade by other costs, another intrabar rule and other margin terms from now on."""
        self.core.costs = costs
        self.core.portfolio.margin = margin
        self.broker.reconfigure(costs, matching)

    def recent(self, instrument_id: int) -> tuple[Column, Column, int]:
        """(closes, traded values, interval in seconds) of an instrument, as far as the rules read back."""
        interval = self.feed.finest(instrument_id)
        if interval is None:
            return np.empty(0), np.empty(0), BASE_INTERVAL
        window = self.core.policy.window()
        bars = self.feed.history(instrument_id, interval, self.moment_at, window)
        return bars.close, bars.close * bars.volume, interval

    def touch(self, instrument_id: int) -> tuple[float, float] | None:
        """Best bid and ask as they were heard last."""
        quote = self.pulse.quotes.get(instrument_id)
        return (float(quote["bid"]), float(quote["ask"])) if quote else None

    async def cancel_entries(self) -> int:
        """Cancel every working entry; how many there were. Exits stay: they make positions smaller."""
        owners = {order.request.strategy_id for order in self.core.orders.values()}
        cancels = [action for owner in sorted(owners) for action in self.core.cancel_entries(owner)]
        await self.turn(cancels, self.market_time())
        return len(cancels)

    def working_entries(self) -> list[UUID]:
        """Entries that have not ended, those of decisions still to be released included."""
        return [
            order.request.client_order_id
            for order in self.core.orders.values()
            if order.request.leg is Leg.ENTRY and not order.is_done
        ]

    def market_time(self) -> datetime:
        """Market time as far as it was heard. A clock may be far ahead of a feed that lags."""
        return self._heard_until

    @property
    def intervals(self) -> set[int]:
        """Every interval somebody needs bars of."""
        return {interval for _, interval in self._builders}

    async def post(self, posted: Posted) -> None:
        """Book money or holdings that moved without a fill, in memory and rows."""
        await self.turn(self.core.post(posted), self.market_time())

    async def say(self, told: Told) -> None:
        batch = self._batch(self.moment_at)
        batch.told.append(told)
        await self.turn([], self.moment_at, batch)

    def _build(self, instrument_id: int, interval: int) -> None:
        """Build bars of this interval from ticks, the one under way included."""
        if self._base_interval is None or (instrument_id, interval) in self._builders:
            return
        now = int(self.moment_at.timestamp())
        began = self.moment_at - timedelta(seconds=now % interval)
        # The bar before gives a quiet first interval its price.
        before = self.feed.history(instrument_id, interval, began, 1)
        after = before.bar(len(before) - 1) if len(before) else None
        builder = BarBuilder(instrument_id, interval, after)
        for tick in self.feed.backlog(instrument_id, began, self._heard_until):
            builder.add(tick)
        self._builders[instrument_id, interval] = builder


def _clock(run: StrategyRun) -> str:
    return next(bound.key for bound in run.inputs if bound.trades)


def _finest(bars: Iterable[Bar]) -> list[Bar]:
    """One bar an instrument: the shortest interval among those that close together."""
    found: dict[int, Bar] = {}
    for bar in bars:
        held = found.get(bar.instrument_id)
        if held is None or bar.interval < held.interval:
            found[bar.instrument_id] = bar
    return [found[instrument_id] for instrument_id in sorted(found)]
