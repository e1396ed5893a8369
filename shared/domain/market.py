"""What a market says: ticks, quotes, bars, and the moment at which bars close."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Final

from msgspec import Struct


class BadMarketData(ValueError):
    """The market said something that cannot be true."""


class Tick(Struct, frozen=True):
    """One public trade."""

    instrument_id: int
    price: Decimal
    quantity: Decimal
    traded_at: datetime


class Quote(Struct, frozen=True):
    """Best bid and ask; how much there is at each, where the venue says so."""

    instrument_id: int
    bid: Decimal
    ask: Decimal
    quoted_at: datetime
    bid_quantity: Decimal | None = None
    ask_quantity: Decimal | None = None


class Bar(Struct, frozen=True):
    """Trading in the half-open interval [opened_at, closed_at).

    Prices are float64 whose shortest decimal form is the venue's own price (venues quote fewer
    than 16 digits), so `Decimal(repr(price))` gives back exactly what the venue said.
    `filled` marks a quiet interval carried forward from the bar before it.
    """

    instrument_id: int
    interval: int
    opened_at: datetime
    closed_at: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    filled: bool = False

    def __post_init__(self) -> None:
        if self.opened_at.tzinfo is None or self.opened_at >= self.closed_at:
            raise BadMarketData(f"bar spans {self.opened_at} to {self.closed_at}")
        if not (0 < self.low <= self.open <= self.high and self.low <= self.close <= self.high):
            raise BadMarketData(
                f"bar at {self.opened_at}: open {self.open}, high {self.high}, "
                f"low {self.low}, close {self.close}"
            )


class Closed(Struct, frozen=True):
    """The market clock has passed `at`: every bar that closes then is over, ticks or no ticks."""

    at: datetime


MarketEvent = Tick | Quote | Bar | Closed

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def interval_seconds(text: str) -> int:
    """`1m` as 60. Units are s, m, h, d and w."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if not match or int(match[1]) == 0:
        raise ValueError(f"interval {text!r}: write a number and a unit, such as 30s, 1m, 4h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def interval_text(seconds: int) -> str:
    """60 as `1m`: the largest unit that divides it."""
    for unit in ("w", "d", "h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
