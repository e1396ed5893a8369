"""Round trips: fills as trades from flat to flat, one instrument at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, Protocol

import numpy as np

from engine.bars import Bars, nanoseconds
from shared.domain.orders import Leg, Number, Side

OPEN: Final = "open"
"""The exit reason of a trade that has not ended."""

_DUST: Final = 1e-12
"""Of the largest quantity held: what floats leave over when everything was sold."""


class FillLike(Protocol):
    """A fill with the part it played. `leg` is one of `Leg`, or `time_exit`."""

    @property
    def instrument_id(self) -> int: ...
    @property
    def side(self) -> Side: ...
    @property
    def quantity(self) -> Number: ...
    @property
    def price(self) -> Number: ...
    @property
    def fee(self) -> Number: ...
    @property
    def at(self) -> datetime: ...
    @property
    def leg(self) -> str: ...
    @property
    def tag(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Trade:
    """One round trip. Prices are averages weighted by quantity; amounts are in quote units.

    `quantity` is all that was ever bought into it (sold, for a short). `pnl` is net of fees; an open
    trade counts what it still holds at the last close, and has no exit. `bars_held` counts the
    closings it lived through.
    """

    instrument_id: int
    side: Literal["long", "short"]
    quantity: Number
    entry_at: datetime
    entry_price: Number
    exit_at: datetime | None
    exit_price: Number | None
    fees: Number
    pnl: Number
    return_fraction: float
    bars_held: int
    exit_reason: str
    tag: str

    @property
    def is_open(self) -> bool:
        return self.exit_at is None


def round_trips(fills: Sequence[FillLike], bars: Mapping[int, Bars]) -> list[Trade]:
    """The trades `fills` (in time order) make, by entry time and instrument.

    A fill that turns a position round ends one trade and begins the next, its fee shared by
    quantity. `bars` of each instrument say what open trades are worth and how long trades lasted.
    """
    by_instrument: dict[int, list[FillLike]] = {}
    for fill in fills:
        by_instrument.setdefault(fill.instrument_id, []).append(fill)
    trades = [
        trade
        for instrument_id, own in sorted(by_instrument.items())
        for trade in _trades_of(own, bars[instrument_id])
    ]
    return sorted(trades, key=lambda trade: trade.entry_at)


def _trades_of(fills: Sequence[FillLike], bars: Bars) -> Iterator[Trade]:
    trip: _Trip | None = None
    for fill in fills:
        quantity, fee = fill.quantity, fill.fee
        if trip is not None and fill.side is not trip.side:
            quantity, fee = trip.leave(fill)
            if trip.is_flat:
                yield trip.ended(bars)
                trip = None
        if quantity > 0:
            trip = trip or _Trip(fill)
            trip.enter(fill, quantity, fee)
    if trip is not None:
        yield trip.marked(bars)


class _Trip:
    """A round trip on its way."""

    def __init__(self, first: FillLike) -> None:
        self.first = first
        self.last_exit: FillLike | None = None
        self.side = first.side
        self.entered: Number = 0
        self.left: Number = 0
        self.entry_value: Number = 0
        self.exit_value: Number = 0
        self.fees: Number = 0
        self.most: Number = 0

    @property
    def held(self) -> Number:
        return self.entered - self.left

    @property
    def is_flat(self) -> bool:
        return bool(self.held <= self._dust)

    @property
    def _dust(self) -> Number:
        return _DUST * self.most if isinstance(self.most, float) else 0

    def enter(self, fill: FillLike, quantity: Number, fee: Number) -> None:
        self.entered += quantity
        self.entry_value += quantity * fill.price
        self.fees += fee
        self.most = max(self.most, self.held)

    def leave(self, fill: FillLike) -> tuple[Number, Number]:
        """Take out what the fill closes; (quantity, fee) of what it has left over."""
        over = fill.quantity - self.held
        closes, fee = fill.quantity, fill.fee
        if over > self._dust:
            closes = self.held
            fee = fill.fee * closes / fill.quantity
        self.left += closes
        self.exit_value += closes * fill.price
        self.fees += fee
        self.last_exit = fill
        return fill.quantity - closes, fill.fee - fee

    def ended(self, bars: Bars) -> Trade:
        assert self.last_exit is not None
        at = self.last_exit.at
        leg = self.last_exit.leg
        # Turning round is leaving by the strategy's own wish, though the order was an entry.
        reason = Leg.EXIT if leg == Leg.ENTRY else leg
        return self._trade(at, self.exit_value / self.left, self.exit_value, bars, str(reason))

    def marked(self, bars: Bars) -> Trade:
        value = self.exit_value + self.held * _like(float(bars.close[-1]), self.entry_value)
        return self._trade(None, None, value, bars, OPEN)

    def _trade(
        self, at: datetime | None, price: Number | None, value: Number, bars: Bars, reason: str
    ) -> Trade:
        pnl = self.side.sign * (value - self.entry_value) - self.fees
        return Trade(
            instrument_id=self.first.instrument_id,
            side="long" if self.side is Side.BUY else "short",
            quantity=self.entered,
            entry_at=self.first.at,
            entry_price=self.entry_value / self.entered,
            exit_at=at,
            exit_price=price,
            fees=self.fees,
            pnl=pnl,
            return_fraction=float(pnl / self.entry_value),
            bars_held=_closings(bars, self.first.at, at),
            exit_reason=reason,
            tag=self.first.tag,
        )


def _closings(bars: Bars, after: datetime, until: datetime | None) -> int:
    """Bars that closed after one instant and not after the other."""
    first = int(np.searchsorted(bars.closed_at, nanoseconds(after), side="right"))
    if until is None:
        return len(bars) - first
    return int(np.searchsorted(bars.closed_at, nanoseconds(until), side="right")) - first


def _like(price: float, amount: Number) -> Number:
    """The price in the number type of the books."""
    return Decimal(repr(price)) if isinstance(amount, Decimal) else price
