"""An order as it is typed, as a command keeps it, and typed again: nothing that was written is lost.

A ticket has three parts: the order itself (fields without a prefix), the other order of
one-cancels-other (`other.`) and the order sent once the first has traded (`then.`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

SIDES: Final = (("buy", "Buy"), ("sell", "Sell"))
TYPES: Final = (
    ("market", "Market"),
    ("limit", "Limit"),
    ("stop", "Stop"),
    ("stop_limit", "Stop limit"),
    ("trailing_stop", "Trailing stop"),
    ("take_profit", "Take profit"),
)
TIMES_IN_FORCE: Final = (
    ("gtc", "Until cancelled (GTC)"),
    ("day", "This trading day (DAY)"),
    ("gtd", "Until a time (GTD)"),
    ("ioc", "At once, rest cancelled (IOC)"),
    ("fok", "All at once or nothing (FOK)"),
)
PARTS: Final = ("", "other.", "then.")
SWITCHES: Final = {"other.": "with_other", "then.": "with_then"}
"""The box that turns a part on; the first part is always there."""

OF_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "market": (),
    "limit": ("limit_price",),
    "stop": ("stop_price",),
    "stop_limit": ("stop_price", "limit_price"),
    "trailing_stop": ("trail", "trail_in"),
    "take_profit": ("stop_price",),
}
"""What each type needs beside side, size and time in force; the form shows no more than this."""

ALWAYS: Final = ("side", "type", "size", "size_in", "time_in_force")
FLAGS: Final = ("post_only", "reduce_only")
PROTECTION: Final = ("stop_loss", "take_profit", "stop_trail")
TYPED: Final = ("limit_price", "stop_price", "trail", "trail_in", "expires_at", *PROTECTION)
FRESH: Final = {
    "side": "buy",
    "type": "market",
    "size_in": "quantity",
    "trail_in": "price",
    "time_in_force": "gtc",
}
LONGEST: Final = 80
"""More than anybody types into a field of an order."""


@dataclass(frozen=True, slots=True)
class Form:
    """`entered` is text as typed and `problems` what is wrong with it, both by name of the HTML field."""

    entered: Mapping[str, str]
    problems: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.entered.get(name, "")

    def problem(self, name: str) -> str:
        return self.problems.get(name, "")


def fresh(**changed: str) -> dict[str, str]:
    """An empty ticket; what is given is written in."""
    blank = {f"{part}{name}": text for part in PARTS for name, text in FRESH.items()}
    turned = {
        "other.type": "limit",
        "other.side": "sell",
        "then.side": "sell",
        "then.type": "limit",
    }
    return {**blank, **turned, **changed}


def typed(form: Mapping[str, str]) -> dict[str, str]:
    """Every field of a submitted form that a ticket knows."""
    names = [f"{part}{name}" for part in PARTS for name in (*ALWAYS, *TYPED, *FLAGS)]
    wanted = [*names, "protect", *SWITCHES.values(), "note"]
    return {name: _plain(form.get(name, "")) for name in wanted}


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:LONGEST]


def orders(entered: Mapping[str, str], zone: str) -> dict[str, dict[str, Any]]:
    """`ticket`, `other` and `then` of the command, with the fields that the form was showing."""
    return {
        "ticket": _ticket(entered, "", zone),
        "other": _ticket(entered, "other.", zone) if entered.get("with_other") else {},
        "then": _ticket(entered, "then.", zone) if entered.get("with_then") else {},
    }


def _ticket(entered: Mapping[str, str], part: str, zone: str) -> dict[str, Any]:
    names = [*ALWAYS, *OF_TYPE.get(entered.get(f"{part}type", ""), ())]
    if not part and entered.get("protect"):
        names += PROTECTION
    said: dict[str, Any] = {name: entered.get(part + name, "") for name in names}
    if said["time_in_force"] == "gtd":
        said["expires_at"] = _with_zone(entered.get(f"{part}expires_at", ""), zone)
    for flag in FLAGS:
        said[flag] = entered.get(part + flag) == "yes"
    return said


def _with_zone(text: str, zone: str) -> str:
    """A time as typed is a time where the user is; what is no time stays as it was typed."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).isoformat()


def of_command(arguments: Mapping[str, Any], zone: str) -> dict[str, str]:
    """The ticket of a PlaceOrder as it was typed."""
    entered = fresh(note=str(arguments.get("note", "")))
    for part, name in (("", "ticket"), ("other.", "other"), ("then.", "then")):
        ticket = arguments.get(name) or {}
        for key, value in ticket.items():
            entered[part + key] = _shown(key, value, zone)
        if ticket and part:
            entered[SWITCHES[part]] = "yes"
        if not part and any(name in ticket for name in PROTECTION):
            entered["protect"] = "yes"
    return entered


def _shown(name: str, value: Any, zone: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if name != "expires_at":
        return str(value)
    try:
        at = datetime.fromisoformat(str(value)).astimezone(ZoneInfo(zone))
    except ValueError:
        return str(value)
    return f"{at:%Y-%m-%dT%H:%M}"


def problems_of(said: Mapping[str, Any]) -> dict[str, str]:
    """A denial's text beside the field it speaks of: `ticket.size` is the form's `size`."""
    field_ = str(said.get("field") or "")
    name = field_.removeprefix("ticket.")
    text = str(said.get("text") or "")
    for prefix in (field_, name, name.rpartition(".")[2]):
        text = text.removeprefix(f"{prefix}: ")
    return {name: text} if name and text else {}


def called(name: str) -> str:
    """A field as people call it: `ticket.stop_loss` is the stop loss."""
    return name.rpartition(".")[2].replace("_", " ").capitalize()


def known(name: str) -> bool:
    """Whether the form has such a field to say it beside."""
    bare = name.split(".", 1)[-1]
    return bare in (*ALWAYS, *TYPED, *FLAGS)


def sentence(ticket: Mapping[str, Any], base: str, quote: str) -> str:
    """`buy 0.5 BTC, limit at 60000`: an order in a line."""
    unit = {"value": quote, "percent": "%"}.get(ticket.get("size_in", ""), base)
    levels = [str(ticket.get("type", "")).replace("_", " ")]
    if ticket.get("stop_price"):
        levels.append(f"at {ticket['stop_price']}")
    if ticket.get("limit_price"):
        levels.append(
            f"limit {ticket['limit_price']}" if len(levels) > 1 else f"at {ticket['limit_price']}"
        )
    if ticket.get("trail"):
        levels.append(f"by {ticket['trail']}{' %' if ticket.get('trail_in') == 'percent' else ''}")
    return f"{ticket.get('side', '')} {ticket.get('size', '')} {unit}, {' '.join(levels)}"
