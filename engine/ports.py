"""What the shells plug in: feeds that tell the market, brokers that take orders.

Exceptions of adapters, by consequence:

    VenueError
      VenueRefused          nothing happened
        VenueBusy           nothing happened; later may work
      OutcomeUnknown        ask before asking again
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from engine.bars import Bars
from engine.costs import Costs
from engine.matching import Matching
from shared.domain.market import Bar, MarketEvent, Quote, Tick
from shared.domain.orders import Number, Order, OrderEvent, OrderRequest

Told = tuple[UUID, OrderEvent]


class VenueError(Exception):
    """Something went wrong between us and a venue."""


class VenueRefused(VenueError):
    """The venue said no, and nothing happened."""


class VenueBusy(VenueRefused):
    """The venue said not now, and nothing happened."""


class OutcomeUnknown(VenueError):
    """A write may or may not have happened."""


class Feed(Protocol):
    """One account's market, in market time, `Closed` included.

    `matching` says what paper orders trade against: the touch of quotes, or bars.
    """

    matching: Literal["quotes", "bars"]

    def events(self) -> AsyncIterator[list[MarketEvent]]:
        """Batches in market order; ends when the market does."""
        ...

    def now(self) -> datetime:
        """Market time."""
        ...

    def history(self, instrument_id: int, interval: int, until: datetime, count: int) -> Bars:
        """The newest `count` bars closed at or before `until`, quiet intervals filled."""
        ...

    def finest(self, instrument_id: int) -> int | None:
        """The shortest interval there is history of, in seconds."""
        ...

    def marks(self, until: datetime) -> Mapping[int, float]:
        """The newest price of each instrument that had one before `until`."""
        ...

    def backlog(self, instrument_id: int, since: datetime, until: datetime) -> Iterable[Tick]:
        """Ticks of [since, until), to complete a bar that is under way."""
        ...


class Broker(Protocol):
    """Takes released requests and tells what becomes of them."""

    @property
    def is_idle(self) -> bool: ...

    def submit(self, request: OrderRequest, at: datetime) -> Iterator[Told]: ...

    def cancel(
        self, client_order_id: UUID, at: datetime, reason: str = "asked"
    ) -> Iterator[Told]: ...

    def amend(
        self,
        client_order_id: UUID,
        at: datetime,
        *,
        quantity: Number | None = None,
        limit_price: float | None = None,
        stop_price: float | None = None,
    ) -> Iterator[Told]: ...

    def reconfigure(self, costs: Costs, matching: Matching) -> None: ...

    def expire(self, at: datetime) -> Iterator[Told]: ...

    def restore(self, order: Order, at: datetime, *, resting: bool) -> None: ...

    def on_bars(self, bars: Iterable[Bar]) -> Iterator[Told]: ...

    def on_quote(self, quote: Quote) -> Iterator[Told]: ...

    def trails(self) -> Iterator[tuple[UUID, float]]: ...
