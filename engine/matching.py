"""At what price an order trades: against a bar's open, inside a bar, along its path, against a quote.

What happens inside a bar nobody recorded; the rule that fills the gap is declared (`Intrabar`):

    worst case      entries, then stops, then targets; a trailing stop turns against us before it runs;
                    a stop limit fills at the worst price its limit allows
    OHLC path       the price runs straight from the open to the nearer of high and low, to the other,
                    to the close; orders act in the order the path meets them
    lower interval  bars of a shorter interval decide, inside each of them the worst case
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from shared.domain.market import Bar, Quote
from shared.domain.orders import OrderType, Side

_ULPS_TRIED: Final = 8
"""Steps to the neighbouring float tried until a trailing stop's level comes out exactly."""

_TRIGGERED: Final = (
    OrderType.STOP,
    OrderType.STOP_LIMIT,
    OrderType.TRAILING_STOP,
)


class Intrabar(StrEnum):
    """What is assumed to have happened inside a bar."""

    WORST_CASE = "worst_case"
    OHLC_PATH = "ohlc_path"
    LOWER_INTERVAL = "lower_interval"


class BadMatching(ValueError):
    """Settings of paper matching that cannot be: names the field, the value, and what to give instead."""


@dataclass(frozen=True, slots=True)
class Matching:
    """How paper orders meet the market.

    `volume_share`: the orders of one account trade at most this fraction of a bar's volume; what is
    left of them works on. None: volume is no limit.
    """

    intrabar: Intrabar = Intrabar.WORST_CASE
    volume_share: float | None = None

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Matching:
        """Checked settings; BadMatching says what is wrong with which field."""
        if extra := set(given) - {"intrabar", "volume_share"}:
            raise BadMatching(
                f"matching: {', '.join(sorted(extra))} is no setting (known: intrabar, volume_share)"
            )
        rule = given.get("intrabar") or Intrabar.WORST_CASE
        if rule not in list(Intrabar):
            raise BadMatching(f"intrabar: {rule!r} is not one of {', '.join(Intrabar)}")
        return cls(Intrabar(rule), _share(given.get("volume_share")))

    def as_json(self) -> dict[str, Any]:
        return {"intrabar": self.intrabar.value, "volume_share": self.volume_share}


def _share(raw: Any) -> float | None:
    if raw in (None, ""):
        return None
    try:
        share = float(raw)
    except (TypeError, ValueError):
        raise BadMatching(f"volume_share: {raw!r} is not a number") from None
    if not 0 < share <= 1:
        raise BadMatching(f"volume_share: {raw!r} must be above 0 and at most 1 (0.1 is 10 %)")
    return share


class Level(Struct):
    """The price side of a working order.

    limit    where a limit order trades, and a stop limit once it is triggered
    stop     what triggers a stop, a stop limit or a take profit
    A trailing stop keeps `trail` (a distance) or `trail_fraction` (of the best price) behind `best`,
    the best price since it began. `resting`: prices have seen the limit, so it takes no more.
    """

    type: OrderType
    side: Side
    limit: float | None = None
    stop: float | None = None
    trail: float | None = None
    trail_fraction: float | None = None
    best: float | None = None
    resting: bool = False
    triggered: bool = False

    @property
    def is_limit(self) -> bool:
        """Trades at its limit or better, and nowhere else."""
        return self.type is OrderType.LIMIT or (
            self.type is OrderType.STOP_LIMIT and self.triggered
        )

    @property
    def has_limit(self) -> bool:
        """Slippage cannot move its price."""
        return self.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)

    def stop_level(self) -> float | None:
        """Where a stop stands now."""
        if self.type is not OrderType.TRAILING_STOP:
            return self.stop
        return None if self.best is None else self._behind(self.best)

    def follow(self, price: float) -> None:
        """A trailing stop's best price moves with `price`, never back."""
        if self.type is not OrderType.TRAILING_STOP:
            return
        better = self.best is None or (
            price > self.best if self.side is Side.SELL else price < self.best
        )
        if better:
            self.best = price

    def _behind(self, best: float) -> float:
        away = self.trail if self.trail is not None else best * (self.trail_fraction or 0.0)
        return best - away if self.side is Side.SELL else best + away

    def best_behind(self, stop: float) -> float:
        """The best price that puts a trailing stop at `stop`: exactly there, or a restart would move it."""
        sign = 1 if self.side is Side.SELL else -1
        if self.trail is not None:
            best = stop + sign * self.trail
        else:
            best = stop / (1 - sign * (self.trail_fraction or 0.0))
        for _ in range(_ULPS_TRIED):
            if (found := self._behind(best)) == stop:
                break
            best = math.nextafter(best, math.inf if found < stop else -math.inf)
        return best


def within_limit(level: Level, price: float) -> bool:
    """Whether a limit allows trading at `price`."""
    assert level.limit is not None
    return price <= level.limit if level.side is Side.BUY else price >= level.limit


