"""Orders: what we ask for, what may become of it, and the table that says so."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

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
    STOP_LIMIT = "stop_limit"  # a limit order once it trades at the stop price or beyond
    TRAILING_STOP = "trailing_stop"
    TAKE_PROFIT = "take_profit"  # a market order once the price is touched in our favour


class TimeInForce(StrEnum):
    """How long an order works."""

    GTC = "gtc"  # until cancelled
    IOC = "ioc"  # what can trade at once, the rest is cancelled
    FOK = "fok"  # all at once, or nothing
    GTD = "gtd"  # until `expires_at`
    DAY = "day"  # until its calendar's day is over, kept as `expires_at`

    @property
    def is_immediate(self) -> bool:
        return self in (TimeInForce.IOC, TimeInForce.FOK)


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


class OrderRequest(Struct, frozen=True):
    """An order intent: committed as a row before any venue hears of it.

    Exactly one of `quantity` (base units) and `value` (quote units, costs included, turned into a
    quantity at the fill) is set. An order with a `parent` waits at our side until that one fills. A
    protective leg then takes its quantity from what is held, and its level from a price of its own or
    from `distance` or `fraction` of the parent's fill price; any other child (one triggers other)
    goes out as it is once all of its parent has traded. Orders of one `oco` group cancel each other;
    so do the protective legs of one decision.
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
    time_in_force: TimeInForce = TimeInForce.GTC
    expires_at: datetime | None = None
    post_only: bool = False
    oco: UUID | None = None


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


class Held(Struct, frozen=True):
    """Waits at our side for its parent's fill."""

    at: datetime


class Submitted(Struct, frozen=True):
    """Released and handed to the adapter."""

    at: datetime


class Acknowledged(Struct, frozen=True):
    at: datetime
    venue_order_id: str = ""
    quantity: Number | None = None
    stop_price: float | None = None
    limit_price: float | None = None

    @property
    def is_plain(self) -> bool:
        """It is there, as it was sent: most say no more."""
        return self.quantity is None and self.stop_price is None and self.limit_price is None


class Triggered(Struct, frozen=True):
    """Its stop price was reached: a stop limit order is a limit order from here on."""

    at: datetime


class CancelSent(Struct, frozen=True):
    at: datetime


class CancelRefused(Struct, frozen=True):
    at: datetime
    reason: str = ""


class Amended(Struct, frozen=True):
    """The venue changed the order; all its terms as they are now. `revision` counts its amendments: an
    older one heard later is old news."""

    at: datetime
    revision: int
    quantity: Number | None = None
    limit_price: float | None = None
    stop_price: float | None = None


class AmendRefused(Struct, frozen=True):
    at: datetime
    reason: str = ""


class Cancelled(Struct, frozen=True):
    at: datetime
    reason: str = ""


class Expired(Struct, frozen=True):
    at: datetime
    reason: str = ""


class Rejected(Struct, frozen=True):
    at: datetime
    reason: str = ""


class WentUnknown(Struct, frozen=True):
    """A write whose outcome we do not know: ask, never send again."""

    at: datetime
    reason: str = ""


class Fill(Struct, frozen=True):
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
    raw: float | None = None
    """The price before slippage, where our own matching knows it. Not stored."""


OrderEvent = (
    Held
    | Submitted
    | Acknowledged
    | Triggered
    | CancelSent
    | CancelRefused
    | Amended
    | AmendRefused
    | Cancelled
    | Expired
    | Rejected
    | WentUnknown
    | Fill
)


_NOISE: Final = 1e-12
"""Of a quantity: what float sums may be off by."""


