"""From a sized decision to order intents: the order itself, and the protective legs that wait for its fill.

Protection stays where it is until something replaces it: a leg ends when it fills, when its sibling
does, when nothing is left to protect, or when the legs of a newer entry take its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from engine.portfolio import ToNumber
from engine.sizing import Sized
from engine.strategies.evaluation import BadSignal
from shared.domain.identity import client_order_id
from shared.domain.instruments import Instrument
from shared.domain.orders import Leg, Number, OrderRequest, OrderType, Side
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

_SHAPES: Final = {
    StopLoss: (Leg.STOP_LOSS, OrderType.STOP),
    TakeProfit: (Leg.TAKE_PROFIT, OrderType.LIMIT),
    TrailingStop: (Leg.TRAILING_STOP, OrderType.TRAILING_STOP),
}


class NotYetKnown(Exception):
    """An exit's distance is NaN: without it the entry would stand unprotected."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The decision the intents belong to."""

    decision_id: UUID
    account_id: int
    strategy_id: int
    at: datetime
    kind: str


def intents_of(
    origin: Origin,
    signal: Signal,
    sized: Sized,
    held: Position,
    instrument: Instrument,
    number: ToNumber,
) -> tuple[OrderRequest, ...]:
    """The order a decision sends, and the legs its entry brings along. NotYetKnown without a stop's distance."""
    side = Side.BUY if sized.value or sized.change > 0 else Side.SELL
    reduces = not held.is_flat and side.sign * float(held.quantity) < 0
    leg = Leg.EXIT if reduces else Leg.ENTRY
    type_, limit_price, stop_price = OrderType.MARKET, None, None
    if leg is Leg.ENTRY and isinstance(signal.entry, Limit):
        type_, limit_price = OrderType.LIMIT, _price(signal.entry.price)
    elif leg is Leg.ENTRY and isinstance(signal.entry, Stop):
        type_, stop_price = OrderType.STOP, _price(signal.entry.price)
    main = OrderRequest(
        client_order_id=_order_id(origin, instrument, leg),
        decision_id=origin.decision_id,
        account_id=origin.account_id,
        strategy_id=origin.strategy_id,
        instrument_id=instrument.id,
        leg=leg,
        side=side,
        type=type_,
        decided_at=origin.at,
        quantity=None if sized.value else _quantity(abs(sized.change), held, instrument, number),
        value=number(sized.value) if sized.value else None,
        limit_price=limit_price,
        stop_price=stop_price,
        reduce_only=reduces,
        tag=said(signal.tag),
    )
    return (main,) if reduces else (main, *_protection(origin, main, signal.exits, instrument))


def time_exit_of(exits: Sequence[Exit]) -> int:
    """Bars after which the position leaves; 0 for never."""
    return next((exit_.bars for exit_ in exits if isinstance(exit_, TimeExit)), 0)


def said(words: object) -> str:
    """A strategy's own words, as a row can hold them."""
    text = "" if words is None else str(words)
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:2000]


def _protection(
    origin: Origin, main: OrderRequest, exits: Sequence[Exit], instrument: Instrument
) -> tuple[OrderRequest, ...]:
    """Legs that take level and quantity from the entry's fill."""
    legs = []
    for exit_ in exits:
        if isinstance(exit_, TimeExit):
            continue
        leg, type_ = _SHAPES[type(exit_)]
        legs.append(
            replace(
                main,
                client_order_id=_order_id(origin, instrument, leg),
                leg=leg,
                side=main.side.opposite,
                type=type_,
                quantity=None,
                value=None,
                limit_price=None,
                stop_price=None,
                fraction=_away(exit_, "fraction"),
                distance=_away(exit_, "distance"),
                parent_id=main.client_order_id,
                reduce_only=True,
            )
        )
    return tuple(legs)


def _away(exit_: StopLoss | TakeProfit | TrailingStop, name: str) -> float | None:
    """How far the exit lies from the fill: above 0, or the strategy is told that it is not."""
    raw = getattr(exit_, name)
    other = exit_.distance if name == "fraction" else exit_.fraction
    if raw is None:
        if other is None:
            raise BadSignal(f"{type(exit_).__name__} has neither fraction nor distance: give one")
        return None
    value = float(raw)
    if math.isnan(value):
        raise NotYetKnown(f"the {name} of its {type(exit_).__name__} is not known yet")
    if not 0 < value < math.inf:
        raise BadSignal(f"{type(exit_).__name__}: {name} {value:g} must be above 0")
    return value


def _order_id(origin: Origin, instrument: Instrument, leg: Leg) -> UUID:
    """One moment may hold a signal, a time exit and a flatten: each has orders of its own."""
    name = leg.value if origin.kind == "signal" else f"{origin.kind}.{leg.value}"
    return client_order_id(origin.account_id, origin.strategy_id, instrument.id, origin.at, name)


def _quantity(change: float, held: Position, instrument: Instrument, number: ToNumber) -> Number:
    """The change in the books' own number; all of a position exactly, lots exactly."""
    if not held.is_flat and change == abs(float(held.quantity)):
        return abs(held.quantity)
    lot = instrument.lot_size
    if lot is None:
        return number(change)
    return number(float(round(change / float(lot)) * lot))


def _price(price: Any) -> float:
    level = float(price)
    if not 0 < level < math.inf:
        raise ValueError(f"entry price {level}: give a price above 0")
    return level