def _beyond(level: Level, price: float) -> bool:
    """Whether `price` triggers the order: at its stop or beyond, for a take profit in our favour."""
    stop = level.stop_level()
    if stop is None:
        return False
    upwards = (level.side is Side.BUY) != (level.type is OrderType.TAKE_PROFIT)
    return price >= stop if upwards else price <= stop


def at_price(level: Level, price: float) -> float | None:
    """The raw fill price when the market stands at `price`, or None. Triggers what that price triggers.

    A jump over the level fills at `price`: better for a limit or a target, worse for a stop.
    """
    if level.type is OrderType.MARKET:
        return price
    if not level.is_limit and not _beyond(level, price):
        return None
    if level.type is OrderType.STOP_LIMIT:
        level.triggered = True
    if level.is_limit:
        return price if within_limit(level, price) else None
    return price


def inside(level: Level, bar: Bar, *, entered_inside: bool = False) -> float | None:
    """Worst case: the raw fill price after the open and within the bar, or None. Moves a trailing stop along.

    A level beyond the bar's own range fills at the range's edge: nothing trades where nobody traded.
    `entered_inside`: the order began somewhere within this bar, so its best price may be older than it.
    """
    if level.type is OrderType.TRAILING_STOP:
        return _trailed(level, bar, entered_inside=entered_inside)
    if level.is_limit:
        assert level.limit is not None
        crossed = bar.low <= level.limit if level.side is Side.BUY else bar.high >= level.limit
        return level.limit if crossed else None
    if level.stop is None:
        return None
    if level.type is OrderType.TAKE_PROFIT:
        touched = bar.low <= level.stop if level.side is Side.BUY else bar.high >= level.stop
        return level.stop if touched else None
    price = _reached(level.stop, level.side, bar)
    if price is None or level.type is OrderType.STOP:
        return price
    level.triggered = True
    return _worst_of_stop_limit(level, bar)


def _reached(stop: float, side: Side, bar: Bar) -> float | None:
    """Where a stop fills in a bar that reached it: at its level, within what was traded."""
    if side is Side.BUY:
        return max(stop, bar.low) if bar.high >= stop else None
    return min(stop, bar.high) if bar.low <= stop else None


def _worst_of_stop_limit(level: Level, bar: Bar) -> float | None:
    """A stop limit that this bar triggered: the worst price that its limit allows, if the bar went there.

    With the limit on the near side of the stop, only a close beyond the limit proves that the price
    came back to it after the trigger.
    """
    assert level.limit is not None
    assert level.stop is not None
    buys = level.side is Side.BUY
    if within_limit(level, level.stop):
        worst = min(level.limit, bar.high) if buys else max(level.limit, bar.low)
        return worst if bar.low <= worst <= bar.high else None
    return level.limit if within_limit(level, bar.close) else None


def _trailed(level: Level, bar: Bar, *, entered_inside: bool) -> float | None:
    """Worst case first: the bar turns against us from the old best, then runs to its new one.

    A close beyond the level that the new best sets has crossed it on the way back.
    """
    sells = level.side is Side.SELL
    stop = level.stop_level()
    if stop is not None and (price := _reached(stop, level.side, bar)) is not None:
        return price
    level.follow(bar.close if entered_inside else bar.high if sells else bar.low)
    stop = level.stop_level()
    assert stop is not None
    return stop if (bar.close <= stop if sells else bar.close >= stop) else None


def path(bar: Bar) -> tuple[float, float, float, float]:
    """The OHLC path: from the open to the nearer extreme (the low if both are as near), to the other, to the close."""
    if bar.high - bar.open < bar.open - bar.low:
        return bar.open, bar.high, bar.low, bar.close
    return bar.open, bar.low, bar.high, bar.close


def met(level: Level, start: float, end: float) -> float | None:
    """The first price on the way from `start` to `end` at which the order acts, or None.

    `start` is its answer when the order acts there already.
    """
    if level.type is OrderType.MARKET:
        return start
    if level.is_limit:
        assert level.limit is not None
        if within_limit(level, start):
            return start
        return level.limit if within_limit(level, end) else None
    level.follow(start)
    if _beyond(level, start):
        return start
    # A trailing stop on the far side of a straight move follows it and is not met.
    return level.stop_level() if _beyond(level, end) else None


def on_quote(level: Level, quote: Quote) -> float | None:
    """The raw fill price against best bid and ask, or None: the touch for takers, the limit for makers."""
    touch = float(quote.ask if level.side is Side.BUY else quote.bid)
    level.follow(touch)
    was_limit = level.is_limit
    price = at_price(level, touch)
    if not level.is_limit:
        return price
    if was_limit and level.resting and price is not None:
        price = level.limit
    level.resting = True
    return price
