"""The path, top to bottom: prices in, actions out. Nothing here waits, and nothing here knows a clock.

    bar -> strategy -> signal -> sizing -> risk checks -> order -> (venue) -> fill -> position -> ledger

Two shells drive it: `engine/live.py` and `engine/backtest/replay.py`. Within one moment fills come
first (told by the broker through `on_order_event`), then marks, exits and entries, strategies in the
order of their ids and instruments in the order of theirs.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec.structs import replace

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
from engine.adopting import handed_over
from engine.byhand import ByHand, Protection, closing, decided, protecting
from engine.carrying import accrued, margin_level, to_liquidate
from engine.costs import Costs
from engine.exposure import Exposure
from engine.indicators import Column
from engine.intents import NotYetKnown, Origin, intents_of, said, time_exit_of
from engine.portfolio import Portfolio
from engine.risk.rules import Proposal, RiskPolicy
from engine.risk.volatility import annual_volatility
from engine.sizing import Facts, Sized, size, wanted_exposure
from engine.standing import NAN, Standing, StrategyRun
from engine.strategies.evaluation import BoundInput
from shared.domain.decisions import Check, Decision, Outcome
from shared.domain.identity import BY_HAND, decision_id
from shared.domain.instruments import Instrument
from shared.domain.market import Bar
from shared.domain.orders import (
    DONE,
    Fill,
    ImpossibleEvent,
    Leg,
    Number,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    Submitted,
    advance,
    overfilled,
)
from shared.domain.signals import Signal

ENDED_KEPT: Final = 5000
FAILURES: Final = (Exception, SystemExit)
"""What the user's code may raise: anything, `sys.exit` too. Only the strategy stops."""


