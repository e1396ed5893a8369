"""The paper broker: our own venue, matching on bars or on quotes, deterministic and without a clock.

It holds no money: what a fill may spend is asked of the books at the moment of the fill. Fill ids
derive from the order, so a fill that is matched again after a crash is the same fill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from engine.costs import Costs, Traded
from engine.execution.working import (
    Budget,
    Working,
    at_the_open,
    leg_price,
    level_of,
    pessimistic,
)
from engine.matching import (
    Intrabar,
    Level,
    Matching,
    at_price,
    inside,
    met,
    on_quote,
    path,
    within_limit,
)
from engine.portfolio import ToNumber
from engine.sizing import lots
from shared.domain.instruments import Instrument
from shared.domain.market import Bar, Quote
from shared.domain.orders import (
    Acknowledged,
    Amended,
    AmendRefused,
    Cancelled,
    CancelRefused,
    Expired,
    Fill,
    Held,
    Number,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    OrderType,
    Rejected,
    Side,
    TimeInForce,
    Triggered,
)

Told = tuple[UUID, OrderEvent]
NETTED: Final = "netted"
"""The liquidity of a fill against another strategy of the same account: no venue, no fee."""


class Funds(Protocol):
    """What the books say at the moment of a fill. They must know a fill before the next event is asked for."""

    @property
    def allow_short(self) -> bool: ...

    def power(self, instrument_id: int) -> Number:
        """What may be spent on making positions larger, in the instrument's quote asset."""
        ...

    def held_by(self, strategy_id: int, instrument_id: int) -> Number:
        """The signed quantity a strategy holds."""
        ...


class _Ready(NamedTuple):
    """An order that acts at this price."""

    working: Working
    price: float
    at: datetime
    liquidity: str


