"""The life of one order, told again from its events alone, and compared with the row that stands for it.

Nothing here reads the projection to tell the story: request, events and fills go through `advance`, the
same table the engine uses, so that a row that says something else is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, get_args

from msgspec import structs

from shared.domain.orders import (
    Acknowledged,
    Amended,
    CancelSent,
    Fill,
    ImpossibleEvent,
    Leg,
    Number,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    OrderType,
    Side,
    Submitted,
    TimeInForce,
    WentUnknown,
    advance,
    overfilled,
)

KINDS: Final[dict[str, type[OrderEvent]]] = {
    kind.__name__.lower(): kind for kind in get_args(OrderEvent)
}
"""The event a recorded kind stands for."""

_TERMS: Final = ("quantity", "stop_price", "limit_price")
_LEVELS: Final = ("stop_price", "limit_price", "distance", "fraction")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event as it is stored: `at` is market time, `recorded_at` the machine's."""

    kind: str
    key: str
    at: datetime
    recorded_at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A term of the order before and after an event."""

    name: str
    before: Number | None
    after: Number | None


@dataclass(frozen=True, slots=True)
class Chapter:
    """One thing that happened to the order.

    `is_late`: it had ended before we heard of this. `unknown_for`: how long (machine time) nobody knew
    what became of a write, told by the event that ended it. `problem`: why it cannot have happened.
    """

    recorded: Recorded
    before: Order
    after: Order
    fill: Fill | None = None
    is_late: bool = False
    changes: tuple[Change, ...] = ()
    unknown_for: timedelta | None = None
    problem: str = ""

    @property
    def kind(self) -> str:
        return self.recorded.kind

    @property
    def reason(self) -> str:
        return str(self.recorded.data.get("reason", ""))

    @property
    def changes_state(self) -> bool:
        return self.before.state is not self.after.state


@dataclass(frozen=True, slots=True)
class Story:
    """All chapters, the order they add up to, and what in them cannot be."""

    order: Order
    chapters: tuple[Chapter, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of which the order's row says one thing and its events another."""

    name: str
    row: str
    events: str


def request_of(row: Any) -> OrderRequest:
    """The request of an intent row (anything with its attributes)."""
    return OrderRequest(
        client_order_id=row.client_order_id,
        decision_id=row.decision_id,
        account_id=row.account_id,
        strategy_id=row.strategy_id or 0,
        instrument_id=row.instrument_id,
        leg=Leg(row.leg),
        side=Side(row.side),
        type=OrderType(row.type),
        decided_at=row.decided_at,
        quantity=row.quantity,
        value=row.value,
        **{name: _float(getattr(row, name)) for name in _LEVELS},
        parent_id=row.parent_id,
        reduce_only=row.reduce_only,
        attempt=row.attempt,
        tag=row.tag,
        time_in_force=TimeInForce(row.time_in_force),
        expires_at=row.expires_at,
        post_only=row.post_only,
        oco=row.oco,
    )


def recorded_of(row: Any) -> Recorded:
    """The event of an order-event row (anything with its attributes)."""
    return Recorded(row.kind, row.key, row.happened_at, row.recorded_at, row.data)


def fill_of(row: Any) -> Fill:
    """The fill of a fill row (anything with its attributes)."""
    return Fill(
        client_order_id=row.client_order_id,
        venue_fill_id=row.venue_fill_id,
        account_id=row.account_id,
        strategy_id=row.strategy_id or 0,
        instrument_id=row.instrument_id,
        side=Side(row.side),
        quantity=row.quantity,
        price=row.price,
        fee=row.fee,
        fee_asset=row.fee_asset,
        at=row.filled_at,
        liquidity=row.liquidity,
    )


def tell(request: OrderRequest, events: Iterable[Recorded], fills: Iterable[Fill]) -> Story:
    """The story of a request: its events in the order they were heard, its fills by the venue's id."""
    unheard = {fill.venue_fill_id: fill for fill in fills}
    order = Order(request)
    chapters: list[Chapter] = []
    unknown_since: datetime | None = None
    for recorded in events:
        chapter = _chapter(order, recorded, unheard.pop(recorded.key, None))
        if unknown_since is not None and chapter.kind != WentUnknown.__name__.lower():
            chapter = _with_unknown(chapter, recorded.recorded_at - unknown_since)
            unknown_since = None
        if chapter.after.state is OrderState.UNKNOWN and unknown_since is None:
            unknown_since = recorded.recorded_at
        order = chapter.after
        chapters.append(chapter)
    problems = [chapter.problem for chapter in chapters if chapter.problem]
    problems += [f"fill {key} is booked, and no event told of it" for key in unheard]
    if order.fill_ids and overfilled(order):
        problems.append(f"it filled {_text(order.filled)} of {_text(order.asked_quantity)}")
    return Story(order, tuple(chapters), tuple(problems))


