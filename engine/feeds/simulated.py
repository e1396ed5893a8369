"""The built-in simulator: invented instruments that tick and quote like a market, from a seed.

The market is a pure function of (seed, symbol, time): an engine that goes on from market time T
hears after T exactly what one that never stopped hears.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np

from engine.bars import SECOND, Bars, nanoseconds
from engine.feeds.clock import MarketClock
from engine.feeds.simulated_day import (
    DAY_MICROSECONDS,
    Climate,
    Day,
    Real,
    Spec,
    Whole,
    generate_day,
)
from shared.domain.instruments import Instrument
from shared.domain.market import Closed, MarketEvent, Quote, Tick

VENUE: Final = "simulated"

SPECS: Final[Mapping[str, Spec]] = {
    spec.symbol: spec
    for spec in (
        Spec(
            symbol="BTC/USD",
            tick_size=Decimal("0.1"),
            lot_size=Decimal("0.00001"),
            price=60_000,
            minute_sigma=0.0008,
            spread=0.00008,
            minute_value=1_400_000,
        ),
        Spec(
            symbol="ETH/USD",
            tick_size=Decimal("0.01"),
            lot_size=Decimal("0.0001"),
            price=3_000,
            minute_sigma=0.0010,
            spread=0.0001,
            minute_value=1_100_000,
        ),
        Spec(
            symbol="SOL/USD",
            tick_size=Decimal("0.01"),
            lot_size=Decimal("0.001"),
            price=150,
            minute_sigma=0.0012,
            spread=0.0002,
            minute_value=800_000,
        ),
        Spec(
            symbol="XRP/USD",
            tick_size=Decimal("0.0001"),
            lot_size=Decimal("0.1"),
            price=0.6,
            minute_sigma=0.0011,
            spread=0.0003,
            minute_value=700_000,
        ),
    )
}

_DAYS_KEPT: Final = 2
_ROWS_AT_ONCE: Final = 4096
_PLACES: Final = {symbol: place for place, symbol in enumerate(SPECS)}


class SimulatedMarket:
    """`genesis` is the midnight (UTC) before which nothing was traded.

    `instruments` are those of SPECS that exist here, by symbol; their ids are the caller's.
    """

    def __init__(self, seed: int, genesis: datetime, instruments: Mapping[str, Instrument]) -> None:
        if genesis.tzinfo is None or nanoseconds(genesis) % (86_400 * SECOND):
            raise ValueError(f"the market's genesis is a midnight in UTC, not {genesis}")
        if unknown := instruments.keys() - SPECS.keys():
            raise ValueError(f"no such simulated instrument: {', '.join(sorted(unknown))}")
        self.genesis = genesis.astimezone(UTC)
        self._seed = seed
        self._instruments = dict(sorted(instruments.items(), key=lambda item: item[1].id))
        self._climates = {symbol: Climate(seed, SPECS[symbol]) for symbol in instruments}
        self._days: dict[str, OrderedDict[int, Day]] = {s: OrderedDict() for s in instruments}

    def events(self, after: datetime) -> Iterator[Tick | Quote]:
        """Everything strictly after `after`, in time order, without end."""
        since = max(0, (after - self.genesis) // timedelta(microseconds=1))
        number, skip = divmod(since, DAY_MICROSECONDS)
        skip = skip if after >= self.genesis else -1
        while True:
            yield from self._events_of_day(number, skip)
            number, skip = number + 1, -1

    def bars(self, symbol: str, interval: int, starts_at: datetime, ends_at: datetime) -> Bars:
        """What BarBuilder makes of the ticks since genesis: the bars wholly inside [starts_at, ends_at].

        Quiet intervals are flat; there is none before the first price.
        """
        step = interval * 1_000_000
        first = -(-_microseconds(starts_at) // step)
        last = _microseconds(ends_at) // step  # one past the newest
        instrument_id = self._instruments[symbol].id
        if first >= last:
            return Bars.empty(instrument_id, interval)
        traded = self._traded(symbol, step, first, last)
        carried = self._price_before(symbol, first * step)
        return _dense(
            SPECS[symbol], instrument_id, interval, np.arange(first, last), traded, carried
        )

    def middles(self, before: datetime) -> dict[int, float]:
        """Instrument id -> middle of the newest quote strictly before an instant."""
        found = {}
        for symbol, instrument in self._instruments.items():
            if (quote := self._quote_before(symbol, _microseconds(before))) is not None:
                found[instrument.id] = float((quote.bid + quote.ask) / 2)
        return found

    # Inside -----------------------------------------------------------------------------------

    def _quote_before(self, symbol: str, at: int) -> Quote | None:
        number, within = divmod(at - _microseconds(self.genesis), DAY_MICROSECONDS)
        while number >= 0:
            day = self._day(symbol, number)
            if row := int(np.searchsorted(day.quoted_at, within)):
                make = _quote_maker(SPECS[symbol], self._instruments[symbol].id)
                quoted_at = self.genesis + timedelta(
                    days=number, microseconds=int(day.quoted_at[row - 1])
                )
                return make(int(day.bid[row - 1]), int(day.ask[row - 1]), quoted_at)
            number, within = number - 1, DAY_MICROSECONDS
        return None

    def _day(self, symbol: str, number: int) -> Day:
        kept = self._days[symbol]
        if number not in kept:
            weather = self._climates[symbol].day(number)
            kept[number] = generate_day(self._seed, SPECS[symbol], number, weather, _PLACES[symbol])
            if len(kept) > _DAYS_KEPT:
                kept.popitem(last=False)
        kept.move_to_end(number)
        return kept[number]

    def _events_of_day(self, number: int, after: int) -> Iterator[Tick | Quote]:
        """The merged events of one day, strictly after a microsecond of it.

        Rows are (time, column, first number, second number); column 2i holds the quotes of the i-th
        instrument and 2i + 1 its ticks.
        """
        parts = []
        for place, symbol in enumerate(self._instruments):
            day = self._day(symbol, number)
            parts.append((2 * place, day.quoted_at, day.bid, day.ask))
            parts.append((2 * place + 1, day.traded_at, day.price, day.quantity))
        times = np.concatenate([part[1] for part in parts])
        columns = np.concatenate([np.full(len(part[1]), part[0]) for part in parts])
        left = np.concatenate([part[2] for part in parts])
        right = np.concatenate([part[3] for part in parts])
        order = np.argsort(times, kind="stable")
        order = order[np.searchsorted(times[order], after, side="right") :]
        midnight = self.genesis + timedelta(days=number)
        makers = self._makers()
        for start in range(0, len(order), _ROWS_AT_ONCE):
            rows = order[start : start + _ROWS_AT_ONCE]
            for at, column, one, other in zip(
                times[rows].tolist(),
                columns[rows].tolist(),
                left[rows].tolist(),
                right[rows].tolist(),
                strict=True,
            ):
                yield makers[column](one, other, midnight + timedelta(microseconds=at))

    def _makers(self) -> list[Callable[[int, int, datetime], Tick | Quote]]:
        """For each column, what makes an event of its two whole numbers."""
        return [
            maker
            for symbol, instrument in self._instruments.items()
            for maker in (
                _quote_maker(SPECS[symbol], instrument.id),
                _tick_maker(SPECS[symbol], instrument.id),
            )
        ]

    def _traded(self, symbol: str, step: int, first: int, last: int) -> _Groups:
        """The intervals first..last-1 in which something traded."""
        genesis = _microseconds(self.genesis)
        first_day = max(0, (first * step - genesis) // DAY_MICROSECONDS)
        last_day = (last * step - 1 - genesis) // DAY_MICROSECONDS
        groups = []
        for number in range(first_day, last_day + 1):
            day = self._day(symbol, number)
            key = (genesis + number * DAY_MICROSECONDS + day.traded_at) // step
            rows = slice(*np.searchsorted(key, [first, last]).tolist())
            price = day.price[rows]
            groups.append(_grouped((key[rows], price, price, price, price, day.quantity[rows])))
        if not groups:
            return _grouped(tuple(np.zeros(0, np.int64) for _ in range(6)))
        return _grouped(tuple(np.concatenate(column) for column in zip(*groups, strict=True)))

    def _price_before(self, symbol: str, at: int) -> int | None:
        """The last price traded before a microsecond since 1970, in ticks."""
        number, within = divmod(at - _microseconds(self.genesis), DAY_MICROSECONDS)
        while number >= 0:
            day = self._day(symbol, number)
            rows = int(np.searchsorted(day.traded_at, within))
            if rows:
                return int(day.price[rows - 1])
            number, within = number - 1, DAY_MICROSECONDS
        return None


_Groups = tuple[Whole, ...]
"""(interval number, open, high, low, close, lots), one row an interval in which something traded."""


def _grouped(rows: _Groups) -> _Groups:
    """Rows of the same interval number, in time order, as one row."""
    key, opens, highs, lows, closes, lots = rows
    if not len(key):
        return rows
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    ends = np.concatenate([starts[1:], [len(key)]]) - 1
    return (
        key[starts],
        opens[starts],
        np.maximum.reduceat(highs, starts),
        np.minimum.reduceat(lows, starts),
        closes[ends],
        np.add.reduceat(lots, starts),
    )


def _dense(
    spec: Spec,
    instrument_id: int,
    interval: int,
    numbers: Whole,
    traded: _Groups,
    carried: int | None,
) -> Bars:
    """Every interval of `numbers` from the first price on: traded, or flat at the close before."""
    key, opens, highs, lows, closes, lots = traded
    row = np.searchsorted(key, numbers, side="right") - 1  # the newest that traded; -1: carried
    known = numbers if carried is not None else numbers[row >= 0]
    row = row[len(numbers) - len(known) :]
    quiet = np.ones(len(known), dtype=np.bool_)
    quiet[row >= 0] = key[row[row >= 0]] != known[row >= 0]
    last = np.concatenate([closes, [carried or 0]])[row]

    def price(column: Whole) -> Real:
        ticks = np.where(quiet, last, np.concatenate([column, [0]])[row])
        return np.asarray(ticks / spec.ticks_per_unit)

    volume = np.where(quiet, 0, np.concatenate([lots, [0]])[row]) / spec.lots_per_unit
    opened_at = known * (interval * SECOND)
    return Bars(
        instrument_id,
        interval,
        opened_at,
        opened_at + interval * SECOND,
        price(opens),
        price(highs),
        price(lows),
        price(closes),
        np.asarray(volume),
        quiet,
    )


def _quote_maker(spec: Spec, instrument_id: int) -> Callable[[int, int, datetime], Quote]:
    digits = _digits(spec.tick_size)

    def make(bid: int, ask: int, at: datetime) -> Quote:
        return Quote(instrument_id, Decimal(bid).scaleb(digits), Decimal(ask).scaleb(digits), at)

    return make


def _tick_maker(spec: Spec, instrument_id: int) -> Callable[[int, int, datetime], Tick]:
    digits, lot_digits = _digits(spec.tick_size), _digits(spec.lot_size)

    def make(price: int, lots: int, at: datetime) -> Tick:
        return Tick(
            instrument_id, Decimal(price).scaleb(digits), Decimal(lots).scaleb(lot_digits), at
        )

    return make


def _digits(grid: Decimal) -> int:
    exponent: Any = grid.as_tuple().exponent
    return int(exponent)


def _microseconds(at: datetime) -> int:
    return nanoseconds(at) // 1000


LONGEST_LAG: Final = 5.0
"""Machine seconds behind after which the market does not rush to catch up, but goes on from where it is."""

_BATCH_SECONDS: Final = 0.05


class SimulatedFeed:
    """A simulated market at the pace of a market clock, in batches of about 50 ms of machine time.

    `Closed(T)` comes for every multiple T of a wanted interval, after all events before T and
    before all others. `intervals` (seconds) may be a callable when what is wanted changes.
    `grace` (market seconds) holds everything back, as a slow line would.
    """

    def __init__(
        self,
        market: SimulatedMarket,
        clock: MarketClock,
        intervals: Collection[int] | Callable[[], Collection[int]],
        starts_at: datetime,
        grace: float = 0,
    ) -> None:
        self._market = market
        self._clock = clock
        self._intervals = intervals if callable(intervals) else lambda: intervals
        self._starts_at = starts_at
        self._grace = timedelta(seconds=grace)

    async def events(self) -> AsyncIterator[list[MarketEvent]]:
        """Batches without end, from just after `starts_at`."""
        at = self._starts_at.astimezone(UTC)
        coming = self._market.events(at)
        event = next(coming)
        while True:
            closing = self._next_closing(at)
            until = at + timedelta(seconds=_BATCH_SECONDS * self._clock.speed)
            until = min(until, closing) if closing else until
            await self._keep_pace(until + self._grace)
            batch: list[MarketEvent] = []
            while _happened_at(event) < until:
                batch.append(event)
                event = next(coming)
            if until == closing:
                batch.append(Closed(until))
            if batch:
                yield batch
            at = until

    def _next_closing(self, at: datetime) -> datetime | None:
        now = _microseconds(at)
        steps = [interval * 1_000_000 for interval in self._intervals()]
        if not steps:
            return None
        return at + timedelta(microseconds=min(step - now % step for step in steps))

    async def _keep_pace(self, market_time: datetime) -> None:
        if self._clock.behind(market_time) > LONGEST_LAG:
            self._clock.reset(market_time)
        await self._clock.sleep_until(market_time)


def _happened_at(event: Tick | Quote) -> datetime:
    return event.traded_at if isinstance(event, Tick) else event.quoted_at
