"""An order as a person writes it, read: every field checked by itself, and against the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from msgspec import Struct

from shared.domain.orders import OrderType, Side, TimeInForce

SIZES: Final = ("quantity", "value", "percent")
_MOST: Final = Decimal(10) ** 15
_MOST_DIGITS: Final = 30
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")

_LIMITED: Final = (OrderType.LIMIT, OrderType.STOP_LIMIT)
_STOPPED: Final = (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT)


class BadTicket(ValueError):
    """The order cannot be as it is written. `field` is the ticket's field at fault."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field

    def inside(self, part: str) -> BadTicket:
        """The same of a ticket that is part of a larger one."""
        return BadTicket(f"{part}.{self.field}", str(self).split(": ", 1)[1])


class Asked(Struct, frozen=True):
    """A ticket that makes sense by itself. `trail` is a distance in price, `trail_fraction` one of the price."""

    side: Side
    type: OrderType
    size: Decimal
    size_in: str = "quantity"
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    trail_fraction: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    expires_at: datetime | None = None
    post_only: bool = False
    reduce_only: bool = False
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    stop_trail: Decimal | None = None

    @property
    def has_protection(self) -> bool:
        return (self.stop_loss, self.take_profit, self.stop_trail) != (None, None, None)


def read(ticket: Mapping[str, Any]) -> Asked:
    """The ticket's fields as what they mean, or BadTicket."""
    known = set(Asked.__struct_fields__) | {"trail_in"} - {"trail_fraction"}
    if extra := sorted(set(ticket) - known):
        raise BadTicket(extra[0], "is no field of an order")
    type_ = _one_of(ticket, "type", OrderType)
    trails = type_ is OrderType.TRAILING_STOP
    trail_in = _word(ticket, "trail_in", "price", ("price", "percent"))
    trail = _amount(ticket, "trail", wanted=trails, of=type_)
    asked = Asked(
        side=_one_of(ticket, "side", Side),
        type=type_,
        size=_size(ticket),
        size_in=_word(ticket, "size_in", "quantity", SIZES),
        limit_price=_amount(ticket, "limit_price", wanted=type_ in _LIMITED, of=type_),
        stop_price=_amount(ticket, "stop_price", wanted=type_ in _STOPPED, of=type_),
        trail=trail if trail_in == "price" else None,
        trail_fraction=_percent("trail", trail) if trail_in == "percent" else None,
        time_in_force=_one_of(ticket, "time_in_force", TimeInForce, TimeInForce.GTC),
        expires_at=_instant(ticket),
        post_only=_flag(ticket, "post_only"),
        reduce_only=_flag(ticket, "reduce_only"),
        stop_loss=optional_amount(ticket, "stop_loss"),
        take_profit=optional_amount(ticket, "take_profit"),
        stop_trail=_percent("stop_trail", optional_amount(ticket, "stop_trail")),
    )
    _refuse_what_does_not_go_together(asked)
    return asked


def _refuse_what_does_not_go_together(asked: Asked) -> None:
    tif = asked.time_in_force
    if asked.size_in == "percent" and asked.size > 100:
        raise BadTicket("size", f"{asked.size} % is more than all there is")
    if tif is TimeInForce.GTD and asked.expires_at is None:
        raise BadTicket("expires_at", "a GTD order needs the time at which it ends")
    if tif is not TimeInForce.GTD and asked.expires_at is not None:
        raise BadTicket("expires_at", f"only a GTD order has one, not {tif.upper()}")
    if tif.is_immediate and asked.type not in (OrderType.MARKET, OrderType.LIMIT):
        raise BadTicket(
            "time_in_force", f"{tif.upper()} wants a market or limit order: a stop has to wait"
        )
    if asked.post_only and asked.type is not OrderType.LIMIT:
        raise BadTicket(
            "post_only", f"only a limit order can wait in the book, not {_named(asked.type)}"
        )
    if asked.post_only and tif.is_immediate:
        raise BadTicket("post_only", f"{tif.upper()} trades at once, post-only never does")
    if asked.reduce_only and asked.has_protection:
        raise BadTicket("reduce_only", "an order that only reduces opens nothing to protect")
    if asked.stop_loss is not None and asked.stop_trail is not None:
        raise BadTicket("stop_trail", "give a fixed stop or a trailing one, not both")


def optional_amount(given: Mapping[str, Any], name: str) -> Decimal | None:
    """A number above 0, or None where nothing is written."""
    text = str(given.get(name, "") or "").strip()
    return None if not text else amount(name, text)


def amount(name: str, text: str) -> Decimal:
    """A number above 0 that a price or a quantity can be."""
    plain = text.replace(" ", "").replace("\u202f", "").replace("\u00a0", "")
    if "," in plain and not _GROUPED.fullmatch(plain):  # 0,5 must never be taken for 5
        raise BadTicket(name, f"{text[:40]!r}: write decimals with a point, thousands as 1,000")
    plain = plain.replace(",", "")
    try:
        number = Decimal(plain)
    except InvalidOperation:
        raise BadTicket(name, f"{text[:40]!r} is not a number") from None
    if not number.is_finite():
        raise BadTicket(name, f"{text[:40]!r} is not a number one can trade")
    if number <= 0:
        raise BadTicket(name, f"{text[:40]} must be above 0")
    if number > _MOST or len(number.as_tuple().digits) > _MOST_DIGITS or number.adjusted() < -20:
        raise BadTicket(name, f"{text[:40]} is beyond what can be traded")
    return number


def _size(ticket: Mapping[str, Any]) -> Decimal:
    text = str(ticket.get("size", "") or "").strip()
    if not text:
        raise BadTicket("size", "say how much")
    return amount("size", text)


def _amount(ticket: Mapping[str, Any], name: str, *, wanted: bool, of: OrderType) -> Decimal | None:
    """The number, which this type of order needs, or must not have."""
    given = optional_amount(ticket, name)
    words = name.replace("_", " ")
    if wanted and given is None:
        raise BadTicket(name, f"{_named(of)} needs a {words}")
    if given is not None and not wanted:
        raise BadTicket(name, f"{_named(of)} has no {words}")
    return given


def _named(type_: OrderType) -> str:
    return f"a {type_.replace('_', ' ')} order"


def _percent(name: str, given: Decimal | None) -> Decimal | None:
    if given is None:
        return None
    if given >= 100:
        raise BadTicket(name, f"{given} % is the whole price: give less than 100")
    return given / 100


def _word(ticket: Mapping[str, Any], name: str, default: str, known: tuple[str, ...]) -> str:
    word = str(ticket.get(name) or default)
    if word not in known:
        raise BadTicket(name, f"{word[:40]!r} is not one of {', '.join(known)}")
    return word


def _one_of(ticket: Mapping[str, Any], name: str, kind: Any, default: Any = None) -> Any:
    raw = ticket.get(name) or default
    if raw not in list(kind):
        shown = f"{str(raw)[:40]!r} is not one of" if raw else "choose one of"
        raise BadTicket(name, f"{shown} {', '.join(kind)}")
    return kind(raw)


def _flag(ticket: Mapping[str, Any], name: str) -> bool:
    raw = ticket.get(name, False)
    if not isinstance(raw, bool):
        raise BadTicket(name, f"{raw!r} is not true or false")
    return raw


def _instant(ticket: Mapping[str, Any]) -> datetime | None:
    text = str(ticket.get("expires_at", "") or "").strip()
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadTicket("expires_at", f"{text[:40]!r} is no time") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
