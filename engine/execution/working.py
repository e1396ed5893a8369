"""An order at work at the paper venue: its request, its levels, and what is left of it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from engine.matching import Level
from shared.domain.market import Bar
from shared.domain.orders import Number, OrderRequest, OrderType, Side


class Working(Struct):
    """`quantity` and `value` are what is left to trade; one of them is None. `sequence` is the order of arrival.

    `fees` is what it was charged; `owed` the same without a minimum.
    """

    request: OrderRequest
    level: Level
    quantity: Number | None
    value: Number | None
    active_from: datetime
    sequence: int
    filled: Number = 0
    fills: int = 0
    revision: int = 0
    fees: Number = 0
    owed: Number = 0
    name: str = ""
    """The order's id in words."""

    def __post_init__(self) -> None:
        self.name = str(self.request.client_order_id)

    def lives_through(self, bar: Bar) -> bool:
        """Not when its life ends inside the bar: it may have been over before the price got there."""
        expires_at = self.request.expires_at
        return expires_at is None or expires_at >= bar.closed_at

    def is_over(self, at: datetime) -> bool:
        return self.request.expires_at is not None and self.request.expires_at <= at


class Budget(Struct):
    """How much may still trade at this price or in this bar (None is no limit), of `volume` that did."""

    left: float | None = None
    volume: float = 0.0

    def share(self, quantity: float) -> float:
        """The part of the volume a quantity is; all of it where nothing is known of the volume."""
        return min(1.0, quantity / self.volume) if self.volume > 0 else 1.0


def level_of(request: OrderRequest, limit: float | None, stop: float | None) -> Level:
    """The price side of a request whose levels stand at `limit` and `stop` now."""
    if request.type is OrderType.LIMIT:
        return Level(request.type, request.side, limit=limit)
    level = Level(request.type, request.side, limit=limit, stop=stop)
    if request.type is OrderType.TRAILING_STOP:
        level.trail, level.trail_fraction = request.distance, request.fraction
        if stop is not None:
            level.best = level.best_behind(stop)
    return level


def leg_price(leg: OrderRequest, price: float) -> float:
    """Where a protective leg of an entry filled at `price` stands: at its own price, or its distance away."""
    own = leg.limit_price if leg.type is OrderType.LIMIT else leg.stop_price
    if own is not None:
        return own
    away = leg.distance if leg.distance is not None else (leg.fraction or 0.0) * price
    # The stop of a sell lies under the entry, its target above; of a buy the other way.
    targets = leg.type in (OrderType.LIMIT, OrderType.TAKE_PROFIT)
    sign = -1 if (leg.side is Side.SELL) != targets else 1
    return price + sign * away


def at_the_open(working: Working) -> tuple[bool, bool, int]:
    """Sells before buys, so that their cash can be spent; markets before levels; then as they came."""
    request = working.request
    return (request.side is Side.BUY, request.type is not OrderType.MARKET, working.sequence)


def pessimistic(working: Working) -> tuple[bool, int]:
    """Stops before limits and targets, then in the order they came."""
    favours_us = working.level.type in (OrderType.LIMIT, OrderType.TAKE_PROFIT)
    return (favours_us, working.sequence)
