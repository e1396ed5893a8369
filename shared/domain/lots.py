"""Tax lots: what was bought when and for how much, and what became of it.

A lot is a quantity that was opened at one time at one cost. What closes it gives a closed lot with
proceeds, cost, fees and gain. Lots of one owner and instrument stand beside each other in the order
they were opened; the method says which of them a closing trade takes first:

    fifo     the oldest
    lifo     the newest
    hifo     the one that cost most for each unit (short: that brought least)
    average  the oldest, every unit at the average cost of all that is held

A short lot was opened by selling: its proceeds are what the sale brought, its cost what buying back
took. Amounts are in the instrument's quote asset and exact: what is left of a lot is what was there
less what was taken, so parts always sum to the whole.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from shared.domain.ledger import HOLDING

ZERO: Final = Decimal(0)
LONG_TERM: Final = timedelta(days=365)
"""A lot held for longer than this is held long-term. Short lots never are."""


SMALLEST: Final = Decimal("1e-12")
"""No quantity is told more finely."""


class Method(StrEnum):
    FIFO = "fifo"
    LIFO = "lifo"
    HIFO = "hifo"
    AVERAGE = "average"


Key = tuple[int, int]
"""(owner: a strategy's id, 0 for by hand; instrument id)"""


@dataclass(frozen=True, slots=True)
class Traded:
    """A signed `quantity` came (above 0) or went for `value`, with a `fee` in the quote asset.

    Income in kind came at the value it had; a loss or a write-off went for nothing.
    """

    key: Key
    at: datetime
    quantity: Decimal
    value: Decimal
    fee: Decimal
    reference: str
    kind: str = "fill"


@dataclass(frozen=True, slots=True)
class Resized:
    """A split: the quantity held changes by `change` and the cost stays."""

    key: Key
    at: datetime
    change: Decimal
    reference: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A signed `quantity` of lots goes on as `received` under another owner or instrument, cost and age kept."""

    key: Key
    to: Key
    at: datetime
    quantity: Decimal
    received: Decimal
    reference: str


Event = Traded | Resized | Moved


@dataclass(frozen=True, slots=True)
class OpenLot:
    """`quantity` is above 0 for what is held and below 0 for what was sold short.

    `cost` has its sign: what was paid, or less what a short sale brought. `fees` are those of opening.
    """

    key: Key
    opened_at: datetime
    quantity: Decimal
    cost: Decimal
    fees: Decimal
    opened_by: str
    kind: str = "fill"

    @property
    def unit_cost(self) -> Decimal:
        return self.cost / self.quantity


@dataclass(frozen=True, slots=True)
class ClosedLot:
    """A part of a lot that was closed: gain = proceeds - cost - fees. `quantity` is above 0."""

    key: Key
    opened_at: datetime
    closed_at: datetime
    is_short: bool
    quantity: Decimal
    proceeds: Decimal
    cost: Decimal
    fees: Decimal
    opened_by: str
    closed_by: str
    kind: str = "fill"

    @property
    def gain(self) -> Decimal:
        return self.proceeds - self.cost - self.fees

    @property
    def term(self) -> str:
        """long or short, by how long it was held."""
        is_long = not self.is_short and self.closed_at - self.opened_at > LONG_TERM
        return "long" if is_long else "short"

    @property
    def acquired_at(self) -> datetime:
        """When it was bought: for a short lot that is its end."""
        return self.closed_at if self.is_short else self.opened_at

    @property
    def disposed_at(self) -> datetime:
        return self.opened_at if self.is_short else self.closed_at


class NoSuchLot(ValueError):
    """More was to be moved than is there: the events do not belong together."""


@dataclass(slots=True)
class _Held:
    """The open lots of one owner and instrument, all held or all short; their sums are kept."""

    lots: list[OpenLot] = field(default_factory=list)
    quantity: Decimal = ZERO
    cost: Decimal = ZERO

    def add(self, lot: OpenLot) -> None:
        """A lot at its place by age."""
        insort(self.lots, lot, key=lambda known: known.opened_at)
        self.quantity += lot.quantity
        self.cost += lot.cost

    def take(self, quantity: Decimal, method: Method) -> list[OpenLot]:
        """Parts of lots that sum to `quantity` > 0, in the method's order."""
        whole = quantity == abs(self.quantity)
        released = self.cost if whole else self.cost * quantity / abs(self.quantity)
        taken, left = [], quantity
        while left:
            index = _ORDERS[method](self.lots)
            lot = self.lots[index]
            if abs(lot.quantity) <= left:
                part = self.lots.pop(index)
            else:
                part, self.lots[index] = _parted(lot, left)
            taken.append(part)
            left -= abs(part.quantity)
        if method is Method.AVERAGE:
            taken = _spread(taken, released)
        else:
            released = sum((part.cost for part in taken), ZERO)
        self.quantity -= sum((part.quantity for part in taken), ZERO)
        self.cost -= released
        return taken


@dataclass(slots=True)
class LotBook:
    """The open lots of any number of owners and instruments, one event after the other.

    By average cost only the sum of a holding's costs means something until lots are asked for.
    """

    method: Method
    _held: dict[Key, _Held] = field(default_factory=dict)

    def restore(self, lot: OpenLot) -> None:
        """Take in an open lot that is known already."""
        self._held.setdefault(lot.key, _Held()).add(lot)

    def apply(self, event: Event) -> list[ClosedLot]:
        """Take one event in; what it closed."""
        if isinstance(event, Traded):
            return self._trade(event)
        if isinstance(event, Resized):
            self._resize(event)
        else:
            self._move(event)
        return []

    def lots(self) -> list[OpenLot]:
        """All open lots, by owner and instrument, oldest first."""
        return [lot for key in sorted(self._held) for lot in self.lots_of(key)]

    def lots_of(self, key: Key) -> list[OpenLot]:
        held = self._held.get(key)
        if held is None:
            return []
        return _spread(held.lots, held.cost) if self.method is Method.AVERAGE else list(held.lots)

    def _trade(self, event: Traded) -> list[ClosedLot]:
        held = self._held.setdefault(event.key, _Held())
        size, closing = abs(event.quantity), ZERO
        if held.quantity * event.quantity < 0:
            closing = min(size, abs(held.quantity))
        value, fee = event.value, event.fee
        if closing < size:
            value, fee = value * closing / size, fee * closing / size
        closed = _closed(held.take(closing, self.method), value, fee, event) if closing else []
        if left := size - closing:
            sign = 1 if event.quantity > 0 else -1
            held.add(
                OpenLot(
                    event.key,
                    event.at,
                    sign * left,
                    sign * (event.value - value),
                    event.fee - fee,
                    event.reference,
                    event.kind,
                )
            )
        if not held.lots:
            del self._held[event.key]
        return closed

    def _resize(self, event: Resized) -> None:
        held = self._held.get(event.key)
        if held is None or not held.quantity + event.change:
            raise NoSuchLot(f"{event.reference}: a split of nothing, or into nothing")
        held.quantity += event.change
        held.lots = _scaled(held.lots, held.quantity)

    def _move(self, event: Moved) -> None:
        if self._lacks(event):
            # A short position handed over looks like a long one that came back.
            event = replace(
                event,
                key=event.to,
                to=event.key,
                quantity=-event.received,
                received=-event.quantity,
            )
        if self._lacks(event):
            raise NoSuchLot(f"{event.reference}: {event.quantity} to move is more than is held")
        held = self._held[event.key]
        taken = held.take(abs(event.quantity), self.method)
        if not held.lots:
            del self._held[event.key]
        for lot in _scaled([replace(lot, key=event.to) for lot in taken], event.received):
            self.restore(lot)

    def _lacks(self, event: Moved) -> bool:
        held = self._held.get(event.key)
        if held is None or held.quantity * event.quantity <= 0:
            return True
        return abs(held.quantity) < abs(event.quantity)


def _closed(
    taken: Sequence[OpenLot], value: Decimal, fee: Decimal, event: Traded
) -> list[ClosedLot]:
    """What became of parts that closed together for `value`, each with its share of value and fee."""
    total = sum((abs(part.quantity) for part in taken), ZERO)
    closed, value_left, fee_left = [], value, fee
    for number, part in enumerate(taken, 1):
        size, is_rest = abs(part.quantity), number == len(taken)
        own_value = value_left if is_rest else value * size / total
        own_fee = fee_left if is_rest else fee * size / total
        value_left, fee_left = value_left - own_value, fee_left - own_fee
        is_short = part.quantity < 0
        closed.append(
            ClosedLot(
                key=part.key,
                opened_at=part.opened_at,
                closed_at=event.at,
                is_short=is_short,
                quantity=size,
                proceeds=-part.cost if is_short else own_value,
                cost=own_value if is_short else part.cost,
                fees=part.fees + own_fee,
                opened_by=part.opened_by,
                closed_by=event.reference,
                kind=event.kind,
            )
        )
    return closed


def lots(events: Iterable[Event], method: Method) -> tuple[list[OpenLot], list[ClosedLot]]:
    """What is open after the events, and all that was closed, in the order it was."""
    book = LotBook(method)
    closed = [lot for event in events for lot in book.apply(event)]
    return book.lots(), closed


def closed_lots(entries: Iterable[Any], method: Method) -> Iterator[ClosedLot]:
    """What ledger entries closed, as they are read: only open lots are kept."""
    book = LotBook(method)
    for event in _events(entries):
        yield from book.apply(event)


def lots_of_entries(
    entries: Iterable[Any], method: Method
) -> tuple[list[OpenLot], list[ClosedLot]]:
    """`lots` of the events that ledger entries tell of."""
    return lots(_events(entries), method)


def is_dust(
    quantity: Decimal, mark: Decimal | None, lot_size: Decimal | None, dust_value: Decimal | None
) -> bool:
    """Whether a remainder is too small to sell: below the lot size, or worth less than the account cares for."""
    if not quantity:
        return False
    if lot_size is not None and abs(quantity) < lot_size:
        return True
    return dust_value is not None and mark is not None and abs(quantity) * mark < dust_value


def _parted(lot: OpenLot, size: Decimal) -> tuple[OpenLot, OpenLot]:
    """`size` out of a larger lot, and what is left of it."""
    quantity = size if lot.quantity > 0 else -size
    cost, fees = lot.cost * quantity / lot.quantity, lot.fees * quantity / lot.quantity
    part = replace(lot, quantity=quantity, cost=cost, fees=fees)
    rest = replace(
        lot, quantity=lot.quantity - quantity, cost=lot.cost - cost, fees=lot.fees - fees
    )
    return part, rest


def _spread(held: Sequence[OpenLot], cost: Decimal) -> list[OpenLot]:
    """The same lots at one cost a unit, `cost` altogether; the last has what rounding leaves."""
    total = sum((lot.quantity for lot in held), ZERO)
    left, spread = cost, []
    for number, lot in enumerate(held, 1):
        own = left if number == len(held) else cost * lot.quantity / total
        spread.append(replace(lot, cost=own))
        left -= own
    return spread


def _scaled(held: Sequence[OpenLot], total: Decimal) -> list[OpenLot]:
    """The same lots with quantities that sum to `total`; costs stay. One that becomes nothing goes into the next."""
    before = sum((lot.quantity for lot in held), ZERO)
    left, cost, fees = total, ZERO, ZERO
    scaled: list[OpenLot] = []
    for number, lot in enumerate(held, 1):
        own = left if number == len(held) else rounded(lot.quantity * total / before)
        left, cost, fees = left - own, cost + lot.cost, fees + lot.fees
        if own:
            scaled.append(replace(lot, quantity=own, cost=cost, fees=fees))
            cost, fees = ZERO, ZERO
    return scaled


def rounded(quantity: Decimal) -> Decimal:
    """A quantity that a ratio made, to the places kept, so that parts sum to the whole exactly."""
    return quantity.quantize(SMALLEST).normalize() if quantity else ZERO


def _dearest(held: Sequence[OpenLot]) -> int:
    """The lot whose closing gains least: dearest if held, cheapest sold if short; the older of equals."""
    sign = 1 if held[0].quantity > 0 else -1
    return max(range(len(held)), key=lambda i: (sign * held[i].unit_cost, -i))


_ORDERS: Final[dict[Method, Callable[[Sequence[OpenLot]], int]]] = {
    Method.FIFO: lambda held: 0,
    Method.LIFO: lambda held: len(held) - 1,
    Method.HIFO: _dearest,
    Method.AVERAGE: lambda held: 0,
}


# From the ledger ----------------------------------------------------------------------------


def events_of(entries: Iterable[Any]) -> list[Event]:
    """What happened to lots, read off ledger entries in the order they were booked.

    Entries are rows or `LedgerEntry`s, those of one reference beside each other.
    """
    return list(_events(entries))


def _events(entries: Iterable[Any]) -> Iterator[Event]:
    group: list[Any] = []
    for entry in entries:
        if group and entry.reference != group[0].reference:
            yield from _of_group(group)
            group = []
        group.append(entry)
    yield from _of_group(group)


def _of_group(group: Sequence[Any]) -> list[Event]:
    """The events of one reference: usually one, of a split one an owner."""
    kinds = {entry.kind for entry in group}
    if kinds & {"symbol_change", "adopt"}:
        return _moves(group)
    if "split" in kinds:
        return [
            Resized(_key(entry), entry.at, _signed(entry), entry.reference)
            for entry in group
            if entry.instrument_id is not None
        ]
    return _traded(group)


def _traded(group: Sequence[Any]) -> list[Event]:
    """A trade, or income in kind: the thing one way, the money for it the other, and a fee."""
    base = next((e for e in group if e.leg == "base" and e.instrument_id is not None), None)
    if base is None:
        return []
    quote = next((e for e in group if e.leg == "quote"), None)
    fee = next((e for e in group if e.kind in ("fee", "rebate")), None)
    quantity, value, cost = _signed(base), quote.amount if quote is not None else ZERO, ZERO
    if fee is not None:
        cost = _fee_in_quote(fee, base, quote)
    key, reference = _key(base), base.reference
    events: list[Event] = [Traded(key, base.at, quantity, value, cost, reference, base.kind)]
    if fee is not None and fee.asset == base.asset:
        # A fee in the very thing that was traded takes it away: sold, as it were, at the same price.
        events.append(Traded(key, base.at, _signed(fee), abs(cost), ZERO, reference, fee.kind))
    return events


def _fee_in_quote(fee: Any, base: Any, quote: Any) -> Decimal:
    """What a fee cost in the quote asset, by the rates on record: below 0 for a rebate, 0 without a rate."""
    if quote is None or fee.asset == quote.asset:
        cost = fee.amount
    elif fee.asset == base.asset:
        cost = fee.amount * quote.amount / base.amount
    else:
        worth = fee.worth if fee.worth is not None else ZERO
        cost = worth * quote.amount / quote.worth if quote.worth else worth
    return Decimal(cost if fee.kind == "fee" else -cost)


def _moves(group: Sequence[Any]) -> list[Event]:
    """Pairs of a leg by which a thing leaves one place and one by which it arrives at another."""
    pairs: dict[str, dict[str, Any]] = {}
    for entry in group:
        way, owner = _way(entry.leg)
        if way:
            pairs.setdefault(owner, {})[way] = entry
    return [
        Moved(
            _key(pair["out"]), _key(pair["in"]), pair["out"].at, -_signed(pair["out"]),
            _signed(pair["in"]), pair["out"].reference,
        )
        for pair in pairs.values()
    ]  # fmt: skip


def _way(leg: str) -> tuple[str, str]:
    """(out or in, of which pair); "" for legs that move money."""
    if leg.startswith("base."):
        return leg.removeprefix("base."), ""
    way, _, owner = leg.partition(":")
    return (way, owner) if way in ("out", "in") else ("", "")


def _key(entry: Any) -> Key:
    return (entry.strategy_id or 0, entry.instrument_id)


def _signed(entry: Any) -> Decimal:
    """What the holding gained by the entry."""
    return Decimal(entry.amount if entry.debit == HOLDING else -entry.amount)
