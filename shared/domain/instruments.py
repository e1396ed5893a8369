"""One tradable thing at one venue, and the calendar it trades by."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

Calendar = Literal["24/7", "24/5", "XNYS"]

ASSET_CLASSES: Final = ("crypto", "stock", "etf", "fx", "index", "future", "other")

# Trading days a year, for annualising: crypto never closes, currencies rest at the week-end,
# a US exchange has 252 sessions in an average year.
DAYS_PER_YEAR: Final[dict[str, int]] = {"24/7": 365, "24/5": 260, "XNYS": 252}

# Seconds of trading in one day of the calendar, for annualising intraday bars.
SECONDS_PER_DAY: Final[dict[str, int]] = {"24/7": 86_400, "24/5": 86_400, "XNYS": 23_400}


@dataclass(frozen=True, slots=True)
class Instrument:
    """`tick_size` and `lot_size` of None mean any price and any quantity.

    `maker_fee` and `taker_fee` are fractions of the traded value; None leaves it to the account.
    """

    id: int
    venue: str
    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal | None = None
    lot_size: Decimal | None = None
    min_quantity: Decimal | None = None
    min_value: Decimal | None = None
    calendar: str = "24/7"
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None

    @property
    def days_per_year(self) -> int:
        return DAYS_PER_YEAR[self.calendar]

    def bars_per_year(self, interval: int) -> float:
        """How many bars of `interval` seconds one year of this calendar holds."""
        if interval >= 86_400:
            return DAYS_PER_YEAR[self.calendar] * 86_400 / interval
        return DAYS_PER_YEAR[self.calendar] * SECONDS_PER_DAY[self.calendar] / interval
