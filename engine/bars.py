"""Bars as columns, bars built from ticks, and the one function that fills quiet intervals.

Pure numpy: no clock, no I/O. Instants in arrays are int64 nanoseconds since 1970 UTC; intervals are
seconds; a bar spans the half-open [opened_at, closed_at).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from shared.domain.market import BadMarketData, Bar, Tick

Instants = npt.NDArray[np.int64]
Prices = npt.NDArray[np.float64]

SECOND: Final = 1_000_000_000
DAY: Final = 86_400 * SECOND
LONGEST_QUIET: Final = DAY
"""Session time without a trade after which a hole is missing data, not a quiet market."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEW_YORK: Final = ZoneInfo("America/New_York")


def nanoseconds(at: datetime) -> int:
    """A UTC-aware datetime as int64 nanoseconds, exactly."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1000


def instant(at: int) -> datetime:
    """Nanoseconds as a UTC datetime, cut to the microsecond."""
    return _instant(int(at))


@lru_cache(maxsize=1024)
def _instant(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at // 1000)


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Bars of one instrument and interval as columns, in time order and without overlap.

    Holes are allowed: what `filled` marks was put in by `fill_quiet`, everything else was said by
    the market. A slice is a view. `digests` are of the first pieces of rows as `engine.bar_hash`
    cuts them, where whoever read the bars knew them.
    """

    instrument_id: int
    interval: int
    opened_at: Instants
    closed_at: Instants
    open: Prices
    high: Prices
    low: Prices
    close: Prices
    volume: Prices
    filled: npt.NDArray[np.bool_]
    digests: tuple[bytes, ...] = field(default=(), kw_only=True)

    @classmethod
    def empty(cls, instrument_id: int, interval: int) -> Self:
        return cls._from_rows(instrument_id, interval, [])

    @classmethod
    def of(cls, bars: Sequence[Bar]) -> Self:
        """At least one bar, all of one instrument and interval, oldest first."""
        if not bars:
            raise BadMarketData("no bar says which instrument and interval: use Bars.empty")
        first = bars[0]
        for before, bar in pairwise(bars):
            if (bar.instrument_id, bar.interval) != (
                first.instrument_id,
                first.interval,
            ):
                raise BadMarketData("bars of different instruments or intervals")
            if bar.opened_at < before.closed_at:
                raise BadMarketData(f"bar at {bar.opened_at} begins inside the bar before it")
        return cls._from_rows(first.instrument_id, first.interval, bars)

    @classmethod
    def joined(cls, parts: Iterable[Bars]) -> Self:
        """One after the other. Empty parts may stand anywhere."""
        given = list(parts)
        if not given:
            raise BadMarketData("nothing to join")
        first = given[0]
        for part in given:
            if (part.instrument_id, part.interval) != (
                first.instrument_id,
                first.interval,
            ):
                raise BadMarketData("bars of different instruments or intervals")
        whole = [part for part in given if len(part)] or [first]
        for before, after in pairwise(whole):
            if after.opened_at[0] < before.closed_at[-1]:
                raise BadMarketData(
                    f"bars from {instant(after.opened_at[0])} begin inside those before them"
                )
        columns: Any = (np.concatenate([getattr(p, name) for p in whole]) for name in _COLUMNS)
        return cls(first.instrument_id, first.interval, *columns)

    @classmethod
    def _from_rows(cls, instrument_id: int, interval: int, bars: Sequence[Bar]) -> Self:
        columns: Any = (
            np.array([nanoseconds(bar.opened_at) for bar in bars], dtype=np.int64),
            np.array([nanoseconds(bar.closed_at) for bar in bars], dtype=np.int64),
            *(
                np.array([getattr(bar, name) for bar in bars], dtype=np.float64)
                for name in ("open", "high", "low", "close", "volume")
            ),
            np.array([bar.filled for bar in bars], dtype=np.bool_),
        )
        return cls(instrument_id, interval, *columns)

    def __len__(self) -> int:
        return len(self.opened_at)

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> Bars:
        """Some of the rows, in order. One row as a `Bar` is `bar(i)`."""
        columns: Any = (getattr(self, name)[rows] for name in _COLUMNS)
        known = self.digests if _from_the_first(rows) else ()
        return Bars(self.instrument_id, self.interval, *columns, digests=known)

    def __iter__(self) -> Iterator[Bar]:
        return (self.bar(row) for row in range(len(self)))

    def bar(self, row: int) -> Bar:
        """One row; -1 is the newest."""
        return Bar(
            self.instrument_id,
            self.interval,
            _instant(self.opened_at.item(row)),
            _instant(self.closed_at.item(row)),
            self.open.item(row),
            self.high.item(row),
            self.low.item(row),
            self.close.item(row),
            self.volume.item(row),
            self.filled.item(row),
        )

    def between(self, starts_at: datetime | None, ends_at: datetime | None) -> Bars:
        """The bars that lie wholly inside [starts_at, ends_at]; None is no bound."""
        first, last = 0, len(self)
        if starts_at is not None:
            first = int(np.searchsorted(self.opened_at, nanoseconds(starts_at), side="left"))
        if ends_at is not None:
            last = int(np.searchsorted(self.closed_at, nanoseconds(ends_at), side="right"))
        return self[first : max(first, last)]


