"""The path, top to bottom: prices in, actions out. Nothing here waits, and nothing here knows a clock.

    bar -> strategy -> signal -> sizing -> risk checks -> order -> (venue) -> fill -> position -> ledger

Two shells drive it: `engine/live.py` and `engine/backtest/replay.py`. Within one moment fills come
first (told by the broker through `on_order_event`), then marks, exits and entries, strategies in the
order of their ids and instruments in the order of theirs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from engine.actions import Action, Booked, Broken, Cancel, Decide, Failed, OrderMoved, Submit
from engine.intents import NotYetKnown, Origin, intents_of, said, time_exit_of
from engine.matching import Costs
from engine.portfolio import Portfolio
from engine.risk.rules import Proposal, RiskPolicy, annual_volatility
from engine.sizing import Facts, Sized, size
from engine.standing import NAN, Standing, StrategyRun
from engine.strategies.evaluation import BoundInput
from shared.domain.decisions import Check, Decision, Outcome
from shared.domain.identity import decision_id
from shared.domain.instruments import Instrument
from shared.domain.market import Bar
from shared.domain.orders import (
    Fill,
    ImpossibleEvent,
    Leg,
    Number,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    Side,
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
        self._ended: OrderedDict[UUID, Order] = OrderedDict()
        self._stood: dict[UUID, Standing] = {}
        """Where the strategy stood before each decision that is not released yet."""

    # Moments ----------------------------------------------------------------------------

    def on_mark(self, instrument_id: int, price: float) -> None:
        """The price this instrument is valued at now."""
        self.portfolio.mark(instrument_id, price)

    def on_moment(self, at: datetime, due: Iterable[StrategyRun]) -> list[Action]:
        """A moment closed: fills and marks are in; `due` are the strategies whose clock closed."""
        self.equity = self.portfolio.remember_peak()
        actions: list[Action] = []
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
            target = evaluation.targets[column][row]
            standing = run.standings[bound.instrument_id]
            asked, standing.asked = standing.asked, target
            if target != target:  # NaN leaves
                continue
            if target in (asked, standing.target) and not self._left_band(run, bound, target):
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
            if target in (asked, standing.target) and not self._left_band(run, bound, target):
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
        equity = float(self.portfolio.strategy_equity(run.id, run.allocation))
        mark = self.portfolio.marks.get(bound.instrument_id)
        if mark is None or equity <= 0:
            return False
        held = float(self.portfolio.position(run.id, bound.instrument_id).quantity)
        return abs(held * mark / equity - target * run.sizing.fraction) > band

    def _age(self, run: StrategyRun, at: datetime, actions: list[Action]) -> None:
        """Positions grow one bar older; those past their time leave."""
        for bound in run.traded:
            standing = run.standings[bound.instrument_id]
            position = self.portfolio.position(run.id, bound.instrument_id)
            if position.is_flat or position.opened_at is None or position.opened_at >= at:
                continue
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
        checks = self._check(run, bound, sized, price)
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
            if any(request.client_order_id in self.orders for request in requests):
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
        portfolio = self.portfolio
        equity = portfolio.strategy_equity(run.id, run.allocation)
        held = portfolio.position(run.id, bound.instrument_id)
        own_cash = portfolio.strategy_cash(run.id, run.allocation)
        promised, own_promised = self._reserved(run, bound)
        free = min(float(portfolio.cash) - promised, float(own_cash) - own_promised)
        wants_volatility = run.sizing.method == "volatility"
        facts = Facts(
            price=price,
            equity=float(equity),
            cash=free,
            held=float(held.quantity),
            volatility=self._volatility(run, bound) if wants_volatility and target else None,
            cost_rate=self.costs.rate,
        )
        return size(target, run.sizing, facts, instrument)

    def _volatility(self, run: StrategyRun, bound: BoundInput) -> float | None:
        assert run.evaluation is not None
        window = run.sizing.window
        closes, _ = run.evaluation.recent(bound, run.row, window + 1)
        per_year = self.instruments[bound.instrument_id].bars_per_year(bound.interval)
        return annual_volatility(closes, window, per_year)

    def _reserved(self, run: StrategyRun, bound: BoundInput) -> tuple[float, float]:
        """Cash promised to buys that work, by all and by this strategy; not those this decision replaces."""
        everyone = own = 0.0
        for order in self.orders.values():
            request = order.request
            if order.is_done or request.side is not Side.BUY or request.leg.is_protective:
                continue
            if (request.strategy_id, request.instrument_id) == (run.id, bound.instrument_id):
                continue
            value = self._order_value(order)
            everyone += value
            own += value if request.strategy_id == run.id else 0.0
        return everyone, own

    def _order_value(self, order: Order) -> float:
        """What is left of an order, in quote units, at its limit or mark."""
        request = order.request
        if request.value is not None:
            return float(request.value)
        asked = order.asked_quantity
        if asked is None:
            return 0.0
        price = request.limit_price or request.stop_price
        price = price or self.portfolio.marks.get(request.instrument_id, 0.0)
        return float(asked - order.filled) * price * (1 + self.costs.rate)

    def _check(
        self, run: StrategyRun, bound: BoundInput, sized: Sized, price: float
    ) -> tuple[Check, ...]:
        """The rules' answers about what the order adds. A reduction is never checked."""
        held = float(self.portfolio.position(run.id, bound.instrument_id).quantity)
        change = sized.change or (sized.value / price if price else 0.0)
        after = held + change
        added = abs(after) - abs(held) if held * after >= 0 else abs(after)
        if change == 0 or added <= 0:
            return ()
        assert run.evaluation is not None
        instrument = self.instruments[bound.instrument_id]
        equity = self.portfolio.equity()
        closes, values = run.evaluation.recent(bound, run.row, self.policy.window())
        order_value = sized.value or abs(change) * price
        proposal = Proposal(
            order_value=added * price if not sized.value else order_value,
            exposure_after=self._exposure(run, bound, change, price),
            equity=None if equity is None else float(equity),
            peak=float(self.portfolio.peak),
            closes=closes,
            values=values,
            bars_per_year=instrument.bars_per_year(bound.interval),
        )
        if instrument.quote_asset != self.portfolio.base_asset:
            proposal = replace(proposal, equity=None)  # no conversion path: unknown, so denied
        return self.policy.check(proposal)

    def _exposure(self, run: StrategyRun, bound: BoundInput, change: float, price: float) -> float:
        """Value of the instrument across strategies if this and every working entry filled."""
        quantity = float(self.portfolio.held(bound.instrument_id)) + change
        for order in self.orders.values():
            request = order.request
            if order.is_done or request.instrument_id != bound.instrument_id:
                continue
            if request.strategy_id == run.id or request.leg is not Leg.ENTRY:
                continue
            asked = order.asked_quantity
            left = (
                float(asked - order.filled)
                if asked is not None
                else float(request.value or 0) / price
            )
            quantity += request.side.sign * left
        return quantity * price

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
        replaced = self._cancels(first.strategy_id, first.instrument_id, before=first.decision_id)
        return [*replaced, *(Submit(request) for request in requests)]

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
        before = self.orders.get(order_id) or self._ended.get(order_id)
        if before is None:
            return [Broken(order_id, f"{type(event).__name__} for an order we do not know")]
        try:
            after = advance(before, event)
        except ImpossibleEvent as error:
            return [Broken(order_id, str(error))]
        if after is before:
            return []
        if before.is_done:
            self._ended[order_id] = after
        else:
            self.orders[order_id] = after
        actions: list[Action] = [OrderMoved(after, event)]
        if isinstance(event, Fill):
            actions.append(self._book(after, event))
            actions.extend(self._tell_strategy(event))
            if overfilled(after):
                actions.append(Broken(order_id, f"filled {after.filled} of {after.asked_quantity}"))
        if after.is_done and not before.is_done:
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

    def remember_ended(self, order: Order) -> None:
        """Keep an order that ended, for the fill that may still come late."""
        self._ended[order.request.client_order_id] = order
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def _replaced(self, order: Order) -> bool:
        """Whether a later decision's order already stands in this one's place."""
        ours = order.request
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
                if abs(standing.asked) < abs(standing.target):
                    standing.asked = NAN

    def agree(self, run: StrategyRun) -> None:
        """After a restart: where a strategy stands must agree with what it holds and has working.

        They differ when a crash came between a refusal and the next commit.
        """
        for bound in run.traded:
            standing = run.standings[bound.instrument_id]
            if self._working(run, bound):
                continue
            flat = self.portfolio.position(run.id, bound.instrument_id).is_flat
            if flat:
                standing.target = 0.0
            elif standing.target == 0:
                standing.target, standing.asked = standing.before or 1.0, NAN

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


def _verdict(sized: Sized, checks: tuple[Check, ...]) -> tuple[Outcome, str]:
    if sized.change == 0 and sized.value == 0:
        return Outcome.NOTHING, sized.reason
    denied = [check for check in checks if not check.allowed]
    if denied:
        return Outcome.DENIED, "; ".join(f"{check.rule}: {check.text}" for check in denied)
    return Outcome.ORDERED, ""
