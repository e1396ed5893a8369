"""The paper broker: our own venue, matching on bars or on quotes, deterministic and without a clock.

It holds no money: what a fill may spend is asked of the books at the moment of the fill. Fill ids
derive from the order, so a fill that is matched again after a crash is the same fill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from engine.matching import Costs, Level, at_open, inside, on_quote, worsened
from engine.portfolio import ToNumber
from engine.sizing import lots
from shared.domain.instruments import Instrument
from shared.domain.market import Bar, Quote
from shared.domain.orders import (
    Acknowledged,
    Cancelled,
    CancelRefused,
    Fill,
    Held,
    Leg,
    Number,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    OrderType,
    Rejected,
    Side,
)

Told = tuple[UUID, OrderEvent]


@dataclass(slots=True)
class _Working:
    request: OrderRequest
    level: Level
    quantity: Number | None
    active_from: datetime
    sequence: int
    fills: int = 0
    children: list[OrderRequest] = field(default_factory=list)


class PaperBroker:
    """`cash()` is what the account has free to spend now, in quote units; `held(strategy, instrument)`
    the signed quantity a strategy holds now. Both must know a fill before the next event is asked for.
    """

    def __init__(
        self,
        instruments: Mapping[int, Instrument],
        costs: Costs,
        number: ToNumber,
        cash: Callable[[], Number],
        held: Callable[[int, int], Number],
    ) -> None:
        self._instruments = instruments
        self._costs = costs
        self._number = number
        self._cash = cash
        self._held_by = held
        self._working: dict[int, dict[UUID, _Working]] = {}
        self._held: dict[UUID, list[OrderRequest]] = {}
        self._sequence = 0
        self._fee_rate = number(costs.fee_rate)

    @property
    def is_idle(self) -> bool:
        """Nothing works here, so no price can matter."""
        return not self._working

    # Requests -------------------------------------------------------------------------

    def submit(self, request: OrderRequest, at: datetime) -> Iterator[Told]:
        """Take an order in. A leg with a parent that has not filled is held until it does."""
        if request.parent_id is not None:
            self._held.setdefault(request.parent_id, []).append(request)
            yield request.client_order_id, Held(at)
            return
        level = _level(request, request.limit_price, request.stop_price)
        self._add(_Working(request, level, request.quantity, at, self._next()))
        yield (
            request.client_order_id,
            Acknowledged(at, venue_order_id=f"paper-{request.client_order_id}"),
        )

    def cancel(self, client_order_id: UUID, at: datetime, reason: str = "asked") -> Iterator[Told]:
        """Take an order out, and the legs that waited for it."""
        for parent, legs in list(self._held.items()):
            for leg in legs:
                if leg.client_order_id == client_order_id:
                    legs.remove(leg)
                    if not legs:
                        del self._held[parent]
                    yield client_order_id, Cancelled(at, reason)
                    return
        working = self._find(client_order_id)
        if working is None:
            yield client_order_id, CancelRefused(at, "no such working order")
            return
        self._remove(working)
        yield client_order_id, Cancelled(at, reason)
        yield from self._drop_children(client_order_id, at)

    def restore(self, order: Order, at: datetime, *, resting: bool) -> None:
        """Take back an order the database knows as open, to be matched from `at` on.

        `resting`: prices have passed it since, so it is no taker any more.
        """
        request = order.request
        if order.state is OrderState.HELD:
            self._held.setdefault(request.parent_id or request.client_order_id, []).append(request)
            return
        level = _level(
            request,
            order.limit_price if order.limit_price is not None else request.limit_price,
            order.stop_price if order.stop_price is not None else request.stop_price,
        )
        level.resting = resting
        quantity = order.asked_quantity
        left = quantity - order.filled if quantity is not None else None
        self._add(_Working(request, level, left, at, self._next(), fills=len(order.fill_ids)))

    # Prices ---------------------------------------------------------------------------

    def on_bars(self, bars: Iterable[Bar]) -> Iterator[Told]:
        """Match against bars that closed together: opens first, sells before buys, then what lay inside."""
        traded = [bar for bar in bars if not bar.filled and bar.instrument_id in self._working]
        before = {
            bar.instrument_id: list(self._working[bar.instrument_id].values()) for bar in traded
        }
        opens = [
            (_at_the_open(working), working, bar)
            for bar in traded
            for working in before[bar.instrument_id]
            if working.active_from <= bar.opened_at
        ]
        for _, working, bar in sorted(opens, key=lambda entry: entry[0]):
            if (
                self._is_working(working)
                and (price := at_open(working.level, bar.open)) is not None
            ):
                yield from self._fill(working, price, bar.opened_at)
        for bar in traded:
            yield from self._inside(bar)

    def _inside(self, bar: Bar) -> Iterator[Told]:
        """Entries first, since their exits may follow in the same bar; then stops before targets."""
        entries = [w for w in self._of(bar) if not w.request.leg.is_protective]
        for working in sorted(entries, key=_pessimistic):
            if self._is_working(working) and (price := inside(working.level, bar)) is not None:
                yield from self._fill(working, price, bar.closed_at)
        exits = [w for w in self._of(bar) if w.request.leg.is_protective]
        for working in sorted(exits, key=_pessimistic):
            if not self._is_working(working):
                continue
            entered_inside = working.active_from == bar.closed_at
            if entered_inside and working.level.type is OrderType.LIMIT:
                continue  # the target may have been touched before the entry: not counted
            price = inside(working.level, bar, entered_inside=entered_inside)
            if price is not None:
                yield from self._fill(working, price, bar.closed_at)

    def _of(self, bar: Bar) -> list[_Working]:
        """Orders that were there when the bar opened, or whose entry filled inside it (at its close)."""
        return [
            working
            for working in self._working.get(bar.instrument_id, {}).values()
            if working.active_from <= bar.opened_at or working.active_from == bar.closed_at
        ]

    def on_quote(self, quote: Quote) -> Iterator[Told]:
        """Match against best bid and ask. A quote from before an order was active does not see it."""
        orders = self._working.get(quote.instrument_id)
        if not orders:
            return
        for working in sorted(
            orders.values(), key=lambda w: (w.request.side is Side.BUY, w.sequence)
        ):
            if working.active_from > quote.quoted_at or not self._is_working(working):
                continue
            if (price := on_quote(working.level, quote)) is not None:
                yield from self._fill(working, price, quote.quoted_at)

    def trails(self) -> Iterator[tuple[UUID, float]]:
        """(order, stop level) of every trailing stop, to be kept with the moment."""
        for orders in self._working.values():
            for working in orders.values():
                level = working.level.stop_level()
                if working.level.type is OrderType.TRAILING_STOP and level is not None:
                    yield working.request.client_order_id, level

    # Inside ---------------------------------------------------------------------------

    def _fill(self, working: _Working, raw: float, at: datetime) -> Iterator[Told]:
        request = working.request
        instrument = self._instruments[request.instrument_id]
        price = raw
        if request.type is not OrderType.LIMIT:
            price = worsened(raw, request.side, self._costs.slippage, instrument.tick_size)
        self._remove(working)
        if request.reduce_only and not self._left_to_close(request):
            yield request.client_order_id, Cancelled(at, "nothing is left to close")
            return
        quantity, cut = self._payable(working, price, instrument)
        if quantity is None:
            yield request.client_order_id, Rejected(at, "insufficient funds")
            yield from self._drop_children(request.client_order_id, at)
            return
        amount = self._number(price)
        fill = Fill(
            client_order_id=request.client_order_id,
            venue_fill_id=f"{request.client_order_id}:{working.fills}",
            account_id=request.account_id,
            strategy_id=request.strategy_id,
            instrument_id=request.instrument_id,
            side=request.side,
            quantity=quantity,
            price=amount,
            fee=quantity * amount * self._fee_rate,
            fee_asset=instrument.quote_asset,
            at=at,
            liquidity="maker"
            if request.type is OrderType.LIMIT and working.level.resting
            else "taker",
            last=not cut,
        )
        yield request.client_order_id, fill
        if cut:
            yield request.client_order_id, Cancelled(at, cut)
        if request.leg.is_protective:
            yield from self._cancel_siblings(request, at)
        if not self._held_by(request.strategy_id, request.instrument_id):
            yield from self._end_protection(request, at, "nothing is left to protect")
        yield from self._activate_children(request, fill)

    def _payable(
        self, working: _Working, price: float, instrument: Instrument
    ) -> tuple[Number | None, str]:
        """(quantity that can be traded, why the rest of it cannot); None when nothing can be bought."""
        lot = instrument.lot_size
        per_unit = price * (1 + self._costs.fee_rate)
        cash = float(self._cash())
        if working.request.value is not None:
            spend = min(float(working.request.value), cash)
            return self._in_lots(spend / per_unit, lot), ""
        assert working.quantity is not None
        if working.request.reduce_only:
            left = self._left_to_close(working.request)
            return (left, "no more is held") if left < working.quantity else (working.quantity, "")
        wanted = float(working.quantity)
        if working.request.side is Side.SELL or wanted * per_unit <= cash * (1 + 1e-12):
            return working.quantity, ""
        short = "insufficient funds for the rest"
        return self._in_lots(max(0.0, cash) / per_unit, lot), short

    def _left_to_close(self, request: OrderRequest) -> Number:
        """What a reducing order may trade: what is held on the other side of it, and no more."""
        held = self._held_by(request.strategy_id, request.instrument_id)
        return max(-request.side.sign * held, 0 * held)

    def _in_lots(self, quantity: float, lot: Number | None) -> Number | None:
        if lot is None:
            return self._number(quantity) if quantity > 0 else None
        whole = lots(quantity, float(lot))
        return self._number(float(whole * lot)) if whole > 0 else None

    def _activate_children(self, parent: OrderRequest, fill: Fill) -> Iterator[Told]:
        """The entry filled: its legs protect all that is held now, in place of any older ones."""
        legs = self._held.pop(parent.client_order_id, ())
        if legs:
            yield from self._end_protection(
                parent, fill.at, "a newer entry's protection replaces it"
            )
        quantity = abs(self._held_by(parent.strategy_id, parent.instrument_id))
        for leg in legs:
            price = float(fill.price)
            away = leg.distance if leg.distance is not None else (leg.fraction or 0.0) * price
            # The stop of a sell lies under the entry, its target above; of a buy the other way.
            sign = -1 if (leg.side is Side.SELL) == (leg.leg is not Leg.TAKE_PROFIT) else 1
            level_price = price + sign * away
            level = _level(leg, level_price, level_price)
            self._add(_Working(leg, level, quantity, fill.at, self._next()))
            is_limit = leg.type is OrderType.LIMIT
            yield (
                leg.client_order_id,
                Acknowledged(
                    fill.at,
                    venue_order_id=f"paper-{leg.client_order_id}",
                    quantity=quantity,
                    stop_price=None if is_limit else level_price,
                    limit_price=level_price if is_limit else None,
                ),
            )

    def _end_protection(self, of: OrderRequest, at: datetime, why: str) -> Iterator[Told]:
        """Cancel the working protective orders of one strategy in one instrument."""
        for working in list(self._working.get(of.instrument_id, {}).values()):
            other = working.request
            if other.leg.is_protective and other.strategy_id == of.strategy_id:
                self._remove(working)
                yield other.client_order_id, Cancelled(at, why)

    def _cancel_siblings(self, request: OrderRequest, at: datetime) -> Iterator[Told]:
        """One leg of a pair done is the end of the other."""
        for working in list(self._working.get(request.instrument_id, {}).values()):
            other = working.request
            if other.leg.is_protective and other.decision_id == request.decision_id:
                self._remove(working)
                yield other.client_order_id, Cancelled(at, f"its {request.leg} filled")

    def _drop_children(self, parent: UUID, at: datetime) -> Iterator[Told]:
        for leg in self._held.pop(parent, ()):
            yield leg.client_order_id, Cancelled(at, "its entry did not fill")

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _add(self, working: _Working) -> None:
        orders = self._working.setdefault(working.request.instrument_id, {})
        orders[working.request.client_order_id] = working

    def _remove(self, working: _Working) -> None:
        orders = self._working[working.request.instrument_id]
        del orders[working.request.client_order_id]
        if not orders:
            del self._working[working.request.instrument_id]

    def _is_working(self, working: _Working) -> bool:
        orders = self._working.get(working.request.instrument_id, {})
        return working.request.client_order_id in orders

    def _find(self, client_order_id: UUID) -> _Working | None:
        for orders in self._working.values():
            if client_order_id in orders:
                return orders[client_order_id]
        return None


def _level(request: OrderRequest, limit_price: float | None, stop_price: float | None) -> Level:
    if request.type is OrderType.LIMIT:
        return Level(request.type, request.side, limit_price)
    level = Level(request.type, request.side, stop_price)
    if request.type is OrderType.TRAILING_STOP and stop_price is not None:
        level.trail, level.trail_fraction = request.distance, request.fraction
        level.best = level.best_behind(stop_price)
    return level


def _at_the_open(working: _Working) -> tuple[bool, bool, int]:
    """Sells before buys, so that their cash can be spent; markets before levels; then as they came."""
    request = working.request
    return (request.side is Side.BUY, request.type is not OrderType.MARKET, working.sequence)


def _pessimistic(working: _Working) -> tuple[bool, int]:
    """Stops before limits, then in the order they came."""
    return (working.level.type is OrderType.LIMIT, working.sequence)