def differences(story: Story, row: Any) -> tuple[Difference, ...]:
    """What the order's row (anything with its attributes) says otherwise than its events.

    A trailing stop's level follows the market between events, so its row alone knows that one.
    """
    order = story.order
    told: dict[str, Any] = {
        "state": order.state.value,
        "quantity": order.asked_quantity,
        "filled_quantity": order.filled,
        "filled_value": order.filled_value,
        "fees": order.fees,
        "limit_price": _level(order.limit_price, order.request.limit_price),
        "stop_price": _level(order.stop_price, order.request.stop_price),
        "venue_order_id": order.venue_order_id,
        "reason": order.reason,
        "revision": order.revision,
        "ended": order.ended.value if order.ended is not None else None,
        "is_triggered": order.is_triggered,
    }
    if order.request.type is OrderType.TRAILING_STOP:
        del told["stop_price"]
    return tuple(
        Difference(name, _text(found), _text(value))
        for name, value in told.items()
        if not _same(found := getattr(row, name), value)
    )


def taken(story: Story) -> dict[str, timedelta]:
    """Machine time between the milestones of an order's life, those it had: {"sent to acknowledged": ...}."""
    first: dict[str, datetime] = {}
    for chapter in story.chapters:
        first.setdefault(chapter.kind, chapter.recorded.recorded_at)
    spans = (
        ("sent to acknowledged", Submitted, Acknowledged),
        ("sent to first fill", Submitted, Fill),
        ("cancel asked to ended", CancelSent, None),
    )
    found = {}
    for name, begin, end in spans:
        starts = first.get(begin.__name__.lower())
        ends = first.get(end.__name__.lower()) if end else _ended_at(story)
        if starts is not None and ends is not None and ends >= starts:
            found[name] = ends - starts
    return found


def _ended_at(story: Story) -> datetime | None:
    for chapter in story.chapters:
        if chapter.after.is_done and not chapter.before.is_done:
            return chapter.recorded.recorded_at
    return None


def _chapter(order: Order, recorded: Recorded, fill: Fill | None) -> Chapter:
    try:
        event = _event(recorded, fill)
        after = advance(order, event)
    except (ImpossibleEvent, _Unreadable) as error:
        return Chapter(recorded, order, order, fill, problem=str(error))
    return Chapter(
        recorded,
        order,
        after,
        fill,
        is_late=order.is_done,
        changes=_changes(order, after) if isinstance(event, Amended) else (),
        problem=_misbooked(recorded, fill),
    )


class _Unreadable(ValueError):
    """A stored event that is none."""


def _event(recorded: Recorded, fill: Fill | None) -> OrderEvent:
    kind = KINDS.get(recorded.kind)
    if kind is None:
        raise _Unreadable(f"an event of kind {recorded.kind!r} is stored, which nobody knows")
    if kind is Fill:
        if fill is None:
            raise _Unreadable(f"an event tells of fill {recorded.key}, which is not booked")
        return _with_last(fill, recorded)
    known = set(kind.__struct_fields__) - {"at"}
    given = {name: _value(name, raw) for name, raw in recorded.data.items() if name in known}
    made: Callable[..., OrderEvent] = kind
    return made(recorded.at, **given)


def _with_last(fill: Fill, recorded: Recorded) -> Fill:
    return structs.replace(fill, last=recorded.data.get("last") == "True")


def _with_unknown(chapter: Chapter, passed: timedelta) -> Chapter:
    return replace(chapter, unknown_for=passed)


def _value(name: str, raw: Any) -> Any:
    if name == "quantity":
        return Decimal(str(raw))
    if name in _LEVELS:
        return float(raw)
    return int(raw) if name == "revision" else raw


def _misbooked(recorded: Recorded, fill: Fill | None) -> str:
    """Where an event and the fill that was booked for it say different numbers."""
    if fill is None:
        return ""
    for name in ("quantity", "price", "fee"):
        told = recorded.data.get(name)
        if told is not None and not _same(getattr(fill, name), Decimal(str(told))):
            return f"fill {fill.venue_fill_id} is booked with {name} {_text(getattr(fill, name))}, its event says {told}"
    return ""


def _changes(before: Order, after: Order) -> tuple[Change, ...]:
    """The terms an amendment changed; those asked count as they were before it."""
    request = before.request
    was = {
        "quantity": before.asked_quantity,
        "stop_price": _level(before.stop_price, request.stop_price),
        "limit_price": _level(before.limit_price, request.limit_price),
    }
    now = {
        "quantity": after.asked_quantity,
        "stop_price": _level(after.stop_price, request.stop_price),
        "limit_price": _level(after.limit_price, request.limit_price),
    }
    return tuple(
        Change(name, was[name], now[name]) for name in _TERMS if not _same(was[name], now[name])
    )


def _level(told: float | None, asked: float | None) -> float | None:
    return asked if told is None else told


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(one, str):
        return bool(one == other)
    return float(one) == float(other) if isinstance(other, float) else bool(one == other)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(value: Any) -> str:
    """A value as a person reads it: 9.0900 as 9.09, None as nothing."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, (Decimal, float)):
        text = f"{Decimal(repr(value)) if isinstance(value, float) else value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)


__all__ = [
    "Change",
    "Chapter",
    "Difference",
    "Recorded",
    "Story",
    "differences",
    "fill_of",
    "request_of",
    "taken",
    "tell",
]
