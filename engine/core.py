"""The path, top to bottom: prices in, actions out. Nothing here waits, and nothing here knows a clock.

    bar -> strategy -> signal -> sizing -> risk checks -> order -> (venue) -> fill -> position -> ledger

Two shells drive it: `engine/live.py` and `engine/backtest/replay.py`. Within one moment fills come
first (told by the broker through `on_order_event`), then marks, exits and entries, strategies in the
order of their ids and instruments in the order of theirs.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from engine.matching import Costs
from engine.portfolio import Portfolio
from engine.risk.rules import Proposal, RiskPolicy, annual_volatility
from engine.sizing import Facts, Sized, Sizing, size
from engine.strategies.base import BaseStrategy
from engine.strategies.evaluation import BoundInput, Evaluation, traded_inputs
from shared.domain.decisions import Check, Decision, Outcome
from shared.domain.identity import client_order_id, decision_id
from shared.domain.instruments import Instrument
from shared.domain.ledger import LedgerEntry
from shared.domain.market import Bar
from shared.domain.orders import (
    Fill,
    ImpossibleEvent,
    Leg,
    Number,
    Order,
    OrderEvent,
    OrderRequest,
    OrderType,
    Side,
    Submitted,
    advance,
    overfilled,
)
from shared.domain.positions import Position
from shared.domain.signals import (
    Exit,
    Limit,
    Signal,
    Stop,
    StopLoss,
    TakeProfit,
    TimeExit,
    TrailingStop,
)

NAN: Final = math.nan
ENDED_KEPT: Final = 5000
FAILURES: Final = (Exception, SystemExit)
"""What the user's code may raise: anything, `sys.exit` too. Only the strategy stops."""