def _from_the_first(rows: slice | npt.NDArray[Any]) -> bool:
    """Whether a slice begins at row 0 and leaves none out, so that whole pieces stay what they are."""
    return isinstance(rows, slice) and not rows.start and rows.step in (None, 1)


_COLUMNS: Final = (
    "opened_at",
    "closed_at",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "filled",
)


# Quiet intervals ------------------------------------------------------------------------------


def fill_quiet(
    bars: Bars, calendar: str, before: Bar | None = None, until: datetime | None = None
) -> Bars:
    """`bars` with a flat bar (previous close, no volume, `filled`) in every quiet interval.

    Only intervals under a day, and only those that lie wholly inside a session of `calendar`. A hole
    of more than 24 hours of session time stays a hole, and so does a US exchange's session without
    a single bar: that is a holiday. Bars that are there are never changed, so filling twice is
    filling once. `before` is the bar before the first, carried forward up to it; `until` carries
    the last one forward to a closing time.
    """
    if bars.interval * SECOND >= DAY:
        return bars
    opened, closed, closes = _ends_of_holes(bars, before, until)
    if len(closed) < 1:
        return bars
    holes = _Holes.between(opened, closed, bars.interval * SECOND, calendar)
    if not len(holes.opened_at):
        return bars
    return _with_flat(bars, holes.opened_at, closes[holes.after])


def _ends_of_holes(
    bars: Bars, before: Bar | None, until: datetime | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Prices]:
    """(opened, closed, close) of every bar a hole may follow; `opened` has one more: what ends the last."""
    opened, closed, closes = bars.opened_at, bars.closed_at, bars.close
    if before is not None:
        opened = np.concatenate([[nanoseconds(before.opened_at)], opened])
        closed = np.concatenate([[nanoseconds(before.closed_at)], closed])
        closes = np.concatenate([[before.close], closes])
    if len(closed):
        end = closed[-1] if until is None else max(int(closed[-1]), nanoseconds(until))
        opened = np.concatenate([opened, [end]])
    return opened.astype(np.int64), closed.astype(np.int64), closes