class TradingCore:
    """Decides for one account. `portfolio`, `policy` and `costs` are plugged in."""

    def __init__(
        self,
        account_id: int,
        instruments: Mapping[int, Instrument],
        portfolio: Portfolio,
        policy: RiskPolicy,
        costs: Costs,
    ) -> None:
        self.account_id = account_id
        self.instruments = instruments
        self.portfolio = portfolio
        self.policy = policy
        self.costs = costs
        self.runs: dict[int, StrategyRun] = {}
        self.orders: dict[UUID, Order] = {}
        self.equity: Number | None = portfolio.cash
        """Marked equity at the newest moment; None while it is unknown."""
        self.deciding: int | None = None
        """The strategy whose code runs now: what a watchdog names when it never returns."""
        self.admits: Callable[[int, datetime], Check] | None = None
        """Whether an instrument may be entered at a moment: a recorded pair list, where there is one."""
        self.moment_at: datetime | None = None
        """The newest moment that closed: carrying costs are due for the days since."""
        self._called = False
        self._ended: OrderedDict[UUID, Order] = OrderedDict()
        self._stood: dict[UUID, Standing] = {}
        """Where the strategy stood before each decision that is not released yet."""

    # Moments ----------------------------------------------------------------------------

    def on_mark(self, instrument_id: int, price: float) -> None:
        """The price this instrument is valued at now."""
        self.portfolio.mark(instrument_id, price)

    def on_moment(self, at: datetime, due: Iterable[StrategyRun]) -> list[Action]:
        """A moment closed: fills and marks are in; `due` are the strategies whose clock closed."""
        actions: list[Action] = []
        if self.portfolio.margin.enabled:
            self._carry(at, actions)
        self.moment_at = at
        self.equity = self.portfolio.remember_peak()
        due = [run for run in due if not run.stopping]
        for run in due:
            self._age(run, at, actions)
        for run in due:
            self.deciding = run.id
            try:
                if run.scalar:
                    self._hear_scalars(run, at, actions)
                else:
                    self._hear_arrays(run, at, actions)
                run.check_state()
            except FAILURES as error:
                run.stopping = True
                actions.append(Failed(run.id, error))
        self.deciding = None
        return actions

    def _hear_arrays(self, run: StrategyRun, at: datetime, actions: list[Action]) -> None:
        evaluation, row = run.evaluation, run.row
        assert evaluation is not None
        for column, bound in enumerate(run.traded):
            target = evaluation.target_at(column, row)
            standing = run.standings[bound.instrument_id]
            asked, standing.asked = standing.asked, target
            if target != target:  # NaN leaves
                continue
            known = target == standing.target or (target == asked and not evaluation.again)
            if known and not self._left_band(run, bound, target):
                continue
            self._aim(run, bound, evaluation.signal(column, row), at, actions)

    def _hear_scalars(self, run: StrategyRun, at: datetime, actions: list[Action]) -> None:
        assert run.evaluation is not None
        said = run.evaluation.scalar_signals(run.row, lambda: self._holdings(run))
        by_symbol = {signal.instrument: signal for signal in said}
        for bound in run.traded:
            signal = by_symbol.get(bound.symbol)
            standing = run.standings[bound.instrument_id]
            target = signal.target if signal is not None else None
            asked, standing.asked = standing.asked, NAN if target is None else target
            if signal is None or target is None:
                continue
            known = target == standing.target or (target == asked and not signal.again)
            if known and not self._left_band(run, bound, target):
                continue
            self._aim(run, bound, signal, at, actions)

    def _holdings(self, run: StrategyRun) -> tuple[dict[str, float], dict[str, float]]:
        held, entry = {}, {}
        for bound in run.traded:
            position = self.portfolio.position(run.id, bound.instrument_id)
            held[bound.symbol] = float(position.quantity)
            if not position.is_flat:
                entry[bound.symbol] = float(position.cost / position.quantity)
        return held, entry

    def _left_band(self, run: StrategyRun, bound: BoundInput, target: float) -> bool:
        """Whether the exposure has drifted from an unchanged target by more than the band."""
        standing = run.standings[bound.instrument_id]
        band = run.sizing.band
        if band is None or target != standing.target or target == 0 or self._working(run, bound):
            return False
        mark = self.portfolio.marks.get(bound.instrument_id)
        rate = self.portfolio.rate(self.instruments[bound.instrument_id].quote_asset)
        if mark is None or not rate:
            return False
        equity = float(self.portfolio.strategy_equity(run.id, run.allocation)) / float(rate)
        if equity <= 0:
            return False
        held = float(self.portfolio.held_by(run.id, bound.instrument_id))
        volatility = self._volatility(run, bound) if run.sizing.method == "volatility" else None
        wanted = wanted_exposure(
            target, run.sizing, equity, mark, volatility, self.portfolio.margin
        )
        return wanted is not None and abs(held * mark / equity - wanted) > band

    def _age(self, run: StrategyRun, at: datetime, actions: list[Action]) -> None:
        """Positions grow one bar older; those past their time leave."""
        for bound in run.traded:
            position = self.portfolio.positions.get((run.id, bound.instrument_id))
            if position is None or position.is_flat:
                continue
            if position.opened_at is None or position.opened_at >= at:
                continue
            standing = run.standings[bound.instrument_id]
            standing.age += 1
            if standing.time_exit and standing.age >= standing.time_exit:
                standing.time_exit = 0
                because = f"held for {standing.age} bars"
                self._leave(run, bound, at, "time_exit", because, actions)

    # From a signal to an order ----------------------------------------------------------

    def _aim(
        self,
        run: StrategyRun,
        bound: BoundInput,
        signal: Signal,
        at: datetime,
        actions: list[Action],
    ) -> None:
        assert run.evaluation is not None
        target = signal.target
        assert target is not None
        moment = run.evaluation.moment(run.row, lambda: self._holdings(run))
        because = said(run.strategy.because(moment))
        bar = run.evaluation.bar_of(bound, run.row)
        self._decide(run, bound, signal, target, because, "signal", bar, at, actions)

    def _leave(
        self,
        run: StrategyRun,
        bound: BoundInput,
        at: datetime,
        kind: str,
        because: str,
        actions: list[Action],
    ) -> None:
        """Go flat in one instrument whatever the strategy thinks."""
        bar = run.evaluation.bar_of(bound, run.row) if run.evaluation and run.row >= 0 else None
        signal = Signal(bound.symbol, 0.0)
        self._decide(run, bound, signal, 0.0, because, kind, bar, at, actions)

    def _decide(
        self,
        run: StrategyRun,
        bound: BoundInput,
        signal: Signal,
        target: float,
        because: str,
        kind: str,
        bar: Bar | None,
        at: datetime,
        actions: list[Action],
    ) -> None:
        standing = run.standings[bound.instrument_id]
        price = bar.close if bar is not None else self.portfolio.marks.get(bound.instrument_id, 0.0)
        sized = self._size(run, bound, target, price)
        checks = self._check(run, bound, sized, price, at)
        outcome, reason = _verdict(sized, checks)
        origin = Origin(
            decision_id(self.account_id, run.id, bound.instrument_id, at, kind),
            self.account_id,
            run.id,
            at,
            kind,
        )
        requests: tuple[OrderRequest, ...] = ()
        if outcome is Outcome.ORDERED:
            try:
                requests = self._intents(origin, run, bound, signal, sized)
            except NotYetKnown as unknown:
                outcome, reason = Outcome.NOTHING, str(unknown)
            if self._ordered(requests):
                outcome, reason, requests = Outcome.NOTHING, "this moment ordered it already", ()
        decision = Decision(
            id=origin.decision_id,
            account_id=self.account_id,
            strategy_id=run.id,
            instrument_id=bound.instrument_id,
            decided_at=at,
            kind=kind,
            target=target,
            previous=standing.target,
            because=because,
            bar=bar,
            price=price,
            checks=checks,
            steps=sized.steps,
            outcome=outcome,
            reason=reason,
            requests=requests,
            tag=said(signal.tag),
        )
        actions.append(Decide(decision))
        if outcome is Outcome.ORDERED:
            self._stood[decision.id] = replace(standing)
            standing.before, standing.target = standing.target, target
            standing.time_exit = time_exit_of(signal.exits)
            for request in requests:
                self.orders[request.client_order_id] = Order(request)
        elif outcome is Outcome.NOTHING and sized.is_met and not self._leaves_now(run, bound):
            # It holds what it wants; what still works would take it away from there.
            standing.target = target
            actions.extend(self._cancels(run.id, bound.instrument_id))

    def _ordered(self, requests: Sequence[OrderRequest]) -> bool:
        """Whether one of these orders is there already."""
        for request in requests:  # noqa: SIM110 - asked at every decision
            if request.client_order_id in self.orders:
                return True
        return False

    def _leaves_now(self, run: StrategyRun, bound: BoundInput) -> bool:
        """Whether this very moment decided a time exit, which is not with the broker yet."""
        return any(
            order.state is OrderState.NEW and not order.request.leg.is_protective
            for order in self._open_orders(run.id, bound.instrument_id)
        )

    def _intents(
        self, origin: Origin, run: StrategyRun, bound: BoundInput, signal: Signal, sized: Sized
    ) -> tuple[OrderRequest, ...]:
        held = self.portfolio.position(run.id, bound.instrument_id)
        instrument = self.instruments[bound.instrument_id]
        return intents_of(origin, signal, sized, held, instrument, self.portfolio.number)

    def _size(self, run: StrategyRun, bound: BoundInput, target: float, price: float) -> Sized:
        if not price > 0:
            return Sized(0.0, 0.0, (), "no price is known")
        instrument = self.instruments[bound.instrument_id]
        rate = self.portfolio.rate(instrument.quote_asset)
        if not rate:
            why = f"no price leads from {instrument.quote_asset} to {self.portfolio.base_asset}"
            return Sized(0.0, 0.0, (), why)
        equity = self.portfolio.strategy_equity(run.id, run.allocation)
        wants_volatility = run.sizing.method == "volatility"
        facts = Facts(
            price=price,
            equity=float(equity) / float(rate),
            cash=self.exposure.free(run.id, bound.instrument_id, run.allocation),
            held=float(self.portfolio.held_by(run.id, bound.instrument_id)),
            volatility=self._volatility(run, bound) if wants_volatility and target else None,
            cost_rate=self.costs.of(instrument).on_top(price),
            allow_short=self.portfolio.allow_short,
        )
        return size(target, run.sizing, facts, instrument)

    @property
    def exposure(self) -> Exposure:
        return Exposure(self.portfolio, self.orders.values(), self.costs)

    def _volatility(self, run: StrategyRun, bound: BoundInput) -> float | None:
        assert run.evaluation is not None
        window = run.sizing.window
        closes, _ = run.evaluation.recent(bound, run.row, window + 1)
        per_year = self.instruments[bound.instrument_id].bars_per_year(bound.interval)
        return annual_volatility(closes, window, per_year)

    def _check(
        self, run: StrategyRun, bound: BoundInput, sized: Sized, price: float, at: datetime
    ) -> tuple[Check, ...]:
        """The rules' answers about what the order adds. A reduction is never checked."""
        change = sized.change or (sized.value / price if price else 0.0)
        held = float(self.portfolio.held_by(run.id, bound.instrument_id))
        if change == 0 or _added(held, change) <= 0:
            return ()
        assert run.evaluation is not None
        recent = run.evaluation.recent(bound, run.row, self.policy.window())
        checks = self.weigh(run.id, bound.instrument_id, change, price, *recent, bound.interval)
        return checks if self.admits is None else (*checks, self.admits(bound.instrument_id, at))

    def weigh(
        self,
        strategy_id: int,
        instrument_id: int,
        change: float,
        price: float,
        closes: Column,
        values: Column,
        interval: int,
    ) -> tuple[Check, ...]:
        """The rules' answers about a change of a position by `change` base units, near `price`."""
        instrument, portfolio = self.instruments[instrument_id], self.portfolio
        rate = portfolio.rate(instrument.quote_asset)
        equity = portfolio.equity() if rate else None  # no conversion path: unknown, so denied
        worth = float(rate or 1)
        held = float(portfolio.held_by(strategy_id, instrument_id))
        added = _added(held, change) * price * worth
        replaces, exposure = strategy_id or None, self.exposure
        proposal = Proposal(
            order_value=added,
            exposure_after=exposure.after(replaces, instrument_id, change, price) * worth,
            equity=None if equity is None else float(equity),
            peak=float(portfolio.peak),
            closes=closes,
            values=values if worth == 1 else values * worth,
            bars_per_year=instrument.bars_per_year(interval),
            positions_after=exposure.positions(instrument_id),
            margin_after=self._margin_after(instrument_id, change, price * worth),
        )
        return self.policy.check(proposal)

    def _margin_after(self, instrument_id: int, change: float, price: float) -> float | None:
        """Used margin over equity once the change has traded; None without margin."""
        portfolio = self.portfolio
        if not portfolio.margin.enabled:
            return None
        equity, gross = portfolio.equity(), portfolio.gross()
        if equity is None or gross is None or equity <= 0:
            return math.inf
        held = float(portfolio.held(instrument_id))
        after = gross + (abs(held + change) - abs(held)) * price
        return portfolio.margin.used(after) / float(equity)

    # By hand, and by need ---------------------------------------------------------------

    def by_hand(self, asked: ByHand, at: datetime) -> Decision:
        """What would become of an order a person asks for, with its checks. Nothing has happened yet."""
        return decided(asked, at, self)

    def take(self, decision: Decision) -> list[Action]:
        """Let a decision made by hand stand: its intents wait for their release."""
        if self._ordered(decision.requests):
            text = "this was ordered already"
            decision = replace(decision, outcome=Outcome.NOTHING, reason=text, requests=())
        for request in decision.requests:
            self.orders[request.client_order_id] = Order(request)
        return [Decide(decision)]

    def force(
        self, strategy_id: int, instrument_id: int, target: float, at: datetime, because: str
    ) -> list[Action]:
        """Let a strategy aim at `target` now, whatever its signal says."""
        run = self.runs[strategy_id]
        bound = next(b for b in run.traded if b.instrument_id == instrument_id)
        bar = run.evaluation.bar_of(bound, run.row) if run.evaluation and run.row >= 0 else None
        signal = Signal(bound.symbol, target)
        actions: list[Action] = []
        self._decide(run, bound, signal, target, because, "forced", bar, at, actions)
        return actions

    def _carry(self, at: datetime, actions: list[Action]) -> None:
        """What the account owes for the days that passed, and whether it still may owe so much."""
        if self.moment_at is not None:
            for posted in accrued(self.portfolio, self.account_id, self.moment_at, at):
                self.portfolio.post(posted)
                actions.append(posted)
        level, margin = margin_level(self.portfolio), self.portfolio.margin
        if level is None or level >= margin.call_level:
            self._called = False
            return
        if not self._called:
            self._called = True
            text = (
                f"Margin call: equity is {level:.0%} of used margin, below {margin.call_level:.0%}."
                f" Below {margin.liquidation_level:.0%} positions are closed"
            )
            actions.append(Noted("margin.call", "bad", text))
        if level < margin.liquidation_level:
            self._liquidate(at, level, actions)

    def _liquidate(self, at: datetime, level: float, actions: list[Action]) -> None:
        """Close everything held in the instrument that ties up most, unless that is under way."""
        instrument_id = to_liquidate(self.portfolio)
        if instrument_id is None or self._leaving(instrument_id):
            return
        because = f"equity fell to {level:.0%} of used margin"
        for (strategy_id, held_in), position in sorted(self.portfolio.positions.items()):
            if held_in != instrument_id or position.is_flat:
                continue
            owner = (self.account_id, strategy_id, instrument_id)
            asked = closing(*owner, position, at, because, "liquidation")
            actions.extend(self.take(self.by_hand(asked, at)))

    def _leaving(self, instrument_id: int) -> bool:
        return any(
            order.request.instrument_id == instrument_id
            and order.request.reduce_only
            and not order.request.leg.is_protective
            and not order.is_done
            for order in self.orders.values()
        )

    # What became of it ------------------------------------------------------------------

    def released(self, decision: Decision) -> list[Action]:
        """The intents are committed: what they replace goes out, then they do."""
        self._stood.pop(decision.id, None)
        return self.send(decision.requests)

    def send(self, requests: Sequence[OrderRequest]) -> list[Action]:
        """Cancels of what one decision's requests replace, then the requests.

        Protective orders stay: the broker ends them when nothing is left to protect, or when the
        legs of the new entry take their place.
        """
        if not requests:
            return []
        first = requests[0]
        if first.leg.is_protective and first.parent_id is None:  # set by hand on what is held
            return [*self._unprotect(first), *(Submit(request) for request in requests)]
        if first.strategy_id == BY_HAND:
            return [Submit(request) for request in requests]  # people's orders stand side by side
        replaced = self._cancels(first.strategy_id, first.instrument_id, before=first.decision_id)
        return replaced + [Submit(request) for request in requests]

    def _unprotect(self, newer: OrderRequest) -> list[Action]:
        """Cancels of the protection that `newer` and its siblings take the place of."""
        return [
            Cancel(order.request.client_order_id)
            for order in self._open_orders(newer.strategy_id, newer.instrument_id)
            if order.request.leg.is_protective and order.request.decision_id != newer.decision_id
        ]

    def protect(self, asked: Protection, at: datetime) -> Decision:
        """Stop and target for what is held, as a decision. Nothing has happened yet."""
        return protecting(asked, at, self)

    def adopt(
        self, instrument_id: int, giver: int, taker: int, quantity: Number, at: datetime, key: UUID
    ) -> list[Action]:
        """Hand a position, or part of it, to another owner at its cost. Its protection ends with all of it."""
        posted = handed_over(
            self.portfolio, self.account_id, instrument_id, giver, taker, quantity, at, key
        )
        actions = self.post(posted)
        for owner in (giver, taker):
            run = self.runs.get(owner)
            standing = run.standings.get(instrument_id) if run is not None else None
            if standing is None:
                continue
            held = self.portfolio.held_by(owner, instrument_id)
            if held == 0:
                standing.target, standing.time_exit = 0.0, 0
            elif standing.target == 0:
                standing.target = math.copysign(1.0, held)
        if self.portfolio.held_by(giver, instrument_id) == 0:
            for order in self._open_orders(giver, instrument_id):
                if order.request.reduce_only:
                    actions.append(Cancel(order.request.client_order_id))
        return actions

    def post(self, posted: Posted) -> list[Action]:
        """Book money or holdings that moved without a fill."""
        self.portfolio.post(posted)
        return [posted]

    def _cancels(
        self, strategy_id: int, instrument_id: int | None = None, before: UUID | None = None
    ) -> list[Action]:
        """Cancels of working orders that protect nothing, of those decided earlier than `before`."""
        actions: list[Action] = []
        for order in self._open_orders(strategy_id, instrument_id):
            # Orders stand in the order they were decided: a later one of the same moment stays.
            if order.request.decision_id == before:
                break
            if not order.request.leg.is_protective:
                actions.append(Cancel(order.request.client_order_id))
        return actions

    def refused(self, decision: Decision, reason: str) -> Decision:
        """The release said no: forget the intents, stand where we stood."""
        for request in decision.requests:
            self.orders.pop(request.client_order_id, None)
        stood = self.stood_before(decision)
        self._stood.pop(decision.id, None)
        if stood is not None:
            self.runs[decision.strategy_id].standings[decision.instrument_id] = stood
        return replace(decision, outcome=Outcome.REFUSED, reason=reason, requests=())

    def stood_before(self, decision: Decision) -> Standing | None:
        """Where the strategy stands if this decision is refused."""
        run, stood = self.runs.get(decision.strategy_id), self._stood.get(decision.id)
        if run is None or stood is None:
            return None
        now = run.standings[decision.instrument_id]
        # A refused time exit is due again at every moment from now on.
        time_exit = now.age if decision.kind == "time_exit" else stood.time_exit
        return replace(stood, asked=now.asked, age=now.age, time_exit=time_exit)

    def submitted(self, request: OrderRequest, at: datetime) -> list[Action]:
        """The adapter is about to have it. A leg that waits for its parent stays at our side: `Held` says so."""
        if request.parent_id is not None:
            return []
        return self.on_order_event(request.client_order_id, Submitted(at))

    def on_order_event(self, order_id: UUID, event: OrderEvent) -> list[Action]:
        before = self.orders.get(order_id)
        if before is None:
            before = self._ended.get(order_id)
            if before is None:
                return [Broken(order_id, f"{type(event).__name__} for an order we do not know")]
        try:
            after = advance(before, event)
        except ImpossibleEvent as error:
            return [Broken(order_id, str(error))]
        if after is before:
            return []
        was_done, is_done = before.state in DONE, after.state in DONE
        if was_done and is_done:
            self._ended[order_id] = after
        else:
            if was_done:  # it lives again: an amendment heard late asked for more
                self._ended.pop(order_id, None)
            self.orders[order_id] = after
        actions: list[Action] = [OrderMoved(after, event)]
        if isinstance(event, Fill):
            actions.append(self._book(after, event))
            actions.extend(self._tell_strategy(event))
            if overfilled(after):
                actions.append(Broken(order_id, f"filled {after.filled} of {after.asked_quantity}"))
        if is_done and not was_done:
            self._conclude(after)
        return actions

    def _book(self, order: Order, fill: Fill) -> Booked:
        was_flat = self.portfolio.position(fill.strategy_id, fill.instrument_id).is_flat
        entries, position, realised = self.portfolio.book(fill)
        run = self.runs.get(fill.strategy_id)
        if run is not None:
            standing = run.standings.get(fill.instrument_id)
            if standing is not None and was_flat:
                standing.age = 0
        return Booked(fill, order.request.leg, order.request.tag, entries, position, realised)

    def _tell_strategy(self, fill: Fill) -> list[Action]:
        """Let a scalar strategy hear of its fill. It is booked, whatever its code does now."""
        run = self.runs.get(fill.strategy_id)
        if run is None or not run.scalar or run.stopping:
            return []
        moment = run.evaluation.moment(run.row) if run.evaluation and run.row >= 0 else None
        before, self.deciding = self.deciding, run.id
        try:
            run.strategy.on_fill(fill, moment)
            run.check_state()
        except FAILURES as error:
            run.stopping = True
            return [Failed(run.id, error)]
        finally:
            self.deciding = before
        return []

    def _conclude(self, order: Order) -> None:
        """An order ended: where its strategy stands follows from what it holds and what still works."""
        request = order.request
        replaced = self._replaced(order)
        self.remember_ended(self.orders.pop(request.client_order_id))
        run = self.runs.get(request.strategy_id)
        standing = run.standings.get(request.instrument_id) if run is not None else None
        if run is None or standing is None or replaced:
            return
        flat = self.portfolio.position(run.id, request.instrument_id).is_flat
        if request.leg.is_protective:
            if flat and order.filled:
                standing.target, standing.time_exit = 0.0, 0
        elif order.filled == 0:
            # It never filled, so it never stood.
            standing.target = 0.0 if flat else standing.before
        elif flat and request.reduce_only and not self._open_orders(run.id, request.instrument_id):
            standing.target, standing.time_exit = 0.0, 0  # closed by hand, or by a margin call

    def remember_ended(self, order: Order) -> None:
        """Keep an order that ended, for the fill that may still come late."""
        self._ended[order.request.client_order_id] = order
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def _replaced(self, order: Order) -> bool:
        """Whether a later decision's order already stands in this one's place."""
        ours = order.request
        if len(self.orders) == 1:  # this one
            return False
        open_now = self._open_orders(ours.strategy_id, ours.instrument_id)
        ids = [other.request.client_order_id for other in open_now]
        later = (
            open_now[ids.index(ours.client_order_id) + 1 :]
            if ours.client_order_id in ids
            else open_now
        )
        return any(
            not other.request.leg.is_protective and other.request.decision_id != ours.decision_id
            for other in later
        )

    def ask_exits_again(self) -> None:
        """Let an exit that was refused be asked again, now that trading may go on."""
        for run in self.runs.values():
            for standing in run.standings.values():
                leaves = abs(standing.asked) < abs(standing.target)
                if leaves or standing.asked * standing.target < 0:  # out, or to the other side
                    standing.asked = NAN

    def agree(self, run: StrategyRun) -> None:
        """After a restart: where a strategy stands must agree with what it holds and has working.

        They differ when a crash came between a refusal and the next commit.
        """
        for bound in run.traded:
            standing = run.standings[bound.instrument_id]
            if self._working(run, bound):
                continue
            held = float(self.portfolio.held_by(run.id, bound.instrument_id))
            if held == 0:
                standing.target = 0.0
            elif standing.target * held <= 0:
                before = standing.before if standing.before * held > 0 else 0.0
                standing.target, standing.asked = before or math.copysign(1.0, held), NAN

    # Strategies come and go -------------------------------------------------------------

    def start(self, run: StrategyRun) -> None:
        self.runs[run.id] = run

    def stop(self, strategy_id: int, at: datetime, *, flatten: bool, because: str) -> list[Action]:
        """Decide no more: working entries are cancelled; exits stay, until flattened."""
        run = self.runs[strategy_id]
        run.stopping = True
        actions = self.cancel_entries(strategy_id)
        if flatten:
            actions.extend(self.flatten(strategy_id, at, because=because))
        return actions

    def cancel_entries(self, strategy_id: int) -> list[Action]:
        """Cancels of working entries. Exits that work, protective or not, stay."""
        return [
            Cancel(order.request.client_order_id)
            for order in self._open_orders(strategy_id)
            if order.request.leg is Leg.ENTRY
        ]

    def flatten(self, strategy_id: int, at: datetime, *, because: str) -> list[Action]:
        """Sell whatever a strategy holds; what it has working is cancelled when that is released."""
        run = self.runs[strategy_id]
        actions: list[Action] = []
        for bound in run.traded:
            if not self.portfolio.position(strategy_id, bound.instrument_id).is_flat:
                self._leave(run, bound, at, "flatten", because, actions)
        return actions

    def _working(self, run: StrategyRun, bound: BoundInput) -> bool:
        return any(
            not order.request.leg.is_protective
            for order in self._open_orders(run.id, bound.instrument_id)
        )

    def _open_orders(self, strategy_id: int, instrument_id: int | None = None) -> list[Order]:
        return [
            order
            for order in self.orders.values()
            if order.request.strategy_id == strategy_id
            and (instrument_id is None or order.request.instrument_id == instrument_id)
            and not order.is_done
        ]


def _added(held: float, change: float) -> float:
    """By how much a change makes a position larger; on the way to the other side, all of what it becomes."""
    after = held + change
    return abs(after) - abs(held) if held * after >= 0 else abs(after)


def _verdict(sized: Sized, checks: tuple[Check, ...]) -> tuple[Outcome, str]:
    if sized.change == 0 and sized.value == 0:
        return Outcome.NOTHING, sized.reason
    denied = [check for check in checks if not check.allowed]
    if denied:
        return Outcome.DENIED, "; ".join(f"{check.rule}: {check.text}" for check in denied)
    return Outcome.ORDERED, ""