@dataclass(slots=True)
class Standing:
    """Where a strategy stands in one instrument: what it last asked, and what it last acted on.

    `asked` is the raw target of the moment before (NaN when it said nothing); a target acts when it
    differs from both, so a stop that closed a position is not undone by the same target going on.
    """

    target: float = 0.0
    before: float = 0.0
    asked: float = NAN
    age: int = 0
    time_exit: int = 0
    exits: tuple[Exit, ...] = ()

    def as_json(self) -> dict[str, Any]:
        asked = None if math.isnan(self.asked) else self.asked
        return {
            "target": self.target,
            "before": self.before,
            "asked": asked,
            "age": self.age,
            "time_exit": self.time_exit,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Standing:
        asked = given.get("asked")
        return cls(
            target=given.get("target", 0.0),
            before=given.get("before", 0.0),
            asked=NAN if asked is None else asked,
            age=given.get("age", 0),
            time_exit=given.get("time_exit", 0),
        )


@dataclass(slots=True)
class StrategyRun:
    """A strategy at work: its opinion so far (`evaluation` at `row`) and where it stands."""

    id: int
    name: str
    strategy: BaseStrategy
    inputs: tuple[BoundInput, ...]
    allocation: Number
    sizing: Sizing
    standings: dict[int, Standing] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    row: int = -1
    stopping: bool = False
    traded: list[BoundInput] = field(init=False)
    scalar: bool = field(init=False)

    def __post_init__(self) -> None:
        self.traded = traded_inputs(self.inputs)
        self.scalar = self.strategy.is_scalar()
        for bound in self.traded:
            self.standings.setdefault(bound.instrument_id, Standing())

    def state(self) -> dict[str, Any]:
        """What a restart needs, as JSON."""
        standings = {str(key): value.as_json() for key, value in self.standings.items()}
        return {"standings": standings, "own": self.strategy.state}

    def check_state(self) -> None:
        """TypeError or ValueError when a restart could not give the strategy's own state back."""
        if not isinstance(self.strategy.state, dict):
            raise TypeError(f"state is {self.strategy.state!r}: keep it a dict")
        if self.strategy.state:
            json.dumps(self.strategy.state, allow_nan=False)

    def restore(self, state: Mapping[str, Any]) -> None:
        for key, value in state.get("standings", {}).items():
            self.standings[int(key)] = Standing.from_json(value)
        self.strategy.state = dict(state.get("own", {}))


@dataclass(frozen=True, slots=True)
class Decide:
    """Store this decision and its intents in one commit; then tell `released` or `refused`."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Submit:
    """Hand a released request to the adapter."""

    request: OrderRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the adapter to cancel. Goes out at once, journalled after."""

    client_order_id: UUID


@dataclass(frozen=True, slots=True)
class OrderMoved:
    """An order heard something: journal the event and where the order stands now."""

    order: Order
    event: OrderEvent


@dataclass(frozen=True, slots=True)
class Booked:
    """A fill is in the books: journal fill, ledger entries and position together."""

    fill: Fill
    leg: Leg
    tag: str
    entries: tuple[LedgerEntry, ...]
    position: Position
    realised: Number


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that cannot be: a break on the account, never an engine stop."""

    client_order_id: UUID | None
    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A strategy's own code raised: it decides no more, the others go on."""

    strategy_id: int
    error: BaseException


Action = Decide | Submit | Cancel | OrderMoved | Booked | Broken | Failed


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
        because = _said(run.strategy.because(moment))
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
        identity = decision_id(self.account_id, run.id, bound.instrument_id, at, kind)
        requests: tuple[OrderRequest, ...] = ()
        if outcome is Outcome.ORDERED:
            requests = self._requests(run, bound, signal, sized, price, identity, at, kind)
            if any(request.client_order_id in self.orders for request in requests):
                outcome, reason, requests = Outcome.NOTHING, "this moment ordered it already", ()
        decision = Decision(
            id=identity,
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
            tag=_said(signal.tag),
        )
        if outcome is Outcome.ORDERED:
            standing.before, standing.target = standing.target, target
            standing.exits = signal.exits
            standing.time_exit = next((e.bars for e in signal.exits if isinstance(e, TimeExit)), 0)
            for request in requests:
                self.orders[request.client_order_id] = Order(request)
        elif outcome is Outcome.NOTHING and target == 0:
            standing.target = 0.0
        actions.append(Decide(decision))

    def _size(self, run: StrategyRun, bound: BoundInput, target: float, price: float) -> Sized:
        if not price > 0:
            return Sized(0.0, 0.0, (), "no price is known")
        instrument = self.instruments[bound.instrument_id]
        portfolio = self.portfolio
        equity = portfolio.strategy_equity(run.id, run.allocation)
        held = portfolio.position(run.id, bound.instrument_id)
        own_cash = portfolio.strategy_cash(run.id, run.allocation)
        free = min(float(portfolio.cash), float(own_cash)) - self._reserved(run, bound)
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

    def _reserved(self, run: StrategyRun, bound: BoundInput) -> float:
        """Cash promised to buys that work, but for those this decision replaces."""
        total = 0.0
        for order in self.orders.values():
            request = order.request
            if order.is_done or request.side is not Side.BUY or request.leg.is_protective:
                continue
            if (request.strategy_id, request.instrument_id) == (run.id, bound.instrument_id):
                continue
            total += self._order_value(order)
        return total

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

    def _requests(
        self,
        run: StrategyRun,
        bound: BoundInput,
        signal: Signal,
        sized: Sized,
        price: float,
        identity: UUID,
        at: datetime,
        kind: str,
    ) -> tuple[OrderRequest, ...]:
        """The order and the protective legs that wait for its fill, or protect what stays."""
        held = self.portfolio.position(run.id, bound.instrument_id)
        side = Side.BUY if sized.value or sized.change > 0 else Side.SELL
        reduces = not held.is_flat and side.sign * float(held.quantity) < 0
        leg = Leg.EXIT if reduces else Leg.ENTRY
        type_, limit_price, stop_price = OrderType.MARKET, None, None
        if leg is Leg.ENTRY and isinstance(signal.entry, Limit):
            type_, limit_price = OrderType.LIMIT, _level(signal.entry.price)
        elif leg is Leg.ENTRY and isinstance(signal.entry, Stop):
            type_, stop_price = OrderType.STOP, _level(signal.entry.price)
        main = OrderRequest(
            client_order_id=self._order_id(run, bound, at, kind, leg),
            decision_id=identity,
            account_id=self.account_id,
            strategy_id=run.id,
            instrument_id=bound.instrument_id,
            leg=leg,
            side=side,
            type=type_,
            decided_at=at,
            quantity=None if sized.value else self._quantity(abs(sized.change), held, bound),
            value=self.portfolio.number(sized.value) if sized.value else None,
            limit_price=limit_price,
            stop_price=stop_price,
            reduce_only=reduces,
            tag=_said(signal.tag),
        )
        if not reduces:
            return (main, *self._protection(run, main, signal.exits, held))
        remaining = held.quantity - main.quantity if held.quantity > 0 else 0 * held.quantity
        return (main, *self._kept_protection(main, signal.exits, held, remaining))

    def _order_id(
        self, run: StrategyRun, bound: BoundInput, at: datetime, kind: str, leg: Leg
    ) -> UUID:
        """One moment may hold a signal, a time exit and a flatten: each has orders of its own."""
        name = leg.value if kind == "signal" else f"{kind}.{leg.value}"
        return client_order_id(self.account_id, run.id, bound.instrument_id, at, name)

    def _quantity(self, change: float, held: Position, bound: BoundInput) -> Number:
        """The change in the books' own number; all of a position exactly, lots exactly."""
        if not held.is_flat and change == abs(float(held.quantity)):
            return abs(held.quantity)
        lot = self.instruments[bound.instrument_id].lot_size
        if lot is None:
            return self.portfolio.number(change)
        return self.portfolio.number(float(round(change / float(lot)) * lot))

    def _protection(
        self, run: StrategyRun, main: OrderRequest, exits: tuple[Exit, ...], held: Position
    ) -> tuple[OrderRequest, ...]:
        """Legs relative to the entry's fill, covering what was held before as well."""
        covered = None if held.is_flat else abs(held.quantity)
        legs = []
        for exit_ in exits:
            shape = _leg_of(exit_)
            if shape is None:
                continue
            leg, kind, fraction, distance = shape
            legs.append(
                replace(
                    main,
                    client_order_id=client_order_id(
                        main.account_id,
                        main.strategy_id,
                        main.instrument_id,
                        main.decided_at,
                        leg.value,
                    ),
                    leg=leg,
                    side=main.side.opposite,
                    type=kind,
                    quantity=covered,
                    value=None,
                    limit_price=None,
                    stop_price=None,
                    fraction=fraction,
                    distance=distance,
                    parent_id=main.client_order_id,
                    reduce_only=True,
                )
            )
        return tuple(legs)

    def _kept_protection(
        self, main: OrderRequest, exits: tuple[Exit, ...], held: Position, remaining: Number
    ) -> tuple[OrderRequest, ...]:
        """Legs for what stays after a partial reduction, relative to its average entry."""
        if remaining <= 0:
            return ()
        average = float(held.cost / held.quantity)
        legs = []
        for exit_ in exits:
            shape = _leg_of(exit_)
            if shape is None:
                continue
            leg, kind, fraction, distance = shape
            away = distance if distance is not None else average * (fraction or 0.0)
            level = average + away if leg is Leg.TAKE_PROFIT else average - away
            legs.append(
                replace(
                    main,
                    client_order_id=client_order_id(
                        main.account_id,
                        main.strategy_id,
                        main.instrument_id,
                        main.decided_at,
                        leg.value,
                    ),
                    leg=leg,
                    type=kind,
                    quantity=remaining,
                    limit_price=level if kind is OrderType.LIMIT else None,
                    stop_price=None if kind is OrderType.LIMIT else level,
                    fraction=fraction,
                    distance=distance,
                    reduce_only=True,
                )
            )
        return tuple(legs)

    # What became of it ------------------------------------------------------------------

    def released(self, decision: Decision) -> list[Action]:
        """The intents are committed: what they replace goes out, then they do."""
        return self.send(decision.requests)

    def send(self, requests: Sequence[OrderRequest]) -> list[Action]:
        """Cancels of what one decision's requests replace, then the requests."""
        if not requests:
            return []
        first = requests[0]
        ours = {request.client_order_id for request in requests}
        open_orders = self._open_orders(first.strategy_id, first.instrument_id)
        # Orders stand in the order they were decided: a later one of the same moment stays.
        earlier = itertools.takewhile(lambda o: o.request.client_order_id not in ours, open_orders)
        replaced = [Cancel(order.request.client_order_id) for order in earlier]
        return [*replaced, *(Submit(request) for request in requests)]

    def refused(self, decision: Decision, reason: str) -> Decision:
        """The release said no: forget the intents, stand where we stood."""
        for request in decision.requests:
            self.orders.pop(request.client_order_id, None)
        run = self.runs.get(decision.strategy_id)
        if run is not None:
            standing = run.standings[decision.instrument_id]
            standing.target = decision.previous
            if decision.kind == "time_exit":
                standing.time_exit = standing.age  # still due, at every moment from now on
        return replace(decision, outcome=Outcome.REFUSED, reason=reason, requests=())

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
            self._conclude(after, event)
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

    def _conclude(self, order: Order, event: OrderEvent) -> None:
        """An order ended: a position that is gone stands at 0; an entry that never filled never stood."""
        self.remember_ended(self.orders.pop(order.request.client_order_id))
        run = self.runs.get(order.request.strategy_id)
        if run is None:
            return
        standing = run.standings.get(order.request.instrument_id)
        if standing is None:
            return
        if order.request.leg.is_protective:
            flat = self.portfolio.position(run.id, order.request.instrument_id).is_flat
            if isinstance(event, Fill) and flat:
                standing.target, standing.time_exit = 0.0, 0
        elif order.filled == 0 and not self._replaced(order):
            standing.target = standing.before

    def remember_ended(self, order: Order) -> None:
        """Keep an order that ended, for the fill that may still come late."""
        self._ended[order.request.client_order_id] = order
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def _replaced(self, order: Order) -> bool:
        """Whether a newer decision already stands in this order's place."""
        request = order.request
        return any(
            other.request.decided_at > request.decided_at and not other.request.leg.is_protective
            for other in self._open_orders(request.strategy_id, request.instrument_id)
        )

    # Strategies come and go -------------------------------------------------------------

    def start(self, run: StrategyRun) -> None:
        self.runs[run.id] = run

    def stop(self, strategy_id: int, at: datetime, *, flatten: bool, because: str) -> list[Action]:
        """Decide no more: working entries are cancelled; protective orders stay unless flattened."""
        run = self.runs[strategy_id]
        run.stopping = True
        actions: list[Action] = [
            Cancel(order.request.client_order_id)
            for order in self._open_orders(strategy_id)
            if not order.request.leg.is_protective
        ]
        if flatten:
            actions.extend(self.flatten(strategy_id, at, because=because))
        return actions

    def flatten(self, strategy_id: int, at: datetime, *, because: str) -> list[Action]:
        """Sell whatever a strategy holds; what it has working is cancelled when that is released."""
        run = self.runs[strategy_id]
        actions: list[Action] = []
        for bound in run.traded:
            if not self.portfolio.position(strategy_id, bound.instrument_id).is_flat:
                self._leave(run, bound, at, "flatten", because, actions)
        return actions

    def forget(self, strategy_id: int) -> None:
        """Drop a stopped strategy. Its orders and positions stay in the books."""
        del self.runs[strategy_id]

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


def _said(words: object) -> str:
    """A strategy's own words, as a row can hold them."""
    text = "" if words is None else str(words)
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:2000]


def _level(price: Any) -> float:
    level = float(price)
    if not 0 < level < math.inf:
        raise ValueError(f"entry price {level}: give a price above 0")
    return level


def _leg_of(exit_: Exit) -> tuple[Leg, OrderType, float | None, float | None] | None:
    """(leg, order type, fraction, distance) of an exit that rests as an order; None for a time exit."""
    shapes = {
        StopLoss: (Leg.STOP_LOSS, OrderType.STOP),
        TakeProfit: (Leg.TAKE_PROFIT, OrderType.LIMIT),
        TrailingStop: (Leg.TRAILING_STOP, OrderType.TRAILING_STOP),
    }
    shape = shapes.get(type(exit_))
    if shape is None or isinstance(exit_, TimeExit):
        return None
    fraction = None if exit_.fraction is None else float(exit_.fraction)
    distance = None if exit_.distance is None else float(exit_.distance)
    if (fraction is None and distance is None) or math.isnan(distance or fraction or 0.0):
        return None
    return (*shape, fraction, distance)
