"""What trading costs: fees in every form venues ask them, and prices that are worse than the last one.

    fee       value x rate + quantity x per unit, an order's at least the minimum; the rate may fall with
              what was traded in 30 days
    slippage  a fraction of the price, a fixed distance, half the spread, and an impact that grows with
              the square of the share of the bar's volume an order takes

Limits are not moved by slippage: they trade at their price or better.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from shared.domain.instruments import Instrument
from shared.domain.orders import Side

TIER_DAYS: Final = 30
"""Days of trading, today included, that fee tiers look back on."""


class BadCosts(ValueError):
    """Costs that cannot be: names the field, the value, and what to give instead."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the venue takes, and what the market takes.

    fee_rate         fraction of the traded value
    slippage         fraction of the price
    fee_per_unit     quote units for each base unit traded
    fee_minimum      quote units that an order pays at least, once any of it trades
    fee_tiers        ((value traded in 30 days, rate from there on), ...), rising; replaces `fee_rate`. What was
                     traded counts all of the account's fills, those at an instrument's own rate as well
    slippage_fixed   quote units
    slippage_impact  fraction of the price at a share of 1; times the square of the share
    spread           the whole spread as a fraction of the price; half of it is paid each time
    """

    fee_rate: float = 0.001
    slippage: float = 0.0
    fee_per_unit: float = 0.0
    fee_minimum: float = 0.0
    fee_tiers: tuple[tuple[float, float], ...] = ()
    slippage_fixed: float = 0.0
    slippage_impact: float = 0.0
    spread: float = 0.0

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Costs:
        """Checked settings, fractions as fractions; BadCosts says what is wrong with which field."""
        if extra := set(given) - set(cls.__dataclass_fields__):
            known = ", ".join(cls.__dataclass_fields__)
            raise BadCosts(f"costs: {', '.join(sorted(extra))} is no cost (known: {known})")
        fractions = {
            name: _number(name, given.get(name, default), 0.5, "0.001 is 0.1 %")
            for name, default in (
                ("fee_rate", 0.001), ("slippage", 0.0), ("slippage_impact", 0.0), ("spread", 0.0),
            )
        }  # fmt: skip
        amounts = {
            name: _number(name, given.get(name, 0.0), 1e9, "an amount in the quote asset")
            for name in ("fee_per_unit", "fee_minimum", "slippage_fixed")
        }
        return cls(**fractions, **amounts, fee_tiers=_tiers(given.get("fee_tiers") or ()))

    def of(self, instrument: Instrument, liquidity: str = "taker") -> Costs:
        """What trading one instrument costs: its own fee rate where it has one."""
        own = instrument.maker_fee if liquidity == "maker" else instrument.taker_fee
        return self if own is None else replace(self, fee_rate=float(own), fee_tiers=())

    def rate_of(self, traded: float) -> float:
        """The fee rate after `traded` in 30 days."""
        rate = self.fee_rate
        for least, tier in self.fee_tiers:
            if traded >= least:
                rate = tier
        return rate

    @property
    def highest_rate(self) -> float:
        if not self.fee_tiers:
            return self.fee_rate
        return max(self.fee_rate, *(rate for _, rate in self.fee_tiers))

    def on_top(self, price: float) -> float:
        """What a market order pays beyond `price`, as a fraction of it: before impact and minimum."""
        fee, moved = self.highest_rate, self.slippage + self.spread / 2
        if self.fee_per_unit or self.slippage_fixed:
            fee, moved = fee + self.fee_per_unit / price, moved + self.slippage_fixed / price
        return (1 + fee) * (1 + moved) - 1

    def worsened(self, price: float, side: Side, share: float, tick: Decimal | None) -> float:
        """The price after slippage when `share` of the bar's volume is taken, rounded against us to ticks."""
        away = self.slippage + self.spread / 2 + self.slippage_impact * share * share
        if away == 0 and self.slippage_fixed == 0:
            return price
        if side is Side.BUY:
            moved = price * (1 + away) + self.slippage_fixed
        else:
            moved = price * (1 - away) - self.slippage_fixed
        if tick is None:
            return moved
        ticks = moved / float(tick)
        whole = math.ceil(ticks - 1e-9) if side is Side.BUY else math.floor(ticks + 1e-9)
        return float(whole * tick)

    def affordable(self, money: float, price: float, rate: float, charged: float = 0.0) -> float:
        """Base units that `money` pays for, fee included, of an order that was `charged` fees before."""
        most = money / (price * (1 + rate) + self.fee_per_unit)
        if self.fee_minimum > charged:
            most = min(most, (money - (self.fee_minimum - charged)) / price)
        return max(0.0, most)

    def cost(self, quantity: float, price: float, rate: float, charged: float = 0.0) -> float:
        """What a purchase takes, fee included; the fee of what comes first of an order is its minimum at least."""
        fee = quantity * (price * rate + self.fee_per_unit)
        return quantity * price + max(fee, self.fee_minimum - charged)


def _number(name: str, raw: Any, most: float, remedy: str) -> float:
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise BadCosts(f"{name}: {raw!r} is not a number") from None
    if not 0 <= number < most:
        raise BadCosts(f"{name}: {raw!r} must be from 0 to {most:g} ({remedy})")
    return number


def _tiers(given: Any) -> tuple[tuple[float, float], ...]:
    try:
        pairs = [(least, rate) for least, rate in given]
    except (TypeError, ValueError):
        raise BadCosts(
            f"fee_tiers: {given!r} are no pairs; give [[0, 0.0026], [50000, 0.0024]]"
        ) from None
    tiers = tuple(
        (_number("fee_tiers", least, 1e15, "value traded in 30 days"),
         _number("fee_tiers", rate, 0.5, "0.001 is 0.1 %"))
        for least, rate in pairs
    )  # fmt: skip
    if [least for least, _ in tiers] != sorted({least for least, _ in tiers}):
        raise BadCosts("fee_tiers: values traded must rise from one tier to the next")
    return tiers


class Traded:
    """The value traded in the last 30 days. Days are ordinals: `datetime.toordinal()`."""

    def __init__(self) -> None:
        self._days: deque[list[float]] = deque()

    def add(self, day: int, value: float) -> None:
        if self._days and self._days[-1][0] == day:
            self._days[-1][1] += value
        else:
            self._days.append([day, value])

    def until(self, day: int) -> float:
        """What was traded in the 30 days that end with `day`."""
        while self._days and self._days[0][0] <= day - TIER_DAYS:
            self._days.popleft()
        return sum(value for _, value in self._days)
