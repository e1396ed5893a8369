"""What the core asks of its shell: journal this, send that, tell someone."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct

from shared.domain.decisions import Decision
from shared.domain.ledger import LedgerEntry
from shared.domain.orders import Fill, Leg, Number, Order, OrderEvent, OrderRequest
from shared.domain.positions import Position


class Decide(Struct, frozen=True):
    """Store this decision and its intents in one commit; then tell `released` or `refused`."""

    decision: Decision


class Submit(Struct, frozen=True):
    """Hand a released request to the adapter."""

    request: OrderRequest


class Cancel(Struct, frozen=True):
    """Ask the adapter to cancel. Goes out at once, journalled after."""

    client_order_id: UUID


class Amend(Struct, frozen=True):
    """Ask the adapter to change a working order. What is None stays. Journalled after, like a cancel."""

    client_order_id: UUID
    quantity: Number | None = None
    limit_price: float | None = None
    stop_price: float | None = None


class OrderMoved(Struct, frozen=True):
    """An order heard something: journal the event and where the order stands now."""

    order: Order
    event: OrderEvent


class Booked(Struct, frozen=True):
    """A fill is in the books: journal fill, ledger entries and position together."""

    fill: Fill
    leg: Leg
    tag: str
    entries: tuple[LedgerEntry, ...]
    position: Position
    realised: Number


class Posted(Struct, frozen=True):
    """Money or holdings that moved without a fill: journal the entries, and the positions as they are now.

    positions: (strategy id, instrument id, position); a strategy id of 0 is what no strategy owns.
    """

    entries: tuple[LedgerEntry, ...]
    positions: tuple[tuple[int, int, Position], ...] = ()
    text: str = ""


class Noted(Struct, frozen=True):
    """Something the owner should hear: a line for "What happened"."""

    kind: str
    severity: str
    text: str


class Broken(Struct, frozen=True):
    """Something that cannot be: a break on the account, never an engine stop."""

    client_order_id: UUID | None
    text: str


class Failed(Struct, frozen=True):
    """A strategy's own code raised: it decides no more, the others go on."""

    strategy_id: int
    error: BaseException


Action = Decide | Submit | Cancel | Amend | OrderMoved | Booked | Posted | Noted | Broken | Failed
