"""From a sized decision to order intents: the order itself, and the protective legs that wait for its fill.

Protection stays where it is until something replaces it: a leg ends when it fills, when its sibling
does, when nothing is left to protect, or when the legs of a newer entry take its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

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


class Origin(Struct, frozen=True):
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
    """The orders a decision sends, and the legs its entry brings along. NotYetKnown without a stop's distance.

    On the way to the other side there are two: one that closes what is held, one that opens.
    """
    wanted = sized.value or sized.change
    side = Side.BUY if wanted > 0 else Side.SELL
    total = abs(sized.change)
    closes = 0.0
    if not held.is_flat and side.sign * float(held.quantity) < 0:
        closes = min(total, abs(float(held.quantity)))
    opens: dict[str, Any] = (
        {"value": number(abs(sized.value))}
        if sized.value
        else {"quantity": _in_lots(total - closes, instrument, number)}
    )
    first = Leg.EXIT if closes else Leg.ENTRY
    terms = {"quantity": _quantity(closes, held, instrument, number)} if closes else opens
    order = OrderRequest(
        client_order_id=_order_id(origin, instrument, first),
        decision_id=origin.decision_id,
        account_id=origin.account_id,
        strategy_id=origin.strategy_id,
        instrument_id=instrument.id,
        leg=first,
        side=side,
        type=OrderType.MARKET,
        decided_at=origin.at,
        reduce_only=closes > 0,
        tag=said(signal.tag),
        **terms,
    )
    if not closes:
        return _entering(origin, order, signal, instrument)
    if not (total > closes or sized.value):
        return (order,)
    own_id = _order_id(origin, instrument, Leg.ENTRY)
    changes = {"quantity": None, **opens, "leg": Leg.ENTRY, "reduce_only": False}
    entry = replace(order, client_order_id=own_id, **changes)
    return order, *_entering(origin, entry, signal, instrument)


def _entering(
    origin: Origin, order: OrderRequest, signal: Signal, instrument: Instrument
) -> tuple[OrderRequest, ...]:
    """The order that opens, of the type the signal wants, and its legs."""
    if isinstance(signal.entry, Limit):
        price = _price(signal.entry.price)
        order = replace(order, type=OrderType.LIMIT, limit_price=price)
    elif isinstance(signal.entry, Stop):
        order = replace(order, type=OrderType.STOP, stop_price=_price(signal.entry.price))
    if not signal.exits:
        return (order,)
    return order, *_protection(origin, order, signal.exits, instrument)


def time_exit_of(exits: Sequence[Exit]) -> int:
    """Bars after which the position leaves; 0 for never."""
    return next((exit_.bars for exit_ in exits if isinstance(exit_, TimeExit)), 0)


def said(words: object) -> str:
    """A strategy's own words, as a row can hold them."""
    if words is None:
        return ""
    text = str(words)
    if text.isascii() and "\0" not in text:
        return text[:2000]
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
    name = leg if origin.kind == "signal" else f"{origin.kind}.{leg}"
    return client_order_id(origin.account_id, origin.strategy_id, instrument.id, origin.at, name)


def _quantity(change: float, held: Position, instrument: Instrument, number: ToNumber) -> Number:
    """The change in the books' own number; all of a position exactly, lots exactly."""
    if not held.is_flat and change == abs(float(held.quantity)):
        return abs(held.quantity)
    return _in_lots(change, instrument, number)


def _in_lots(change: float, instrument: Instrument, number: ToNumber) -> Number:
    lot = instrument.lot_size
    if lot is None:
        return number(change)
    return number(float(round(change / float(lot)) * lot))


def _price(price: Any) -> float:
    level = float(price)
    if not 0 < level < math.inf:
        raise ValueError(f"entry price {level}: give a price above 0")
    return level
