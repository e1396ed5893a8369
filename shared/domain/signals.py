"""What a strategy wants, and how it wants to get in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


@dataclass(frozen=True, slots=True)
class Market:
    """Enter at once, at the market's price."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Enter at `price` or better."""

    price: Any


@dataclass(frozen=True, slots=True)
class Stop:
    """Enter at the market once it trades at `price` or beyond."""

    price: Any


@dataclass(frozen=True, slots=True)
class StopLoss:
    """Leave when price moves against the entry fill by a fraction of it, or by a distance in price."""

    fraction: Any = None
    distance: Any = None


@dataclass(frozen=True, slots=True)
class TakeProfit:
    """Leave when price moves in favour of the entry fill by a fraction of it, or by a distance."""

    fraction: Any = None
    distance: Any = None


@dataclass(frozen=True, slots=True)
class TrailingStop:
    """Leave when price falls back from its best since the entry by a fraction of it, or a distance."""

    fraction: Any = None
    distance: Any = None


@dataclass(frozen=True, slots=True)
class TimeExit:
    """Leave at the market when the position is `bars` bars old (counted from its entry fill)."""

    bars: int


Entry = Market | Limit | Stop
Exit = StopLoss | TakeProfit | TrailingStop | TimeExit


class Signal(NamedTuple):
    """One instrument, one moment, in scalars.

    `target` is a signed fraction of the allocation; None leaves things as they are. One that goes on
    acts once: a stop that closed the position is not undone by it. With `again` each one acts for itself,
    and enters anew.
    """

    instrument: str
    target: float | None
    entry: Entry = Market()
    exits: tuple[Exit, ...] = ()
    tag: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Signals:
    """The fields of `Signal` as arrays over moments.

    target    float64[moments] or float64[moments, instruments]; NaN leaves
    entry     `Limit(price)` or `Stop(price)` may hold arrays of the same shape as target
    exits     fractions and distances may be arrays of the same shape as target
    """

    target: Any
    entry: Entry = Market()
    exits: tuple[Exit, ...] = ()
    tag: str = ""
    again: bool = False
