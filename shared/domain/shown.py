"""How numbers read, in the console and in files people open: one place, so that a column has one precision."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

Number = Decimal | float | int

NOTHING: Final = "—"
"""Shown where there is no number, which is not the same as zero."""

MINUS: Final = "\N{MINUS SIGN}"
GAP: Final = "\N{NARROW NO-BREAK SPACE}"
SPACE: Final = "\N{NO-BREAK SPACE}"

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


def percent(fraction: Number | str | None, decimals: int = 2) -> str:
    """0.0354 as 3.54 %."""
    number = decimal(fraction)
    return NOTHING if number is None else f"{grouped(number * 100, decimals)}{SPACE}%"


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


def duration(seconds: float | timedelta) -> str:
    """One unit, as a glance wants it: 3 s, 12 min, 5 h, 9 d."""
    total = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    total = max(0.0, total)
    if total < 10 and total != int(total):
        return f"{total:.1f}{SPACE}s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if total >= 2 * size:
            return f"{grouped(Decimal(int(total // size)), 0)}{SPACE}{unit}"
    return f"{int(total)}{SPACE}s"


def plural(count: int, one: str, many: str = "") -> str:
    """1 order, 2 orders."""
    return f"{grouped(Decimal(count), 0)} {one if count == 1 else many or one + 's'}"
