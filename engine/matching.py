"""At what price an order trades: against a bar, or against a quote. Pure, and one for every path.

Modelling choices, always against us: on bars a stop is hit before a target; a level jumped over at
the open fills at the open; slippage worsens market and stop fills and never limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from shared.domain.market import Bar, Quote
from shared.domain.orders import OrderType, Side

_ULPS_TRIED = 8
"""Steps between neighbouring floats that the rounding of a trailing stop's level can hide."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Fractions of the traded value: what the venue takes, and what the market takes."""

    fee_rate: float = 0.001
    slippage: float = 0.0

    @property
    def rate(self) -> float:
        return (1 + self.fee_rate) * (1 + self.slippage) - 1


@dataclass(slots=True)
class Level:
    """The price side of a working order. A trailing stop keeps `trail` (a distance) or `trail_fraction`
    (of the best price) behind `best`, the best price since it began."""

    type: OrderType
    side: Side
    price: float | None = None
    trail: float | None = None
    trail_fraction: float | None = None
    best: float | None = None
    resting: bool = False

    def stop_level(self) -> float | None:
        """Where a stop stands now."""
        if self.type is OrderType.STOP:
            return self.price
        if self.type is not OrderType.TRAILING_STOP or self.best is None:
            return None
        return self._behind(self.best)

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


def worsened(price: float, side: Side, slippage: float, tick: Decimal | None) -> float:
    """The price after slippage, on the tick grid, rounded against us."""
    if slippage == 0:
        return price
    moved = price * (1 + slippage) if side is Side.BUY else price * (1 - slippage)
    if tick is None:
        return moved
    ticks = moved / float(tick)
    whole = math.ceil(ticks - 1e-9) if side is Side.BUY else math.floor(ticks + 1e-9)
    return float(whole * tick)


def at_open(level: Level, price: float) -> float | None:
    """The raw fill price when a bar opens at `price`, or None. A jump over the level fills at the open."""
    if level.type is OrderType.MARKET:
        return price
    if level.type is OrderType.LIMIT:
        assert level.price is not None
        crossed = price <= level.price if level.side is Side.BUY else price >= level.price
        return price if crossed else None
    stop = level.stop_level()
    if stop is None:
        return None
    crossed = price >= stop if level.side is Side.BUY else price <= stop
    return price if crossed else None


def inside(level: Level, bar: Bar, *, entered_inside: bool = False) -> float | None:
    """The raw fill price after the open and within the bar, or None. Moves a trailing stop along.

    A level beyond the bar's own range fills at the range's edge: nothing trades where nobody traded.
    `entered_inside`: the order began somewhere within this bar, so its best price may be older than it.
    """
    if level.type is OrderType.LIMIT:
        assert level.price is not None
        crossed = bar.low <= level.price if level.side is Side.BUY else bar.high >= level.price
        return level.price if crossed else None
    if level.type is OrderType.TRAILING_STOP:
        return _trailed(level, bar, entered_inside=entered_inside)
    stop = level.stop_level()
    if stop is None:
        return None
    return _reached(stop, level.side, bar)


def _reached(stop: float, side: Side, bar: Bar) -> float | None:
    """Where a stop fills in a bar that reached it: at its level, within what was traded."""
    if side is Side.BUY:
        return max(stop, bar.low) if bar.high >= stop else None
    return min(stop, bar.high) if bar.low <= stop else None


def _trailed(level: Level, bar: Bar, *, entered_inside: bool) -> float | None:
    """Worst case first: the bar turns against us from the old best, then runs to its new one.

    A close beyond the level that the new best sets has crossed it on the way back.
    """
    sells = level.side is Side.SELL
    stop = level.stop_level()
    if stop is not None and (price := _reached(stop, level.side, bar)) is not None:
        return price
    best = bar.close if entered_inside else bar.high if sells else bar.low
    if level.best is None or (best > level.best if sells else best < level.best):
        level.best = best
    stop = level.stop_level()
    assert stop is not None
    return stop if (bar.close <= stop if sells else bar.close >= stop) else None


def on_quote(level: Level, quote: Quote) -> float | None:
    """The raw fill price against best bid and ask, or None: the touch for takers, the limit for makers."""
    touch = float(quote.ask if level.side is Side.BUY else quote.bid)
    if level.type is OrderType.MARKET:
        return touch
    buys = level.side is Side.BUY
    if level.type is OrderType.LIMIT:
        assert level.price is not None
        crossed = touch <= level.price if buys else touch >= level.price
        price = level.price if level.resting else touch
        level.resting = True
        return price if crossed else None
    if level.type is OrderType.TRAILING_STOP and (
        level.best is None or (touch < level.best if buys else touch > level.best)
    ):
        level.best = touch
    stop = level.stop_level()
    if stop is None:
        return None
    return touch if (touch >= stop if buys else touch <= stop) else None
