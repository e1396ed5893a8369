"""Orders: what we ask for, what may become of it, and the table that says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

Number = Any
"""Decimal in paper and live, float64 in research: the books take their number type by injection."""


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    TRAILING_STOP = "trailing_stop"


class Leg(StrEnum):
    """The part an order plays in its decision."""

    ENTRY = "entry"
    EXIT = "exit"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TRAILING_STOP = "trailing_stop"

    @property
    def is_protective(self) -> bool:
        return self in (Leg.STOP_LOSS, Leg.TAKE_PROFIT, Leg.TRAILING_STOP)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """An order intent: committed as a row before any venue hears of it.

    Exactly one of `quantity` (base units) and `value` (quote units, costs included, turned into a
    quantity at the fill) is set. A protective leg names its `parent`: it rests until the parent
    fills, takes its quantity from that fill and its level from `distance` or `fraction` of the
    parent's fill price; the legs of one parent cancel each other (OCO).
    """

    client_order_id: UUID
    decision_id: UUID
    account_id: int
    strategy_id: int
    instrument_id: int
    leg: Leg
    side: Side
    type: OrderType
    decided_at: datetime
    quantity: Number | None = None
    value: Number | None = None
    limit_price: float | None = None
    stop_price: float | None = None
    distance: float | None = None
    fraction: float | None = None
    parent_id: UUID | None = None
    reduce_only: bool = False
    attempt: int = 0
    tag: str = ""


class OrderState(StrEnum):
    NEW = "new"
    HELD = "held"  # a protective leg whose parent has not filled yet
    SUBMITTED = "submitted"
    WORKING = "working"
    CANCELLING = "cancelling"
    UNKNOWN = "unknown"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


DONE: Final = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED}
)


@dataclass(frozen=True, slots=True)
class Held:
    """Waits at our side for its parent's fill."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Submitted:
    """Released and handed to the adapter."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Acknowledged:
    at: datetime
    venue_order_id: str = ""
    quantity: Number | None = None
    stop_price: float | None = None
    limit_price: float | None = None


@dataclass(frozen=True, slots=True)
class CancelSent:
    at: datetime


@dataclass(frozen=True, slots=True)
class CancelRefused:
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Expired:
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WentUnknown:
    """A write whose outcome we do not know: ask, never send again."""

    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fill:
    """Part of an order traded. Unique by (venue, account, venue_fill_id)."""

    client_order_id: UUID
    venue_fill_id: str
    account_id: int
    strategy_id: int
    instrument_id: int
    side: Side
    quantity: Number
    price: Number
    fee: Number
    fee_asset: str
    at: datetime
    liquidity: str = "taker"
    last: bool = False
    """The venue says nothing is left: a value order has no quantity to compare with."""


OrderEvent = (
    Held
    | Submitted
    | Acknowledged
    | CancelSent
    | CancelRefused
    | Cancelled
    | Expired
    | Rejected
    | WentUnknown
    | Fill
)


@dataclass(frozen=True, slots=True)
class Order:
    """A request and everything that became of it."""

    request: OrderRequest
    state: OrderState = OrderState.NEW
    filled: Number = 0
    filled_value: Number = 0
    fees: Number = 0
    fill_ids: tuple[str, ...] = ()
    venue_order_id: str = ""
    quantity: Number | None = None
    stop_price: float | None = None
    limit_price: float | None = None
    reason: str = ""

    @property
    def is_done(self) -> bool:
        return self.state in DONE

    @property
    def can_cancel(self) -> bool:
        return (self.state, CancelSent) in NEXT

    @property
    def asked_quantity(self) -> Number | None:
        return self.quantity if self.quantity is not None else self.request.quantity


class ImpossibleEvent(ValueError):
    """The venue said something the state table does not know: a break on the account, not a crash."""


_S = OrderState
_ACTIVE: Final = (_S.SUBMITTED, _S.WORKING, _S.CANCELLING, _S.UNKNOWN)

NEXT: Final[dict[tuple[OrderState, type], OrderState]] = {
    (_S.NEW, Held): _S.HELD,
    (_S.NEW, Submitted): _S.SUBMITTED,
    (_S.HELD, Submitted): _S.SUBMITTED,
    (_S.HELD, Acknowledged): _S.WORKING,
    (_S.HELD, CancelSent): _S.CANCELLING,
    (_S.HELD, Cancelled): _S.CANCELLED,
    (_S.SUBMITTED, Acknowledged): _S.WORKING,
    (_S.WORKING, Acknowledged): _S.WORKING,
    (_S.CANCELLING, Acknowledged): _S.CANCELLING,
    (_S.UNKNOWN, Acknowledged): _S.WORKING,
    (_S.SUBMITTED, CancelSent): _S.CANCELLING,
    (_S.WORKING, CancelSent): _S.CANCELLING,
    (_S.CANCELLING, CancelSent): _S.CANCELLING,
    (_S.CANCELLING, CancelRefused): _S.WORKING,
    **{(state, Cancelled): _S.CANCELLED for state in _ACTIVE},
    **{(state, Expired): _S.EXPIRED for state in _ACTIVE},
    **{(state, Rejected): _S.REJECTED for state in _ACTIVE},
    **{(state, WentUnknown): _S.UNKNOWN for state in _ACTIVE},
    (_S.SUBMITTED, Fill): _S.WORKING,
    (_S.WORKING, Fill): _S.WORKING,
    (_S.UNKNOWN, Fill): _S.WORKING,
    # A fill can pass our cancel on the wire, or our hearing of the end. It happened; believe it.
    (_S.CANCELLING, Fill): _S.CANCELLING,
    (_S.CANCELLED, Fill): _S.CANCELLED,
    (_S.EXPIRED, Fill): _S.EXPIRED,
    (_S.REJECTED, Fill): _S.REJECTED,
    (_S.FILLED, Fill): _S.FILLED,
    # News comes late and out of order; these say nothing new.
    **{(state, Acknowledged): state for state in DONE},
    **{(state, CancelRefused): state for state in DONE},
    (_S.CANCELLED, Cancelled): _S.CANCELLED,
    (_S.FILLED, Cancelled): _S.FILLED,
    (_S.EXPIRED, Cancelled): _S.EXPIRED,
}


def advance(order: Order, event: OrderEvent) -> Order:
    """The order after `event`. Hearing the same fill twice changes nothing."""
    if isinstance(event, Fill) and event.venue_fill_id in order.fill_ids:
        return order
    try:
        state = NEXT[order.state, type(event)]
    except KeyError:
        raise ImpossibleEvent(
            f"order {order.request.client_order_id} is {order.state}; heard {type(event).__name__}"
        ) from None
    if isinstance(event, Fill):
        return _filled(order, state, event)
    if isinstance(event, Acknowledged):
        return replace(
            order,
            state=state,
            venue_order_id=event.venue_order_id or order.venue_order_id,
            quantity=event.quantity if event.quantity is not None else order.quantity,
            stop_price=event.stop_price if event.stop_price is not None else order.stop_price,
            limit_price=event.limit_price if event.limit_price is not None else order.limit_price,
        )
    return replace(order, state=state, reason=getattr(event, "reason", "") or order.reason)


def _filled(order: Order, state: OrderState, fill: Fill) -> Order:
    filled = order.filled + fill.quantity
    asked = order.asked_quantity
    complete = fill.last if asked is None else filled >= asked
    return replace(
        order,
        state=OrderState.FILLED if complete else state,
        filled=filled,
        filled_value=order.filled_value + fill.quantity * fill.price,
        fees=order.fees + fill.fee,
        fill_ids=(*order.fill_ids, fill.venue_fill_id),
    )


def overfilled(order: Order) -> bool:
    """More traded than asked: a real disagreement with the venue, recorded as a break."""
    asked = order.asked_quantity
    return asked is not None and order.filled > asked * (
        1 + Decimal("1e-12") if isinstance(order.filled, Decimal) else 1 + 1e-12
    )