class PaperBroker:
    """Takes requests of one account and tells what the market made of them.

    `traded` is what fee tiers look at; after a restart somebody tells it what was traded before.
    `ambiguous` counts bars in which both a stop and a target of one position were touched, so that
    the intrabar rule decided which came first.
    """

    def __init__(
        self,
        instruments: Mapping[int, Instrument],
        costs: Costs,
        number: ToNumber,
        funds: Funds,
        matching: Matching | None = None,
    ) -> None:
        self._instruments = instruments
        self._costs = costs
        self._number = number
        self._funds = funds
        self._matching = matching or Matching()
        self._working: dict[int, dict[UUID, Working]] = {}
        self._held: dict[UUID, list[OrderRequest]] = {}
        self._sequence = 0
        self.traded = Traded()
        self.ambiguous = 0

    @property
    def is_idle(self) -> bool:
        """Nothing works here, so no price can matter."""
        return not self._working

    def reconfigure(self, costs: Costs, matching: Matching) -> None:
        """Trade by these from the next price on."""
        self._costs, self._matching = costs, matching

    # Requests -------------------------------------------------------------------------

    def submit(self, request: OrderRequest, at: datetime) -> Iterator[Told]:
        """Take an order in. One with a parent that has not filled is held until it does."""
        if request.parent_id is not None:
            self._held.setdefault(request.parent_id, []).append(request)
            yield request.client_order_id, Held(at)
            return
        yield self._begin(request, at)

    def _begin(self, request: OrderRequest, at: datetime) -> Told:
        level = level_of(request, request.limit_price, request.stop_price)
        working = Working(request, level, request.quantity, request.value, at, self._next())
        self._add(working)
        return request.client_order_id, Acknowledged(at, venue_order_id=f"paper-{working.name}")

    def cancel(self, client_order_id: UUID, at: datetime, reason: str = "asked") -> Iterator[Told]:
        """Take an order out, and the orders that waited for it."""
        for parent, waiting in list(self._held.items()):
            for request in waiting:
                if request.client_order_id == client_order_id:
                    waiting.remove(request)
                    if not waiting:
                        del self._held[parent]
                    yield client_order_id, Cancelled(at, reason)
                    return
        working = self._find(client_order_id)
        if working is None:
            yield client_order_id, CancelRefused(at, "no such working order")
            return
        yield from self._end(working, Cancelled(at, reason))

    def amend(
        self,
        client_order_id: UUID,
        at: datetime,
        *,
        quantity: Number | None = None,
        limit_price: float | None = None,
        stop_price: float | None = None,
    ) -> Iterator[Told]:
        """Change a working order; prices from before `at` do not meet the new one."""
        working = self._find(client_order_id)
        if working is None:
            yield client_order_id, AmendRefused(at, "no such working order")
            return
        if quantity is not None and (working.quantity is None or quantity <= working.filled):
            yield client_order_id, AmendRefused(at, f"{working.filled} of it has traded already")
            return
        level = working.level
        if quantity is not None:
            working.quantity = quantity - working.filled
        if limit_price is not None:
            level.limit, level.resting = limit_price, False
        if stop_price is not None:
            level.stop = stop_price
            if level.type is OrderType.TRAILING_STOP:
                level.best = level.best_behind(stop_price)
        working.active_from = max(working.active_from, at)
        yield client_order_id, _amended(working, at)

    def restore(self, order: Order, at: datetime, *, resting: bool) -> None:
        """Take back an order the database knows as open, to be matched from `at` on.

        `resting`: prices have passed it since, so it is no taker any more.
        """
        request = order.request
        if order.state is OrderState.HELD:
            self._held.setdefault(request.parent_id or request.client_order_id, []).append(request)
            return
        level = level_of(
            request,
            order.limit_price if order.limit_price is not None else request.limit_price,
            order.stop_price if order.stop_price is not None else request.stop_price,
        )
        level.resting, level.triggered = resting, order.is_triggered
        asked = order.asked_quantity
        quantity = asked - order.filled if asked is not None else None
        value = None
        if asked is None and request.value is not None:
            value = request.value - order.filled_value - order.fees
        working = Working(request, level, quantity, value, at, self._next(), order.filled)
        working.fills, working.revision = len(order.fill_ids), order.revision
        working.fees = working.owed = order.fees
        self._add(working)

    # Time -----------------------------------------------------------------------------

    def expire(self, at: datetime) -> Iterator[Told]:
        """End the orders whose life is over at `at`, those that wait for a parent included."""
        if not (self._working or self._held):
            return
        over = [w for orders in self._working.values() for w in orders.values() if w.is_over(at)]
        for working in over:
            yield from self._expired(working)
        for waiting in list(self._held.values()):
            for request in list(waiting):
                if request.expires_at is not None and request.expires_at <= at:
                    waiting.remove(request)
                    yield request.client_order_id, Expired(request.expires_at, "its time is over")

    def _expired(self, working: Working) -> Iterator[Told]:
        expires_at = working.request.expires_at
        assert expires_at is not None
        yield from self._end(working, Expired(expires_at, "its time is over"))

    # Bars -----------------------------------------------------------------------------

    def on_bars(self, bars: Iterable[Bar]) -> Iterator[Told]:
        """Match against bars that closed together: opens first, sells before buys, then what lay inside."""
        traded = [bar for bar in bars if not bar.filled and bar.instrument_id in self._working]
        budgets = {bar.instrument_id: self._budget(bar) for bar in traded}
        ready: list[_Ready] = []
        for bar in traded:
            for working in list(self._working.get(bar.instrument_id, {}).values()):
                if working.is_over(bar.opened_at):
                    yield from self._expired(working)
                elif working.active_from <= bar.opened_at:
                    ask = partial(at_price, price=bar.open)
                    yield from self._look(working, ask, bar.opened_at, ready)
        yield from self._execute(ready, lambda request: budgets[request.instrument_id])
        for bar in traded:
            if bar.instrument_id not in self._working:
                continue
            budget = budgets[bar.instrument_id]
            if self._matching.intrabar is Intrabar.OHLC_PATH:
                yield from self._along(bar, budget)
            else:
                yield from self._inside(bar, budget)

    def _budget(self, bar: Bar) -> Budget:
        share = self._matching.volume_share
        return Budget(None if share is None else share * bar.volume, bar.volume)

    def _inside(self, bar: Bar, budget: Budget) -> Iterator[Told]:
        """Worst case. Entries first, since their exits may follow in the same bar; then stops before targets."""
        entries = [w for w in self._of(bar) if not w.request.leg.is_protective]
        for working in sorted(entries, key=pessimistic):
            if working.active_from < bar.closed_at and self._is_working(working):
                yield from self._touch(working, bar, budget)
        exits = [w for w in self._of(bar) if w.request.leg.is_protective]
        self._count_ambiguous(exits, bar)
        for working in sorted(exits, key=pessimistic):
            if not self._is_working(working):
                continue
            entered_inside = working.active_from == bar.closed_at
            if entered_inside and working.level.type is OrderType.LIMIT:
                continue  # the target may have been touched before the entry: not counted
            yield from self._touch(working, bar, budget, entered_inside=entered_inside)

    def _touch(
        self, working: Working, bar: Bar, budget: Budget, *, entered_inside: bool = False
    ) -> Iterator[Told]:
        level = working.level
        was_triggered, liquidity = level.triggered, _liquidity(working)
        price = inside(level, bar, entered_inside=entered_inside)
        if level.triggered and not was_triggered:
            yield working.request.client_order_id, Triggered(bar.closed_at)
        level.resting = level.is_limit
        if price is not None:
            yield from self._fill(working, price, bar.closed_at, budget, liquidity)

    def _count_ambiguous(self, exits: list[Working], bar: Bar) -> None:
        owners = [
            {
                w.request.strategy_id
                for w in exits
                if w.active_from < bar.closed_at
                and (w.level.type is OrderType.LIMIT) is is_target
                and _touches(w, bar)
            }
            for is_target in (False, True)
        ]
        if owners[0] & owners[1]:
            self.ambiguous += 1

    def _along(self, bar: Bar, budget: Budget) -> Iterator[Told]:
        """Along the OHLC path, order by order as the price meets them."""
        price = bar.open
        left_over: set[UUID] = set()  # what volume left of these works on in the next bar
        for end in path(bar)[1:]:
            while found := self._first_met(bar, price, end, left_over):
                working, price = found
                level, liquidity = working.level, _liquidity(working)
                if level.type is OrderType.STOP_LIMIT and not level.triggered:
                    level.triggered = level.resting = True
                    yield working.request.client_order_id, Triggered(bar.closed_at)
                    if not within_limit(level, price):
                        continue
                yield from self._fill(working, price, bar.closed_at, budget, liquidity)
                left_over.add(working.request.client_order_id)
            for working in self._of(bar):
                working.level.follow(end)
            price = end
        for working in self._of(bar):
            working.level.resting = working.level.is_limit

    def _first_met(
        self, bar: Bar, start: float, end: float, passed_over: set[UUID]
    ) -> tuple[Working, float] | None:
        """The next order on the way, and where; of several at one price the one that is worst for us."""
        found = [
            (abs(price - start), pessimistic(working), working, price)
            for working in self._of(bar)
            if working.request.client_order_id not in passed_over
            and (price := met(working.level, start, end)) is not None
        ]
        if not found:
            return None
        _, _, working, price = min(found, key=lambda entry: entry[:2])
        return working, price

    def _of(self, bar: Bar) -> list[Working]:
        """Orders that were there when the bar opened, or that a fill inside it woke (at its close)."""
        return [
            working
            for working in self._working.get(bar.instrument_id, {}).values()
            if (working.active_from <= bar.opened_at or working.active_from == bar.closed_at)
            and working.lives_through(bar)
        ]

    # Quotes ---------------------------------------------------------------------------

    def on_quote(self, quote: Quote) -> Iterator[Told]:
        """Match against best bid and ask. A quote from before an order was active does not see it."""
        ready: list[_Ready] = []
        for working in list(self._working.get(quote.instrument_id, {}).values()):
            if working.is_over(quote.quoted_at):
                yield from self._expired(working)
            elif working.active_from <= quote.quoted_at:
                ask = partial(on_quote, quote=quote)
                yield from self._look(working, ask, quote.quoted_at, ready)
        if not ready:
            return
        sizes = {Side.BUY: quote.ask_quantity, Side.SELL: quote.bid_quantity}
        budgets = {
            side: Budget(None if size is None else float(size), float(size or 0))
            for side, size in sizes.items()
        }
        middle = float((quote.bid + quote.ask) / 2)
        yield from self._execute(ready, lambda request: budgets[request.side], middle)

    def trails(self) -> Iterator[tuple[UUID, float]]:
        """(order, stop level) of every trailing stop, to be kept with the moment."""
        for orders in self._working.values():
            for working in orders.values():
                level = working.level.stop_level()
                if working.level.type is OrderType.TRAILING_STOP and level is not None:
                    yield working.request.client_order_id, level

    # Orders that act at one price -----------------------------------------------------

    def _look(
        self,
        working: Working,
        ask: Callable[[Level], float | None],
        at: datetime,
        ready: list[_Ready],
    ) -> Iterator[Told]:
        """Take an order that acts now among the `ready`; end one that may not act, or that will not wait."""
        request, level = working.request, working.level
        was_triggered, was_resting, liquidity = level.triggered, level.resting, _liquidity(working)
        price = ask(level)
        if level.triggered and not was_triggered:
            yield request.client_order_id, Triggered(at)
        if price is not None and request.post_only and not was_resting:
            yield from self._end(working, Rejected(at, "post-only: it would have traded at once"))
        elif price is not None:
            ready.append(_Ready(working, price, at, liquidity))
        elif request.time_in_force.is_immediate:
            yield from self._end(working, Cancelled(at, "nothing could trade at once"))
        level.resting = level.is_limit

    def _execute(
        self,
        ready: list[_Ready],
        budget_of: Callable[[OrderRequest], Budget],
        middle: float | None = None,
    ) -> Iterator[Told]:
        """Fill what acts now: crossing orders of different strategies against each other, the rest outside."""
        if len(ready) > 1:
            ready.sort(key=lambda entry: at_the_open(entry.working))
            yield from self._net(ready, middle)
        for working, price, at, liquidity in ready:
            if self._is_working(working):
                yield from self._fill(working, price, at, budget_of(working.request), liquidity)

    def _net(self, ready: list[_Ready], middle: float | None) -> Iterator[Told]:
        """Orders of different strategies that would cross trade with each other, without venue and fee."""
        sells = [entry for entry in ready if entry.working.request.side is Side.SELL]
        buys = [entry for entry in ready if entry.working.request.side is Side.BUY]
        for sell in sells:
            for buy in buys:
                ours, theirs = sell.working.request, buy.working.request
                if ours.instrument_id != theirs.instrument_id:
                    continue
                if ours.strategy_id == theirs.strategy_id:
                    continue
                price = sell.price if middle is None else middle
                yield from self._cross(sell.working, buy.working, price, sell.at)

    def _cross(self, sell: Working, buy: Working, price: float, at: datetime) -> Iterator[Told]:
        if not (self._is_working(sell) and self._is_working(buy)):
            return
        quantity = min(self._wanted(sell, price), self._wanted(buy, price))
        if quantity <= 0:
            return
        for working in (sell, buy):
            yield from self._trade(working, quantity, price, at, self._number(0.0), NETTED)

    def _wanted(self, working: Working, price: float) -> Number:
        """What is left of an order, as far as its position and short selling allow it."""
        request = working.request
        wanted = working.quantity
        if wanted is None:
            assert working.value is not None
            lot = self._instruments[request.instrument_id].lot_size
            wanted = self._in_lots(float(working.value) / price, lot) or self._number(0.0)
        if request.reduce_only or (request.side is Side.SELL and not self._funds.allow_short):
            return min(wanted, self._left_to_close(request))
        return wanted

    # One fill -------------------------------------------------------------------------

    def _fill(
        self, working: Working, raw: float, at: datetime, budget: Budget, liquidity: str
    ) -> Iterator[Told]:
        """Trade as much as funds and volume allow; what funds do not allow is cancelled."""
        request = working.request
        instrument = self._instruments[request.instrument_id]
        if request.reduce_only and not self._left_to_close(request):
            yield from self._end(working, Cancelled(at, "nothing is left to close"))
            return
        costs = self._costs.of(instrument, liquidity)
        price = raw
        if not working.level.has_limit:
            price = costs.worsened(raw, request.side, 0.0, instrument.tick_size)
        payable, cut = self._payable(working, price, instrument, at)
        if payable is not None and costs.slippage_impact and not working.level.has_limit:
            share = budget.share(float(self._within(budget, payable, instrument)))
            price = costs.worsened(raw, request.side, share, instrument.tick_size)
            payable, cut = self._payable(working, price, instrument, at)
        if payable is None:
            yield from self._end(working, Rejected(at, cut))
            return
        quantity = self._within(budget, payable, instrument)
        waits = quantity < payable
        if request.time_in_force is TimeInForce.FOK and (waits or cut):
            why = cut or f"fill or kill: only {quantity} could trade at once"
            yield from self._end(working, Cancelled(at, why))
            return
        if quantity > 0:
            if budget.left is not None:
                budget.left -= float(quantity)
            fee = self._fee(working, quantity, price, at, liquidity)
            yield from self._trade(
                working, quantity, price, at, fee, liquidity, raw=raw, waits=waits, cut=cut
            )
        if waits and request.time_in_force is TimeInForce.IOC and self._is_working(working):
            yield from self._end(working, Cancelled(at, "no more could trade at once"))

    def _trade(
        self,
        working: Working,
        quantity: Number,
        price: float,
        at: datetime,
        fee: Number,
        liquidity: str,
        *,
        raw: float | None = None,
        waits: bool | None = None,
        cut: str = "",
    ) -> Iterator[Told]:
        """One fill and what follows from it. `waits`: more of the order is to trade later; None if that
        is to be seen from what is left."""
        request = working.request
        instrument = self._instruments[request.instrument_id]
        amount = self._number(price)
        working.fees += fee
        self._take(working, quantity, quantity * amount + fee, instrument)
        if waits is None:
            waits = (working.quantity if working.quantity is not None else working.value) > 0  # type: ignore[operator]
        done = not waits or bool(cut)
        if done:
            self._remove(working)
        fill = Fill(
            client_order_id=request.client_order_id,
            venue_fill_id=f"{working.name}:{working.fills}",
            account_id=request.account_id,
            strategy_id=request.strategy_id,
            instrument_id=request.instrument_id,
            side=request.side,
            quantity=quantity,
            price=amount,
            fee=fee,
            fee_asset=instrument.quote_asset,
            at=at,
            liquidity=liquidity,
            last=done and not cut,
            raw=price if raw is None else raw,
        )
        working.fills += 1
        before = self._funds.held_by(request.strategy_id, request.instrument_id)
        yield request.client_order_id, fill
        if cut:
            yield request.client_order_id, Cancelled(at, cut)
        yield from self._follow_up(working, fill, before, is_complete=done and not cut)
        if cut:
            yield from self._drop_children(request.client_order_id, at)

    def _take(
        self, working: Working, quantity: Number, spent: Number, instrument: Instrument
    ) -> None:
        """Count what traded off what is left. A value that buys no lot any more is spent."""
        working.filled += quantity
        if working.quantity is not None:
            working.quantity -= quantity
            return
        assert working.value is not None
        left = working.value - spent
        lot = instrument.lot_size
        if lot is not None:
            worth = self._number(float(lot)) * spent / quantity
        else:
            worth = self._number(1e-9 * abs(float(spent)))
        working.value = left if left >= worth else 0 * left

    def _follow_up(
        self, working: Working, fill: Fill, before: Number, *, is_complete: bool
    ) -> Iterator[Told]:
        """What a fill ends and what it wakes."""
        request, at = working.request, fill.at
        if request.leg.is_protective and is_complete:
            yield from self._cancel_siblings(request, at)
        if request.oco is not None and (is_complete or not request.reduce_only):
            yield from self._cancel_group(request, at)
        held = self._funds.held_by(request.strategy_id, request.instrument_id)
        if not held or before * held < 0:
            yield from self._end_protection(request, at, "nothing is left to protect")
        yield from self._wake(request, fill, is_complete=is_complete)

    def _rate(self, costs: Costs, at: datetime) -> float:
        """The fee rate now: where there are tiers, by what was traded in 30 days."""
        if not costs.fee_tiers:
            return costs.fee_rate
        return costs.rate_of(self.traded.until(at.toordinal()))

    def _fee(
        self, working: Working, quantity: Number, price: float, at: datetime, liquidity: str
    ) -> Number:
        """What this fill is charged: its own fee, and what its order still lacks of the minimum."""
        instrument = self._instruments[working.request.instrument_id]
        costs = self._costs.of(instrument, liquidity)
        fee = quantity * self._number(price) * self._number(self._rate(costs, at))
        if costs.fee_per_unit:
            fee += quantity * self._number(costs.fee_per_unit)
        self.traded.add(at.toordinal(), float(quantity) * price)
        if not costs.fee_minimum:
            return fee
        working.owed += fee
        least = self._number(costs.fee_minimum)
        return max(max(working.owed, least) - working.fees, 0 * fee)

    def _payable(
        self, working: Working, price: float, instrument: Instrument, at: datetime
    ) -> tuple[Number | None, str]:
        """(quantity that can be traded, why the rest of it cannot); None when nothing can."""
        request = working.request
        if request.reduce_only:
            assert working.quantity is not None
            left = self._left_to_close(request)
            return (left, "no more is held") if left < working.quantity else (working.quantity, "")
        closes = self._left_to_close(request)
        if request.side is Side.SELL and not self._funds.allow_short:
            return self._sellable(working, closes)
        costs = self._costs.of(instrument)
        rate, paid = self._rate(costs, at), float(working.fees)
        power = max(0.0, float(self._funds.power(request.instrument_id)))
        if working.value is not None:
            frees = costs.cost(float(closes), price, rate, paid) if closes else 0.0
            spend = min(float(working.value), frees + power)
            affordable = costs.affordable(spend, price, rate, paid)
            quantity = self._in_lots(affordable, instrument.lot_size)
            return quantity, "" if quantity is not None else "insufficient funds"
        assert working.quantity is not None
        added = float(working.quantity) - float(closes)
        if added <= 0 or costs.cost(added, price, rate, paid) <= power * (1 + 1e-12):
            return working.quantity, ""
        affordable = costs.affordable(power, price, rate, paid)
        most = self._in_lots(float(closes) + affordable, instrument.lot_size)
        return most, "insufficient funds for the rest" if most is not None else "insufficient funds"

    @staticmethod
    def _sellable(working: Working, held: Number) -> tuple[Number | None, str]:
        """Without short selling nobody sells more than he holds."""
        assert working.quantity is not None
        if held >= working.quantity:
            return working.quantity, ""
        why = "no more is held, and this account does not sell short"
        return (held, why) if held > 0 else (None, why)

    def _left_to_close(self, request: OrderRequest) -> Number:
        """What is held on the other side of an order, and so would only be closed by it."""
        held = self._funds.held_by(request.strategy_id, request.instrument_id)
        return max(-request.side.sign * held, 0 * held)

    def _within(self, budget: Budget, quantity: Number, instrument: Instrument) -> Number:
        """As much of a quantity as still may trade now, in whole lots."""
        if budget.left is None or float(quantity) <= budget.left:
            return quantity
        return self._in_lots(max(0.0, budget.left), instrument.lot_size) or 0 * quantity

    def _in_lots(self, quantity: float, lot: Number | None) -> Number | None:
        if lot is None:
            return self._number(quantity) if quantity > 0 else None
        whole = lots(quantity, float(lot))
        return self._number(float(whole * lot)) if whole > 0 else None

    # What a fill wakes and ends -------------------------------------------------------

    def _wake(self, parent: OrderRequest, fill: Fill, *, is_complete: bool) -> Iterator[Told]:
        """Orders that waited for this one: protection at its first fill, others once all of it traded."""
        waiting = self._held.pop(parent.client_order_id, [])
        legs = [request for request in waiting if request.leg.is_protective]
        others = [request for request in waiting if not request.leg.is_protective]
        if legs:
            yield from self._protect(parent, legs, fill)
        else:
            yield from self._resize_protection(parent, fill.at)
        if is_complete:
            for request in others:
                yield self._begin(request, fill.at)
        elif others:
            self._held[parent.client_order_id] = others

    def _protect(
        self, parent: OrderRequest, legs: list[OrderRequest], fill: Fill
    ) -> Iterator[Told]:
        """The entry filled: its legs protect all that is held now, in place of any older ones."""
        yield from self._end_protection(parent, fill.at, "a newer entry's protection replaces it")
        quantity = abs(self._funds.held_by(parent.strategy_id, parent.instrument_id))
        for leg in legs:
            price = leg_price(leg, float(fill.price))
            level = level_of(leg, price, price)
            level.resting = level.is_limit
            working = Working(leg, level, quantity, None, fill.at, self._next())
            self._add(working)
            is_limit = leg.type is OrderType.LIMIT
            yield (
                leg.client_order_id,
                Acknowledged(
                    fill.at,
                    venue_order_id=f"paper-{working.name}",
                    quantity=quantity,
                    stop_price=None if is_limit else price,
                    limit_price=price if is_limit else None,
                ),
            )

    def _resize_protection(self, parent: OrderRequest, at: datetime) -> Iterator[Told]:
        """More of an entry filled: the legs that its first fill woke protect that too."""
        if parent.instrument_id not in self._working:
            return
        held = abs(self._funds.held_by(parent.strategy_id, parent.instrument_id))
        for working in list(self._working[parent.instrument_id].values()):
            request = working.request
            if request.parent_id != parent.client_order_id or not request.leg.is_protective:
                continue
            if working.quantity != held:
                working.quantity = held
                yield request.client_order_id, _amended(working, at)

    def _end_protection(self, of: OrderRequest, at: datetime, why: str) -> Iterator[Told]:
        """Cancel the working protective orders of one strategy in one instrument."""
        for working in list(self._working.get(of.instrument_id, {}).values()):
            other = working.request
            if other.leg.is_protective and other.strategy_id == of.strategy_id:
                yield from self._end(working, Cancelled(at, why))

    def _cancel_siblings(self, request: OrderRequest, at: datetime) -> Iterator[Told]:
        """One leg of a decision done is the end of the other."""
        for working in list(self._working.get(request.instrument_id, {}).values()):
            other = working.request
            if other.leg.is_protective and other.decision_id == request.decision_id:
                yield from self._end(working, Cancelled(at, f"its {request.leg} filled"))

    def _cancel_group(self, request: OrderRequest, at: datetime) -> Iterator[Told]:
        """One order of a one-cancels-other group traded: the others go."""
        for working in list(self._working.get(request.instrument_id, {}).values()):
            other = working.request
            if other.oco == request.oco and other.client_order_id != request.client_order_id:
                yield from self._end(working, Cancelled(at, "the other of its pair traded"))

    def _drop_children(self, parent: UUID, at: datetime) -> Iterator[Told]:
        for request in self._held.pop(parent, ()):
            yield request.client_order_id, Cancelled(at, "its entry did not fill")

    # Who works here -------------------------------------------------------------------

    def _end(self, working: Working, event: Cancelled | Expired | Rejected) -> Iterator[Told]:
        """The order ends, and with it whatever waited for it."""
        self._remove(working)
        yield working.request.client_order_id, event
        yield from self._drop_children(working.request.client_order_id, event.at)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _add(self, working: Working) -> None:
        orders = self._working.setdefault(working.request.instrument_id, {})
        orders[working.request.client_order_id] = working

    def _remove(self, working: Working) -> None:
        orders = self._working[working.request.instrument_id]
        del orders[working.request.client_order_id]
        if not orders:
            del self._working[working.request.instrument_id]

    def _is_working(self, working: Working) -> bool:
        orders = self._working.get(working.request.instrument_id, {})
        return working.request.client_order_id in orders

    def _find(self, client_order_id: UUID) -> Working | None:
        for orders in self._working.values():
            if client_order_id in orders:
                return orders[client_order_id]
        return None


def _amended(working: Working, at: datetime) -> Amended:
    """The order's terms as they are now."""
    working.revision += 1
    quantity = working.quantity + working.filled if working.quantity is not None else None
    level = working.level
    return Amended(at, working.revision, quantity, level.limit, level.stop_level())


def _liquidity(working: Working) -> str:
    """Who waited for whom: a limit that prices have seen before makes, everything else takes."""
    return "maker" if working.level.is_limit and working.level.resting else "taker"


def _touches(working: Working, bar: Bar) -> bool:
    """Whether the bar's range holds the price at which this order acts."""
    level = working.level
    price = level.limit if level.type is OrderType.LIMIT else level.stop_level()
    return price is not None and bar.low <= price <= bar.high