class Order(Struct, frozen=True):
    """A request and everything that became of it.

    `ended` is the strongest end the venue told, kept because a fill or an amendment may still change
    what it means; `is_last` that the venue said nothing is left.
    """

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
    revision: int = 0
    ended: OrderState | None = None
    is_last: bool = False
    is_triggered: bool = False
    beneath: OrderState = OrderState.WORKING
    """Of an order that ended: where it would stand if a late amendment asked for more."""

    @property
    def is_done(self) -> bool:
        return self.state in DONE

    @property
    def can_cancel(self) -> bool:
        return not self.is_done and (self.state, CancelSent) in NEXT

    @property
    def can_amend(self) -> bool:
        return self.state is OrderState.WORKING

    @property
    def asked_quantity(self) -> Number | None:
        return self.quantity if self.quantity is not None else self.request.quantity

    @property
    def is_complete(self) -> bool:
        """Nothing is left to trade."""
        return _is_complete(self.asked_quantity, self.filled, last=self.is_last)


class ImpossibleEvent(ValueError):
    """The venue said something the state table does not know: a break on the account, not a crash."""


_S = OrderState
_OPEN: Final = (_S.SUBMITTED, _S.WORKING, _S.CANCELLING, _S.UNKNOWN)
_ENDED: Final = (_S.CANCELLED, _S.EXPIRED, _S.REJECTED)
"""Ends from the strongest to the weakest: heard together, the strongest counts, in whatever order."""

NEXT: Final[dict[tuple[OrderState, type], OrderState]] = {
    (_S.NEW, Held): _S.HELD,
    (_S.NEW, Submitted): _S.SUBMITTED,
    (_S.HELD, Submitted): _S.SUBMITTED,
    (_S.HELD, Acknowledged): _S.WORKING,
    (_S.HELD, CancelSent): _S.CANCELLING,
    (_S.HELD, Cancelled): _S.CANCELLED,
    (_S.HELD, Expired): _S.EXPIRED,
    (_S.HELD, CancelRefused): _S.HELD,
    (_S.HELD, AmendRefused): _S.HELD,
    (_S.SUBMITTED, Acknowledged): _S.WORKING,
    (_S.WORKING, Acknowledged): _S.WORKING,
    (_S.CANCELLING, Acknowledged): _S.CANCELLING,
    (_S.UNKNOWN, Acknowledged): _S.WORKING,
    (_S.SUBMITTED, CancelSent): _S.CANCELLING,
    (_S.WORKING, CancelSent): _S.CANCELLING,
    (_S.CANCELLING, CancelSent): _S.CANCELLING,
    (_S.UNKNOWN, CancelSent): _S.CANCELLING,
    **{(state, CancelRefused): _S.WORKING for state in _OPEN},
    # An amendment proves that the order is there, as an acknowledgement does.
    **{(state, kind): _S.WORKING for state in _OPEN for kind in (Amended, AmendRefused)},
    **{(state, Triggered): _S.WORKING for state in _OPEN},
    (_S.CANCELLING, Triggered): _S.CANCELLING,
    (_S.CANCELLING, Amended): _S.CANCELLING,
    (_S.CANCELLING, AmendRefused): _S.CANCELLING,
    **{(state, Cancelled): _S.CANCELLED for state in _OPEN},
    **{(state, Expired): _S.EXPIRED for state in _OPEN},
    **{(state, Rejected): _S.REJECTED for state in _OPEN},
    **{(state, WentUnknown): _S.UNKNOWN for state in _OPEN},
    (_S.SUBMITTED, Fill): _S.WORKING,
    (_S.WORKING, Fill): _S.WORKING,
    (_S.UNKNOWN, Fill): _S.WORKING,
    # A fill can pass our cancel on the wire, or our hearing of the end. It happened; believe it.
    (_S.CANCELLING, Fill): _S.CANCELLING,
    **{(state, Fill): state for state in DONE},
    # News comes late and out of order; these say nothing new about an order that has ended.
    **{
        (state, kind): state
        for state in DONE
        for kind in (Acknowledged, Triggered, CancelRefused, AmendRefused, WentUnknown, CancelSent)
    },
    # What is left of an order that was filled depends on what was asked: see `_settled`.
    **{(state, Amended): state for state in DONE},
    # The strongest of the ends that were told counts, whatever came first.
    **{
        (state, kind): end
        for state in DONE
        for kind, end in ((Cancelled, _S.CANCELLED), (Expired, _S.EXPIRED), (Rejected, _S.REJECTED))
    },
}


