"""How numbers, amounts, ages and times read: one place, so that a column has one precision."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from shared.domain.shown import (
    GAP,
    MINUS,
    NOTHING,
    SPACE,
    Number,
    decimal,
    direction,
    duration,
    grouped,
    money,
    percent,
    plural,
    plus,
    quantity,
    signed,
    signed_percent,
)

__all__ = [
    "DOWN",
    "GAP",
    "MINUS",
    "NOTHING",
    "SPACE",
    "UP",
    "age",
    "change",
    "change_percent",
    "day_start",
    "decimal",
    "direction",
    "duration",
    "grouped",
    "in_unit",
    "instant",
    "local",
    "money",
    "percent",
    "plain",
    "plural",
    "plus",
    "price",
    "prose",
    "quantity",
    "seconds",
    "signed",
    "signed_percent",
    "utc_text",
    "words",
]

UP: Final = "▲"
DOWN: Final = "▼"


def seconds(text: str) -> float:
    """A moment as URLs have it, in seconds since 1970; ValueError for one that no date can be of."""
    number = float(text)
    if not -6e10 < number < 2.5e11:  # also refuses nan
        raise ValueError(f"{text} is no moment")
    return number


def plain(value: Number | str | None) -> str:
    """A number as it is typed: ungrouped, never 1E+3, no zeros behind; "" for none."""
    number = decimal(value)
    if number is None:
        return ""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def price(value: Number | str | None, tick: Number | str | None = None) -> str:
    """A price with the decimals of its tick; without one, as many as its size makes sensible."""
    number = decimal(value)
    if number is None:
        return NOTHING
    step = decimal(tick)
    if step:
        exponent = step.normalize().as_tuple().exponent
        return grouped(number, max(0, -exponent) if isinstance(exponent, int) else 2)
    size = abs(number)
    decimals = 2 if size >= 10 else 4 if size >= Decimal("0.1") else 6
    return grouped(number, decimals)


def in_unit(value: Number | str | None, unit: str, decimals: int = 2) -> str:
    """A check's value: fractions as per cent, counts as they are, amounts with their unit."""
    if value is None:
        return NOTHING
    if not unit:
        return quantity(value)
    return percent(value, decimals) if unit == "%" else f"{money(value, decimals)} {unit}".strip()


def change(value: Number | str | None, decimals: int = 2) -> Markup:
    """A signed amount with its arrow and class: never told by colour alone."""
    return _arrowed(value, signed(value, decimals))


def change_percent(fraction: Number | str | None, decimals: int = 2) -> Markup:
    """A signed percentage with its arrow and class."""
    return _arrowed(fraction, signed_percent(fraction, decimals))


def _arrowed(value: Number | str | None, text: str) -> Markup:
    kind = direction(value)
    arrow = {"gain": f"{UP} ", "loss": f"{DOWN} ", "flat": ""}[kind]
    return Markup('<span class="{}">{}{}</span>').format(kind, arrow, text)


def instant(text: str | datetime | None) -> datetime | None:
    """An ISO 8601 time with a zone, or None for anything else."""
    if isinstance(text, datetime):
        return text
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def age(moment: str | datetime | None, now: datetime | None = None) -> Markup:
    """How long ago, kept current by the page itself once it is open."""
    at = instant(moment)
    if at is None:
        return Markup('<span class="muted">{}</span>').format(NOTHING)
    passed = duration(int(((now or datetime.now(UTC)) - at).total_seconds()))
    stamp = at.astimezone(UTC)
    return Markup('<time data-age datetime="{}" title="{}">{}</time>').format(
        stamp.isoformat(), utc_text(stamp), passed
    )


def utc_text(moment: datetime) -> str:
    """2026-09-12 14:05:06 UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def local(moment: datetime | None, zone: str, form: str = "%d %b %Y %H:%M:%S") -> Markup:
    """A time in the user's zone, with the UTC on hover."""
    if moment is None:
        return Markup('<span class="muted">{}</span>').format(NOTHING)
    here = moment.astimezone(ZoneInfo(zone))
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.astimezone(UTC).isoformat(), utc_text(moment), f"{here:{form}}"
    )


def day_start(moment: datetime, zone: str) -> datetime:
    """The last midnight in `zone` at or before `moment`."""
    here = moment.astimezone(ZoneInfo(zone))
    return here.replace(hour=0, minute=0, second=0, microsecond=0)


def prose(text: str) -> Markup:
    """A strategy author's words, with `names in backticks` set as code."""
    as_code = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(as_code)  # noqa: S704  (escaped above)


def words(name: str) -> str:
    """moving_average_cross as moving average cross."""
    return str(escape(name.replace("_", " ")))
