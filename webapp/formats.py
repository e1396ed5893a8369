"""How numbers, amounts, ages and times read: one place, so that a column has one precision."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

Number = Decimal | float | int

NOTHING: Final = "—"
"""Shown where there is no number, which is not the same as zero."""

MINUS: Final = "\N{MINUS SIGN}"
GAP: Final = "\N{NARROW NO-BREAK SPACE}"
SPACE: Final = "\N{NO-BREAK SPACE}"
UP: Final = "▲"
DOWN: Final = "▼"

_PLAIN: Final = 8
"""Decimals a quantity may show; what is smaller than that is dust."""

_LONGEST: Final = Decimal(10) ** 20


def decimal(value: Number | str | None) -> Decimal | None:
    """The value as Decimal; None for None, for "" and for what is not a finite number."""
    if value is None or value == "":
        return None
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def seconds(text: str) -> float:
    """A moment as URLs have it, in seconds since 1970; ValueError for one that no date can be of."""
    number = float(text)
    if not -6e10 < number < 2.5e11:  # also refuses nan
        raise ValueError(f"{text} is no moment")
    return number


def grouped(value: Decimal, decimals: int) -> str:
    """Thousands apart and a real minus sign; a zero has no sign. Beyond 20 digits: 1.00e+300."""
    if abs(value) >= _LONGEST:
        return f"{value:.2e}".replace("-", MINUS)
    rounded = round(value, decimals)
    text = f"{abs(rounded):,.{decimals}f}".replace(",", GAP)
    return f"{MINUS}{text}" if rounded < 0 else text


def money(value: Number | str | None, decimals: int = 2) -> str:
    """An amount of a currency, grouped: 104 318.27."""
    number = decimal(value)
    return NOTHING if number is None else grouped(number, decimals)


def quantity(value: Number | str | None) -> str:
    """9.0900 as 9.09 and 1000 as 1 000, never 1E+3; at most eight decimals."""
    number = decimal(value)
    if number is None:
        return NOTHING
    text = grouped(number, _PLAIN)
    return text.rstrip("0").rstrip(".") if "." in text else text


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


def percent(fraction: Number | str | None, decimals: int = 2) -> str:
    """0.0354 as 3.54 %."""
    number = decimal(fraction)
    return NOTHING if number is None else f"{grouped(number * 100, decimals)}{SPACE}%"


def in_unit(value: Number | str | None, unit: str, decimals: int = 2) -> str:
    """A check's value: fractions as per cent, counts as they are, amounts with their unit."""
    if value is None:
        return NOTHING
    if not unit:
        return quantity(value)
    return percent(value, decimals) if unit == "%" else f"{money(value, decimals)} {unit}".strip()


def plus(text: str) -> str:
    """A formatted positive number with its plus; negative ones and zeros as they are."""
    is_zero = not any(character in text for character in "123456789")
    return text if is_zero or text.startswith((MINUS, NOTHING)) else f"+{text}"


def direction(value: Number | str | None) -> str:
    """The class of a signed number: gain, loss or flat."""
    number = decimal(value)
    if not number:
        return "flat"
    return "gain" if number > 0 else "loss"


def signed(value: Number | str | None, decimals: int = 2) -> str:
    """A money amount with its sign, plus included."""
    return plus(money(value, decimals))


def signed_percent(fraction: Number | str | None, decimals: int = 2) -> str:
    """A percentage with its sign, plus included."""
    return plus(percent(fraction, decimals))


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


def duration(seconds: float | timedelta) -> str:
    """One unit, as a glance wants it: 3 s, 12 min, 5 h, 9 d."""
    total = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    total = max(0.0, total)
    if total < 10 and total != int(total):
        return f"{total:.1f}{SPACE}s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if total >= 2 * size:
            return f"{int(total // size)}{SPACE}{unit}"
    return f"{int(total)}{SPACE}s"


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


def plural(count: int, one: str, many: str = "") -> str:
    """1 order, 2 orders."""
    return f"{grouped(Decimal(count), 0)} {one if count == 1 else many or one + 's'}"


def prose(text: str) -> Markup:
    """A strategy author's words, with `names in backticks` set as code."""
    as_code = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(as_code)  # noqa: S704  (escaped above)


def words(name: str) -> str:
    """moving_average_cross as moving average cross."""
    return str(escape(name.replace("_", " ")))
