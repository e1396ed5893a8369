"""Orders by hand, and by need: from what a person asks to a decision with its orders, checks and steps.

The same rules look at it as at a strategy's signal, and what they say is kept the same way. Only the
size is the person's own: it is rounded to lots, and never cut to what there is money for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol
from uuid import UUID

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from engine.costs import Costs
from engine.exposure import Exposure
from engine.indicators import Column
from engine.portfolio import Portfolio
from engine.sizing import lots, too_small
from engine.tickets import Asked, BadTicket
from shared.domain.decisions import Check, Decision, Outcome, Step
from shared.domain.identity import BY_HAND, decision_id, derived_id
from shared.domain.orders import Leg, Number, OrderRequest, OrderType, Side, TimeInForce
from shared.domain.positions import Position
from shared.domain.sessions import trading_spans

NOTHING: Final = np.empty(0)


class ByHand(Struct, frozen=True):
    """What is asked, and what the rules need to know of the instrument's past.

    `key` makes the ids of the decision and its orders: the command's, so that pressing twice orders
    once. `asked` and `other` cancel each other; `then` goes out once all of `asked` has traded.
    `touch` is the best bid and ask, where they are known.
    """

    key: UUID
    strategy_id: int
    instrument_id: int
    asked: Asked
    because: str
    kind: str = "manual"
    other: Asked | None = None
    then: Asked | None = None
    closes: Column = field(default_factory=lambda: NOTHING)
    values: Column = field(default_factory=lambda: NOTHING)
    interval: int = 60
    touch: tuple[float, float] | None = None


class Books(Protocol):
    """What a decision reads of the core."""

    account_id: int
    portfolio: Portfolio
    costs: Costs

    @property
    def exposure(self) -> Exposure: ...

    def weigh(
        self,
        strategy_id: int,
        instrument_id: int,
        change: float,
        price: float,
        closes: Column,
        values: Column,
        interval: int,
    ) -> tuple[Check, ...]: ...


def closing(
    account_id: int,
    strategy_id: int,
    instrument_id: int,
    position: Position,
    at: datetime,
    because: str,
    kind: str,
) -> ByHand:
    """All of a position, at the market."""
    side = Side.SELL if position.quantity > 0 else Side.BUY
    asked = Asked(side, OrderType.MARKET, abs(position.quantity), reduce_only=True)
    key = decision_id(account_id, strategy_id, instrument_id, at, kind)
    return ByHand(key, strategy_id, instrument_id, asked, because, kind)


class Protection(Struct, frozen=True):
    """Stop and target for what an owner holds, in place of those it has: prices, and a trail as a fraction."""

    key: UUID
    strategy_id: int
    instrument_id: int
    because: str
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    stop_trail: Decimal | None = None


def protecting(asked: Protection, at: datetime, books: Books) -> Decision:
    """Reduce-only orders that stand at once, the legs of one pair. BadTicket when they cannot be."""
    held = books.portfolio.held_by(asked.strategy_id, asked.instrument_id)
    if not held:
        raise BadTicket("instrument_id", "nothing is held there that could be protected")
    if (asked.stop_loss, asked.take_profit, asked.stop_trail) == (None, None, None):
        raise BadTicket("stop_loss", "give a stop, a target, or a trailing stop")
    if asked.stop_loss is not None and asked.stop_trail is not None:
        raise BadTicket("stop_trail", "give a fixed stop or a trailing one, not both")
    side = Side.BUY if held > 0 else Side.SELL
    entry = Asked(
        side,
        OrderType.MARKET,
        abs(held),
        stop_loss=asked.stop_loss,
        take_profit=asked.take_profit,
        stop_trail=asked.stop_trail,
    )
    question = ByHand(
        asked.key, asked.strategy_id, asked.instrument_id, entry, asked.because, "protect"
    )
    return _Desk(question, at, books).protect()


def decided(asked: ByHand, at: datetime, books: Books) -> Decision:
    """The decision, with orders when it is to be one. BadTicket when it cannot be as it is written."""
    return _Desk(asked, at, books).decide()


class _Desk:
    """One question, answered: everything it reads in one place."""

    def __init__(self, asked: ByHand, at: datetime, books: Books) -> None:
        self.question = asked
        self.at = at
        self.books = books
        self.portfolio = books.portfolio
        self.instrument = self.portfolio.instruments[asked.instrument_id]
        self.held = self.portfolio.held_by(asked.strategy_id, asked.instrument_id)
        self.mark = self.portfolio.marks.get(asked.instrument_id, 0.0)
        self.steps: list[Step] = []

    def decide(self) -> Decision:
        question = self.question
        if not self.mark:
            return self._decision(0.0, (), (), "no price of it is known yet")
        price = self._price(question.asked)
        main = self._orders(question.asked, question.key, price)
        requests = [*main]
        if question.other is not None:
            with _part("other"):
                requests = self._paired(main, question.other)
        if question.then is not None:
            with _part("then"):
                requests.append(self._then(main[0], question.then))
        checks = self._checks(main[0], price)
        denied = [check for check in checks if not check.allowed]
        why = "; ".join(f"{check.rule}: {check.text}" for check in denied)
        return self._decision(price, checks, () if denied else tuple(requests), why)

    def protect(self) -> Decision:
        """The protection of an order that has traded long ago."""
        asked = self.question.asked
        if not self.mark:
            return self._decision(0.0, (), (), "no price of it is known yet")
        self._fits(asked, self.mark)
        entry = self._request(asked, self.question.key, abs(self.held))
        legs = tuple(
            replace(leg, parent_id=None, quantity=abs(self.held), stop_price=self._standing(leg))
            for leg in self._protection(asked, entry)
        )
        return self._decision(self.mark, (), legs, "")

    def _standing(self, leg: OrderRequest) -> float | None:
        """Where a stop stands from the beginning."""
        if leg.type is not OrderType.TRAILING_STOP:
            return leg.stop_price
        return self.mark * (1 + leg.side.sign * (leg.fraction or 0.0))

    # Orders -----------------------------------------------------------------------------

    def _orders(self, asked: Asked, key: UUID, price: float) -> list[OrderRequest]:
        """The order itself, and the protection its fill brings along."""
        self._fits(asked, price)
        quantity = self._quantity(asked, price)
        order = self._request(asked, key, quantity)
        return [order, *self._protection(asked, order)]

    def _request(self, asked: Asked, key: UUID, quantity: Number) -> OrderRequest:
        reduces = asked.side.sign * self.held < 0 and quantity <= abs(self.held)
        return OrderRequest(
            client_order_id=key,
            decision_id=self.decision_id,
            account_id=self.books.account_id,
            strategy_id=self.question.strategy_id,
            instrument_id=self.instrument.id,
            leg=Leg.EXIT if reduces else Leg.ENTRY,
            side=asked.side,
            type=asked.type,
            decided_at=self.at,
            quantity=quantity,
            limit_price=_float(asked.limit_price),
            stop_price=self._first_stop(asked),
            distance=_float(asked.trail),
            fraction=_float(asked.trail_fraction),
            reduce_only=reduces,
            tag=self.question.kind,
            time_in_force=asked.time_in_force,
            expires_at=self._expiry(asked),
            post_only=asked.post_only,
        )

    def _first_stop(self, asked: Asked) -> float | None:
        """The stop price; of a trailing stop where it stands to begin with."""
        if asked.type is not OrderType.TRAILING_STOP:
            return _float(asked.stop_price)
        away = float(asked.trail or 0) or self.mark * float(asked.trail_fraction or 0)
        return self.mark + asked.side.sign * away

    def _protection(self, asked: Asked, order: OrderRequest) -> list[OrderRequest]:
        kinds = (
            (Leg.STOP_LOSS, OrderType.STOP, asked.stop_loss),
            (Leg.TAKE_PROFIT, OrderType.LIMIT, asked.take_profit),
            (Leg.TRAILING_STOP, OrderType.TRAILING_STOP, asked.stop_trail),
        )
        return [
            replace(
                order,
                client_order_id=derived_id(order.client_order_id, leg),
                leg=leg,
                side=order.side.opposite,
                type=type_,
                quantity=None,
                limit_price=_float(level) if leg is Leg.TAKE_PROFIT else None,
                stop_price=_float(level) if leg is Leg.STOP_LOSS else None,
                distance=None,
                fraction=_float(level) if leg is Leg.TRAILING_STOP else None,
                parent_id=order.client_order_id,
                reduce_only=True,
                time_in_force=TimeInForce.GTC,
                expires_at=None,
                post_only=False,
            )
            for leg, type_, level in kinds
            if level is not None
        ]

    def _paired(self, main: list[OrderRequest], other: Asked) -> list[OrderRequest]:
        """Two orders of which the first to trade cancels the other."""
        if OrderType.MARKET in (main[0].type, other.type):
            raise BadTicket("type", "a market order trades at once: it cannot wait for another")
        key = derived_id(main[0].client_order_id, "other")
        second = self._orders(other, key, self._price(other))
        group = main[0].client_order_id
        return [replace(main[0], oco=group), *main[1:], replace(second[0], oco=group), *second[1:]]

    def _then(self, parent: OrderRequest, asked: Asked) -> OrderRequest:
        """An order that waits until all of `parent` has traded."""
        if asked.has_protection:
            raise BadTicket("stop_loss", "an order that waits for another brings no protection")
        price = self._price(asked)
        self._on_grid(asked)
        quantity = self._quantity(replace(asked, reduce_only=False), price)
        request = self._request(asked, derived_id(parent.client_order_id, "then"), quantity)
        closes = parent.side is not asked.side
        return replace(
            request,
            parent_id=parent.client_order_id,
            leg=Leg.EXIT if closes else Leg.ENTRY,
            reduce_only=closes,
        )

    @property
    def decision_id(self) -> UUID:
        return derived_id(self.question.key, "decision")

    # Prices and sizes -------------------------------------------------------------------

    def _price(self, asked: Asked) -> float:
        """Near which price it would trade: its own, or the market's after slippage."""
        own = asked.limit_price or asked.stop_price
        if own is not None:
            return float(own)
        bid, ask = self.question.touch or (self.mark, self.mark)
        touch = ask if asked.side is Side.BUY else bid
        return self.books.costs.worsened(touch, asked.side, 0.0, self.instrument.tick_size)

    def _quantity(self, asked: Asked, price: float) -> Number:
        """The size in base units and whole lots, each step on record."""
        wanted = self._wanted(asked, price)
        if asked.reduce_only:
            if asked.side.sign * self.held >= 0:
                verb = "sell" if asked.side is Side.SELL else "buy"
                raise BadTicket("reduce_only", f"nothing is held that a {verb} would reduce")
            if wanted > abs(self.held):
                self._step("held", self.held, f"no more than the {abs(self.held)} held")
                wanted = abs(self.held)
        rounded = wanted if wanted == abs(self.held) else self._in_lots(wanted)
        if reason := too_small(float(rounded), price, self.instrument):
            raise BadTicket("size", reason)
        return rounded

    def _wanted(self, asked: Asked, price: float) -> Number:
        size = self._number(asked.size)
        if asked.size_in == "quantity":
            return size
        if asked.size_in == "value":
            return self._step("value", size / self._number(price), f"{size} at {price:.10g}")
        if asked.reduce_only:
            held = abs(self.held)
            return self._step("percent", held * size / 100, f"{size} % of {held} held")
        equity, rate = self.portfolio.equity(), self.portfolio.rate(self.instrument.quote_asset)
        if equity is None or not rate:
            raise BadTicket("size_in", "equity is not known now: give a quantity or a value")
        worth = equity / rate * size / 100
        text = f"{size} % of equity {equity:,.2f} {self.portfolio.base_asset} at {price:.10g}"
        return self._step("percent", worth / self._number(price), text)

    def _in_lots(self, quantity: Number) -> Number:
        lot = self.instrument.lot_size
        if lot is None:
            return quantity
        whole = lots(float(quantity), float(lot))
        rounded = self._number(whole * lot)
        if whole == 0:
            raise BadTicket("size", f"{quantity:f} is less than one lot of {lot}")
        if rounded != quantity:
            self._step("lot", rounded, f"down to whole lots of {lot}")
        return rounded

    def _step(self, name: str, value: Number, text: str) -> Number:
        self.steps.append(Step(name, float(value), text))
        return value

    def _number(self, value: Number) -> Number:
        """The value in the number type of the books."""
        if isinstance(self.portfolio.cash, Decimal):
            return value if isinstance(value, Decimal) else Decimal(repr(value))
        return float(value)

    # What fits --------------------------------------------------------------------------

    def _fits(self, asked: Asked, price: float) -> None:
        """Prices on the grid and on the right side, and an end that is still to come."""
        self._on_grid(asked)
        buys = asked.side is Side.BUY
        if asked.stop_price is not None:
            above = buys != (asked.type is OrderType.TAKE_PROFIT)
            self._beside("stop_price", asked.stop_price, self.mark, "the market", above=above)
        named = "its own price" if asked.limit_price or asked.stop_price else "the market"
        if asked.stop_loss is not None:
            self._beside("stop_loss", asked.stop_loss, price, named, above=not buys)
        if asked.take_profit is not None:
            self._beside("take_profit", asked.take_profit, price, named, above=buys)

    def _on_grid(self, asked: Asked) -> None:
        expires_at = asked.expires_at
        if expires_at is not None and expires_at <= self.at:
            raise BadTicket("expires_at", f"{expires_at:%Y-%m-%d %H:%M} UTC is over already")
        tick = self.instrument.tick_size
        for name in ("limit_price", "stop_price", "trail", "stop_loss", "take_profit"):
            price = getattr(asked, name)
            if price is None or tick is None or price % tick == 0:
                continue
            below = price // tick * tick
            between = f"give {below:f} or {below + tick:f}" if below else f"give {tick:f}"
            raise BadTicket(name, f"{price:f} is off the tick of {tick}: {between}")

    @staticmethod
    def _beside(name: str, level: Decimal, price: float, of: str, *, above: bool) -> None:
        if (float(level) > price) is above and float(level) != price:
            return
        side = "above" if above else "below"
        raise BadTicket(name, f"{level:f} must be {side} {of}, {price:.10g}")

    def _expiry(self, asked: Asked) -> datetime | None:
        if asked.time_in_force is TimeInForce.DAY:
            return day_ends_at(self.instrument.calendar, self.at)
        return asked.expires_at

    # Checks -----------------------------------------------------------------------------

    def _checks(self, order: OrderRequest, price: float) -> tuple[Check, ...]:
        """What a reduction needs no leave for, everything else is asked."""
        if order.reduce_only:
            return ()
        change = order.side.sign * float(order.quantity or 0)
        question = self.question
        own = [self._may_be_short(order)] if order.side is Side.SELL else []
        own.append(self._funds(order, price))
        rules = self.books.weigh(
            question.strategy_id,
            question.instrument_id,
            change,
            price,
            question.closes,
            question.values,
            question.interval,
        )
        return (*own, *rules)

    def _may_be_short(self, order: OrderRequest) -> Check:
        held = max(float(self.held), 0.0)
        quantity = float(order.quantity or 0)
        allowed = self.portfolio.allow_short or quantity <= held
        text = f"{quantity:g} sold of {held:g} held"
        text += "" if allowed else ": this account does not sell short"
        limit = None if self.portfolio.allow_short else held
        return Check("short", allowed, quantity, limit, self.instrument.base_asset, text)

    def _funds(self, order: OrderRequest, price: float) -> Check:
        """What it makes larger must be paid for, costs included."""
        closes = max(-order.side.sign * float(self.held), 0.0)
        added = max(float(order.quantity or 0) - closes, 0.0)
        costs = self.books.costs.of(self.instrument)
        cost = costs.cost(added, price, costs.highest_rate) if added else 0.0
        free = self.books.exposure.free(BY_HAND, self.instrument.id, None)
        free += closes * price if self.portfolio.margin.enabled else 0.0
        # Without margin a sale brings money in; whether there is something to sell is asked beside.
        allowed = cost <= free * (1 + 1e-12) or (
            order.side is Side.SELL and not self.portfolio.allow_short
        )
        what = "free margin" if self.portfolio.margin.enabled else "free cash"
        asset = self.instrument.quote_asset
        text = f"costs {cost:,.2f} of {free:,.2f} {asset} {what}"
        return Check("funds", allowed, cost, free, asset, text)

    def _decision(
        self,
        price: float,
        checks: tuple[Check, ...],
        requests: tuple[OrderRequest, ...],
        why: str,
    ) -> Decision:
        question = self.question
        return Decision(
            id=self.decision_id,
            account_id=self.books.account_id,
            strategy_id=question.strategy_id,
            instrument_id=question.instrument_id,
            decided_at=self.at,
            kind=question.kind,
            target=None,
            previous=0.0,
            because=question.because,
            bar=None,
            price=price,
            checks=checks,
            steps=tuple(self.steps),
            outcome=Outcome.ORDERED if requests else Outcome.DENIED,
            reason=why,
            requests=requests,
            tag=question.kind,
        )


@contextmanager
def _part(name: str) -> Iterator[None]:
    """What is wrong with a part is said of that part."""
    try:
        yield
    except BadTicket as bad:
        raise bad.inside(name) from bad


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def day_ends_at(calendar: str, at: datetime) -> datetime:
    """When the trading day under way, or the next one, is over."""
    for number in range(12):
        for _, ends_at in trading_spans(calendar, at.date() + timedelta(days=number)):
            if ends_at > at:
                return ends_at
    raise ValueError(f"calendar {calendar!r} does not trade within twelve days of {at}")
