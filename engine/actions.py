"""What the core asks of its shell: journal this, send that, tell someone."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from shared.domain.decisions import Decision
from shared.domain.ledger import LedgerEntry
from shared.domain.orders import Fill, Leg, Number, Order, OrderEvent, OrderRequest
from shared.domain.positions import Position


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
class Amend:
    """Ask the adapter to change a working order. What is None stays. Journalled after, like a cancel."""

    client_order_id: UUID
    quantity: Number | None = None
    limit_price: float | None = None
    stop_price: float | None = None


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
class Posted:
    """Money or holdings that moved without a fill: journal the entries, and the positions as they are now.

    positions: (strategy id, instrument id, position); a strategy id of 0 is what no strategy owns.
    """

    entries: tuple[LedgerEntry, ...]
    positions: tuple[tuple[int, int, Position], ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something the owner should hear: a line for "What happened"."""

    kind: str
    severity: str
    text: str


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


Action = Decide | Submit | Cancel | Amend | OrderMoved | Booked | Posted | Noted | Broken | Failed