@dataclass(frozen=True, slots=True)
class _Holes:
    """Quiet intervals by opening time, and the bar (by row) each of them follows."""

    opened_at: Instants
    after: npt.NDArray[np.intp]

    @classmethod
    def between(cls, opened: Instants, closed: Instants, interval: int, calendar: str) -> _Holes:
        rows = np.flatnonzero(opened[1:] - closed >= interval)
        starts, ends, grid = closed[rows], opened[rows + 1], opened[rows]
        if calendar == "24/7":
            short = ends - starts <= LONGEST_QUIET
            return cls._on_grid(rows[short], starts[short], ends[short], grid[short], interval)
        pieces = [
            (row, *piece)
            for row, start, end, anchor in zip(
                rows.tolist(),
                starts.tolist(),
                ends.tolist(),
                grid.tolist(),
                strict=True,
            )
            for piece in _pieces(calendar, start, end, anchor)
        ]
        columns = np.array(pieces, dtype=np.int64).reshape(-1, 4).T
        return cls._on_grid(columns[0], columns[1], columns[2], columns[3], interval)

    @classmethod
    def _on_grid(
        cls,
        rows: npt.NDArray[np.signedinteger[Any]],
        starts: Instants,
        ends: Instants,
        anchors: Instants,
        interval: int,
    ) -> _Holes:
        """The intervals of the grid through `anchors` that lie wholly in [starts, ends)."""
        first = starts + (anchors - starts) % interval
        counts = np.maximum(0, (ends - first) // interval)
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        opened_at = np.repeat(first, counts) + number * interval
        return cls(opened_at.astype(np.int64), np.repeat(rows, counts).astype(np.intp))


def _pieces(calendar: str, start: int, end: int, anchor: int) -> list[tuple[int, int, int]]:
    """(start, end, grid anchor) of the parts of a hole to fill.

    Each session has its grid at the same distance from its opening as the bar before the hole has,
    so bars that begin at 09:30 New York do so on both sides of a clock change.
    """
    sessions = list(_sessions(calendar, min(anchor, start), end))
    inside = [(opens, max(start, opens), min(end, closes)) for opens, closes in sessions]
    inside = [piece for piece in inside if piece[1] < piece[2]]
    if sum(ends - starts for _, starts, ends in inside) > LONGEST_QUIET:
        return []
    home = [opens for opens, _ in sessions if opens <= anchor]
    offset = anchor - home[-1] if home else 0
    whole = {opens: closes for opens, closes in sessions if calendar == "XNYS"}
    return [
        (starts, ends, opens + offset)
        for opens, starts, ends in inside
        if not (starts == opens and ends == whole.get(opens))
    ]


def _sessions(calendar: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    """(opens, closes) of the sessions that may touch [first, last], and of the one before them."""
    opening, days, length, lead = _CALENDARS[calendar]
    day = instant(first).date() - timedelta(days=lead)
    end = instant(last).date() + timedelta(days=1)
    while day <= end:
        if day.weekday() in days:
            yield (
                _local(day, opening),
                _local(day + timedelta(days=length[0]), length[1]),
            )
        day += timedelta(days=1)


# When sessions open, on which weekdays, (days later, local time) they close, and how many days
# back the one before is sure to have opened. Exchange holidays are not known here.
_CALENDARS: Final = {
    "24/5": (time(17), frozenset({6}), (5, time(17)), 8),
    "XNYS": (time(9, 30), frozenset(range(5)), (0, time(16)), 4),
}


@lru_cache(maxsize=20_000)
def _local(day: date, at: time) -> int:
    """A New York wall-clock time as nanoseconds UTC."""
    return nanoseconds(datetime.combine(day, at, _NEW_YORK))


def _with_flat(bars: Bars, opened_at: Instants, closes: Prices) -> Bars:
    flat = Bars(
        bars.instrument_id,
        bars.interval,
        opened_at,
        opened_at + bars.interval * SECOND,
        closes,
        closes,
        closes,
        closes,
        np.zeros_like(closes),
        np.ones(len(closes), dtype=np.bool_),
    )
    order = np.argsort(np.concatenate([bars.opened_at, opened_at]), kind="stable")
    return Bars(
        bars.instrument_id,
        bars.interval,
        *(np.concatenate([getattr(bars, name), getattr(flat, name)])[order] for name in _COLUMNS),
    )


# Longer bars from shorter ones ------------------------------------------------------------------


class BadInterval(ValueError):
    """Bars of this interval cannot be made of those there are."""


def bad_interval(stored: int, interval: int) -> str:
    """Why bars of `interval` seconds cannot be made of bars of `stored` seconds, or ""."""
    if interval < stored or interval % stored:
        return f"bars of {interval} s cannot be made of bars of {stored} s: choose a multiple"
    if interval != stored and 86_400 % interval:
        return f"{interval} s do not divide a day: choose an interval such as 15m, 1h, 4h or 1d"
    return ""


def coarser(bars: Bars, interval: int, calendar: str) -> Bars:
    """Bars of `interval` seconds made of shorter ones: what the live builder makes of the same trades.

    Shorter ones than a day lie on the grid of multiples since 1970 in UTC. A day is the calendar's: from
    midnight to midnight UTC (24/7), the exchange's session (XNYS), or from 17:00 to 17:00 in New York
    (24/5); what traded outside the sessions is in no day. Filled bars say nothing: quiet intervals are
    filled anew. A bar at the end whose time is not over when the bars end is left out. Volumes are exact
    where they have up to 9 decimals.
    """
    problem = bad_interval(bars.interval, interval)
    if problem:
        raise BadInterval(problem)
    if interval == bars.interval:
        return bars
    traded = bars[~bars.filled] if bars.filled.any() else bars
    if not len(traded):
        return Bars.empty(bars.instrument_id, interval)
    traded, opened, closed = _spans(traded, interval, calendar)
    first = np.flatnonzero(np.concatenate(([True], opened[1:] != opened[:-1])))[: len(opened)]
    made = _gathered(traded, interval, opened[first], closed[first], first)
    return fill_quiet(made[: _over(made, int(bars.closed_at[-1]))], calendar)


def _over(bars: Bars, until: int) -> int:
    """How many of the bars have closed by then."""
    return int(np.searchsorted(bars.closed_at, until, side="right"))


def _spans(bars: Bars, interval: int, calendar: str) -> tuple[Bars, Instants, Instants]:
    """Bars, and when the longer bar that each belongs to opens and closes; without bars of no session."""
    if interval * SECOND == DAY and calendar != "24/7":
        return _sessions_of(bars, calendar)
    step = interval * SECOND
    opened = bars.opened_at - bars.opened_at % step
    if (bars.closed_at > opened + step).any():
        row = int(np.argmax(bars.closed_at > opened + step))
        raise BadInterval(
            f"the bar that opens at {instant(bars.opened_at[row])} lies across two bars of {interval} s"
        )
    return bars, opened, opened + step


def _sessions_of(bars: Bars, calendar: str) -> tuple[Bars, Instants, Instants]:
    days = _days(calendar, int(bars.opened_at[0]), int(bars.closed_at[-1]))
    day = np.searchsorted(days[:, 1], bars.opened_at, side="right")  # the first that ends later
    inside = day < len(days)
    inside[inside] = bars.closed_at[inside] > days[day[inside], 0]
    opens, closes = days[day[inside]].T
    return bars[inside], opens, closes


def _days(calendar: str, first: int, last: int) -> npt.NDArray[np.int64]:
    """(opens, closes) of each trading day that may touch [first, last], one a row."""
    opening, closing, before = _DAYS[calendar]
    day, spans = instant(first).date() - timedelta(days=1), []
    while day <= instant(last).date() + timedelta(days=1):
        if day.weekday() < 5:
            spans.append((_local(day - timedelta(days=before), opening), _local(day, closing)))
        day += timedelta(days=1)
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


# When a day opens and closes in New York, and how many days before its date it opens.
_DAYS: Final = {"XNYS": (time(9, 30), time(16), 0), "24/5": (time(17), time(17), 1)}


def _gathered(
    bars: Bars, interval: int, opened: Instants, closed: Instants, first: npt.NDArray[np.intp]
) -> Bars:
    """One bar for each run of rows that begins at one of `first`."""
    if not len(first):
        return Bars.empty(bars.instrument_id, interval)
    last = np.concatenate((first[1:], [len(bars)])) - 1
    return Bars(
        bars.instrument_id,
        interval,
        opened,
        closed,
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        _summed(bars.volume, first),
        np.zeros(len(first), np.bool_),
    )


_EXACT: Final = float(2**53)


def _summed(volume: Prices, first: npt.NDArray[np.intp]) -> Prices:
    """Sums of the decimal numbers that the floats stand for, if their digits fit; of the floats otherwise."""
    for decimals in range(10):
        unit = 10.0**decimals
        if (np.rint(volume[:1000] * unit) / unit == volume[:1000]).all():
            scaled = np.rint(volume * unit)
            if (scaled / unit == volume).all():
                sums = np.add.reduceat(scaled, first)
                if (sums < _EXACT).all():
                    return np.asarray(sums / unit)
    return np.asarray(np.add.reduceat(volume, first))


# Ticks to bars --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trading:
    """What traded in one interval so far. Times decide what was first and last, not arrival."""

    first_at: datetime
    last_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @classmethod
    def begun(cls, tick: Tick) -> _Trading:
        price = tick.price
        return cls(tick.traded_at, tick.traded_at, price, price, price, price, tick.quantity)

    def add(self, tick: Tick) -> None:
        if tick.traded_at < self.first_at:
            self.first_at, self.open = tick.traded_at, tick.price
        if tick.traded_at >= self.last_at:
            self.last_at, self.close = tick.traded_at, tick.price
        self.high = max(self.high, tick.price)
        self.low = min(self.low, tick.price)
        self.volume += tick.quantity


@dataclass(slots=True)
class BarBuilder:
    """Ticks of one instrument in, bars of one interval out, on the grid of multiples since 1970.

    Bars close by the clock (`close`), never because the next tick came. What was closed is never
    restated: ticks that come later are counted in `late`. `after` is the last bar already closed,
    to go on from.
    """

    instrument_id: int
    interval: int
    after: Bar | None = None
    late: int = 0
    _trading: dict[int, _Trading] = field(default_factory=dict)
    _last: float | None = None
    _closed_until: int | None = None

    def __post_init__(self) -> None:
        if self.after is not None:
            self._last = self.after.close
            self._closed_until = nanoseconds(self.after.closed_at)

    def add(self, tick: Tick) -> None:
        """Take a tick in. Ticks of intervals that are still open may come in any order."""
        at = nanoseconds(tick.traded_at)
        if self._closed_until is not None and at < self._closed_until:
            self.late += 1
            return
        opened_at = at - at % (self.interval * SECOND)
        trading = self._trading.get(opened_at)
        if trading is None:
            self._trading[opened_at] = _Trading.begun(tick)
        else:
            trading.add(tick)

    def close(self, at: datetime) -> Bar | None:
        """The bar of the interval that ends at `at`: flat if quiet, None before the first price.

        Intervals in between that nobody closed make no bar; their last price still carries.
        """
        closed_at = nanoseconds(at)
        opened_at = closed_at - self.interval * SECOND
        if closed_at % (self.interval * SECOND):
            raise ValueError(f"no bar of {self.interval} s closes at {at}")
        if self._closed_until is not None and closed_at <= self._closed_until:
            return None
        self._closed_until = closed_at
        for skipped in sorted(start for start in self._trading if start < opened_at):
            self._last = float(self._trading.pop(skipped).close)
        bar = self._bar(self._trading.pop(opened_at, None), instant(opened_at), at)
        if bar is not None:
            self._last = bar.close
        return bar

    def _bar(
        self, trading: _Trading | None, opened_at: datetime, closed_at: datetime
    ) -> Bar | None:
        span = (self.instrument_id, self.interval, opened_at, closed_at.astimezone(UTC))
        if trading is not None:
            return Bar(
                *span,
                open=float(trading.open),
                high=float(trading.high),
                low=float(trading.low),
                close=float(trading.close),
                volume=float(trading.volume),
            )
        if self._last is None:
            return None
        return Bar(*span, self._last, self._last, self._last, self._last, 0.0, filled=True)