def advance(order: Order, event: OrderEvent) -> Order:
    """The order after `event`. Hearing the same fill twice changes nothing.

    Whatever the venue tells may come in any order: the outcome is the same.
    """
    if isinstance(event, Fill) and event.venue_fill_id in order.fill_ids:
        return order
    state = NEXT.get((order.state, type(event)))
    if state is None:
        raise ImpossibleEvent(
            f"order {order.request.client_order_id} is {order.state}; heard {type(event).__name__}"
        )
    if isinstance(event, Submitted | Held):  # the first news of an order: nothing has traded
        return replace(order, state=state)
    if isinstance(event, Acknowledged) and order.state is _S.SUBMITTED and event.is_plain:
        # nothing else was heard before
        venue_id = event.venue_order_id or order.venue_order_id
        return replace(order, state=state, venue_order_id=venue_id)
    changes = _heard(order, event)
    _settle(order, changes, state, event)
    return replace(order, **changes) if changes else order


def _heard(order: Order, event: OrderEvent) -> dict[str, Any]:
    """What the event changes, apart from the state. Nothing for an amendment that is older news."""
    match event:
        case Fill():
            return {
                "filled": order.filled + event.quantity,
                "filled_value": order.filled_value + event.quantity * event.price,
                "fees": order.fees + event.fee,
                "fill_ids": (*order.fill_ids, event.venue_fill_id),
                "is_last": order.is_last or event.last,
            }
        case Acknowledged():
            told: dict[str, Any] = {"venue_order_id": event.venue_order_id or order.venue_order_id}
            return told if order.revision else told | _terms(event)
        case Triggered():
            return {"is_triggered": True}
        case Amended():
            if event.revision <= order.revision:
                return {}
            return {**_terms(event), "revision": event.revision}
        case Cancelled() | Expired() | Rejected():
            told_end = NEXT[_S.WORKING, type(event)]
            ended = min(
                (end for end in (order.ended, told_end) if end is not None), key=_ENDED.index
            )
            reason = event.reason if ended is told_end else ""
            return {"ended": ended, "reason": reason or order.reason}
    return {"reason": getattr(event, "reason", "") or order.reason}


def _terms(event: Acknowledged | Amended) -> dict[str, Any]:
    """Quantity and levels as the venue has them, where it says so."""
    terms = {
        "quantity": event.quantity,
        "stop_price": event.stop_price,
        "limit_price": event.limit_price,
    }
    return {name: value for name, value in terms.items() if value is not None}


def _beneath(order: Order, event: OrderEvent) -> OrderState:
    """Where an order stands apart from its having ended."""
    before = order.beneath if order.is_done else order.state
    after = NEXT.get((before, type(event)), before)
    return before if after in DONE else after


def _settle(order: Order, changes: dict[str, Any], state: OrderState, event: OrderEvent) -> None:
    """Add the state that all facts heard so far come to, the newest among them."""
    asked = changes.get("quantity", order.asked_quantity)
    last = changes.get("is_last", order.is_last)
    if _is_complete(asked, changes.get("filled", order.filled), last=last):
        state = _S.FILLED
    elif (ended := changes.get("ended", order.ended)) is not None:
        state = ended
    elif state in DONE:  # it was filled, until an amendment that came late asked for more
        state = _beneath(order, event)
    if state in DONE:
        changes["beneath"] = _beneath(order, event)
    elif order.state is state:
        return
    changes["state"] = state


def _is_complete(asked: Number | None, filled: Number, *, last: bool) -> bool:
    """Nothing is left to trade. Parts that are floats may miss their sum by its last digits."""
    if asked is None:
        return last
    least = asked * (1 - _NOISE) if isinstance(asked, float) else asked
    return bool(filled and filled >= least)


def overfilled(order: Order) -> bool:
    """More traded than asked: a real disagreement with the venue, recorded as a break."""
    asked = order.asked_quantity
    return asked is not None and order.filled > asked * (
        1 if isinstance(order.filled, Decimal) else 1 + _NOISE
    )
