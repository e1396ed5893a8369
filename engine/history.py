"""Stored bars: reading a series, adding imported bars with revisions, keeping live ones, what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.bar_cache import BarCache, Held, Key, Newest, cache_of
from engine.bars import Bars, Instants, coarser, fill_quiet, instant
from engine.packing import BEGIN, COLUMNS, END, POSTGRES_EPOCH, Block, pack
from shared.domain.market import Bar

MICROSECOND: Final = 1_000

INSERT_BATCH: Final = 50_000
COPY_BLOCK: Final = 2_000


class NoSuchSeries(LookupError):
    """No series with this id."""


@dataclass(frozen=True, slots=True)
class NewBar:
    """One bar to add, its numbers as the text they arrived in, so that nothing is rounded on the way."""

    opened_at: datetime
    closed_at: datetime
    open: str
    high: str
    low: str
    close: str
    volume: str
    adjusted_close: str | None = None

    def line(self) -> str:
        """As one line of COPY's text format."""
        return "\t".join(
            (
                self.opened_at.isoformat(),
                self.closed_at.isoformat(),
                self.open,
                self.high,
                self.low,
                self.close,
                self.volume,
                r"\N" if self.adjusted_close is None else self.adjusted_close,
            )
        )


@dataclass(frozen=True, slots=True)
class Added:
    """What adding bars changed. `unchanged` bars were stored already, number for number."""

    read: int
    added: int
    revised: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What there is of a series. `filled` quiet intervals are not stored, only carried forward when read;
    `holes` are the longer stretches of missing bars, as (from, to)."""

    bars: int
    filled: int
    revised: int
    first_opened_at: datetime | None
    last_closed_at: datetime | None
    holes: tuple[tuple[datetime, datetime], ...]


# --- reading ----------------------------------------------------------------------------------------

LEAST_CACHED: Final = 2_000
"""Bars; PostgreSQL gives fewer as quickly as a file is opened and checked."""

_WHOLE: Final = 0.8
"""A range of this share of a series is read as the whole of it, to be kept."""

_KEPT_SHARE: Final = 64
"""A file is written anew once its series has grown by this part of it."""


def series_bars(
    session: Session,
    series_id: int,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    *,
    interval: int = 0,
) -> Bars:
    """The newest revision of each bar inside [starts_at, ends_at), quiet intervals filled.

    A bar counts as inside when it opens and closes inside. A quiet start of the range is filled from
    the bar before it. `interval` in seconds makes longer bars of the stored ones (`engine.bars.coarser`);
    BadInterval says why it cannot. Bars read before come from this machine's cache, if the session has one:
    the same bars, faster.
    """
    series = _series(session, series_id)
    if interval and interval != series.interval:
        finer = _read_all(session, series, None, None)
        return _inside(coarser(finer, interval, series.calendar), starts_at, ends_at)
    return _read_all(session, series, starts_at, ends_at)


def _read_all(
    session: Session, series: _Series, starts_at: datetime | None, ends_at: datetime | None
) -> Bars:
    cache = cache_of(session)
    if cache is not None and series.may_be_cached(starts_at, ends_at):
        held = _held(session, series, cache, series.share(starts_at, ends_at))
        if held is not None and (held.in_order or starts_at is ends_at is None):
            return _inside(held.bars, starts_at, ends_at)
    filled = fill_quiet(_stored(session, series, starts_at, ends_at), series.calendar)
    return filled.between(starts_at, ends_at)


def _inside(bars: Bars, starts_at: datetime | None, ends_at: datetime | None) -> Bars:
    """The bars of a range as they were known at its end: nothing is carried forward up to a later bar."""
    found = bars.between(starts_at, ends_at)
    if ends_at is None or not len(found) or not found.filled[-1]:
        return found
    traded = np.flatnonzero(~found.filled)
    return found[: int(traded[-1]) + 1] if len(traded) else found[:0]


@dataclass(frozen=True, slots=True)
class _Series:
    """A series as the session sees it now. `writing`: this transaction has changed something itself."""

    id: int
    instrument_id: int
    source: str
    interval: int
    calendar: str
    bars: int
    first_opened_at: datetime | None
    last_closed_at: datetime | None
    content: UUID
    appended: int
    writing: bool

    @property
    def key(self) -> Key:
        return Key(self.content, self.instrument_id, self.interval, self.calendar)

    def may_be_cached(self, starts_at: datetime | None, ends_at: datetime | None) -> bool:
        """Whether a file is worth it, and safe: what is not committed yet must not be kept."""
        return not self.writing and self.bars * self.share(starts_at, ends_at) >= LEAST_CACHED

    def share(self, starts_at: datetime | None, ends_at: datetime | None) -> float:
        """About how much of the series a range holds, from 0 to 1."""
        if self.first_opened_at is None or self.last_closed_at is None:
            return 0.0
        starts_at = max(starts_at or self.first_opened_at, self.first_opened_at)
        ends_at = min(ends_at or self.last_closed_at, self.last_closed_at)
        return max(0.0, (ends_at - starts_at) / (self.last_closed_at - self.first_opened_at))


_SERIES: Final = sa.text(
    """
    SELECT series.id, series.instrument_id, series.source, series.interval, instruments.calendar,
           series.bars, series.first_opened_at, series.last_closed_at, series.content, series.appended,
           pg_current_xact_id_if_assigned() IS NOT NULL AS writing
    FROM series JOIN instruments ON instruments.id = series.instrument_id
    WHERE series.id = :id
    """
)


def _series(session: Session, series_id: int) -> _Series:
    found = session.execute(_SERIES, {"id": series_id}).one_or_none()
    if found is None:
        raise NoSuchSeries(f"there is no series {series_id}")
    return _Series(*found)


def _held(session: Session, series: _Series, cache: BarCache, share: float) -> Held | None:
    """All bars of the series, out of the cache or read to be kept in it; None where neither will do."""
    held = cache.get(series.key)
    if held is not None and series.appended:
        held = _grown(session, series, cache, held)
    if held is None and (share >= _WHOLE or cache.asked_before(series.key)):
        held = _read_to_keep(session, series, cache)
    return held


def _grown(session: Session, series: _Series, cache: BarCache, held: Held) -> Held | None:
    """What is held and the bars that were appended since; None if they do not follow each other."""
    rows = _stored(session, series, instant(held.newest.opened_at), None)
    new = rows[rows.opened_at > held.newest.opened_at]
    if _newest(session, series, held.newest.opened_at) != held.newest:
        return None
    if not len(new):
        return held
    filled = fill_quiet(new, series.calendar, before=held.bars.bar(-1))
    if filled.opened_at[0] < held.bars.closed_at[-1]:
        return None
    both = replace(Bars.joined([held.bars, filled]), digests=held.bars.digests)
    newest = _newest(session, series, int(both.opened_at[-1]))
    if newest is None:
        return None
    grown = Held.of(both, newest)
    if len(new) >= max(LEAST_CACHED, len(held.bars) // _KEPT_SHARE):
        cache.put(series.key, grown)
    return grown


def _read_to_keep(session: Session, series: _Series, cache: BarCache) -> Held | None:
    """All bars, and a file of them, unless a writer came between."""
    bars = fill_quiet(_stored(session, series, None, None), series.calendar)
    newest = _newest(session, series, int(bars.opened_at[-1])) if len(bars) else None
    if newest is None:
        return None
    held = Held.of(bars, newest)
    cache.put(series.key, held)
    return held


def _newest(session: Session, series: _Series, opened_at: int) -> Newest | None:
    """The stored bar of this time, while the series still has the content it had when it was looked up."""
    found = session.execute(
        _NEWEST, {"id": series.id, "content": series.content, "opened_at": instant(opened_at)}
    ).one_or_none()
    return None if found is None else Newest(opened_at, *found)


_NEWEST: Final = sa.text(
    """
    SELECT bars.revision, (extract(epoch FROM bars.recorded_at) * 1000000)::int8
    FROM series JOIN bars USING (instrument_id, source, interval)
    WHERE series.id = :id AND series.content = :content AND bars.opened_at = :opened_at
    ORDER BY bars.revision DESC LIMIT 1
    """
)


# Every column has a fixed width in COPY's binary format, so all rows are one array.
_COLUMNS: Final = ("opened_at", "closed_at", "open", "high", "low", "close", "volume")
_HEADER_BYTES: Final = 19  # signature 11, flags 4, extension length 4
_ROW: Final = np.dtype(
    [("fields", ">i2")]
    + [
        part
        for name in _COLUMNS
        for part in ((f"{name}_bytes", ">i4"), (name, ">i8" if name.endswith("_at") else ">f8"))
    ]
)


# Backwards through the primary key: the newest revision of each bar comes first. The bar before the
# range comes along, so that a quiet start can be filled from it.
_READ: Final = """
    COPY (
        SELECT DISTINCT ON (opened_at) opened_at, closed_at,
               open::float8, high::float8, low::float8, close::float8, volume::float8
        FROM bars
        WHERE instrument_id = %(instrument)s AND source = %(source)s AND interval = %(interval)s
          AND (%(starts_at)s::timestamptz IS NULL OR opened_at >= coalesce(
              (SELECT max(opened_at) FROM bars
               WHERE instrument_id = %(instrument)s AND source = %(source)s
                 AND interval = %(interval)s AND opened_at < %(starts_at)s::timestamptz),
              %(starts_at)s::timestamptz))
          AND (%(ends_at)s::timestamptz IS NULL
               OR (opened_at < %(ends_at)s::timestamptz AND closed_at <= %(ends_at)s::timestamptz))
        ORDER BY opened_at DESC, revision DESC
    ) TO STDOUT (FORMAT BINARY)
"""


def _stored(
    session: Session, series: _Series, starts_at: datetime | None, ends_at: datetime | None
) -> Bars:
    """Bars as they are stored: raw and sparse, and the last one before `starts_at` with them."""
    arguments = {
        "instrument": series.instrument_id,
        "source": series.source,
        "interval": series.interval,
        "starts_at": starts_at,
        "ends_at": ends_at,
    }
    with _driver(session.connection()).cursor().copy(_READ, arguments) as copy:
        raw = b"".join(copy)
    rows = np.frombuffer(
        raw, _ROW, offset=_HEADER_BYTES, count=(len(raw) - _HEADER_BYTES) // _ROW.itemsize
    )
    rows = rows[::-1]
    prices: dict[str, Any] = {name: rows[name].astype(np.float64) for name in _COLUMNS[2:]}
    return Bars(
        instrument_id=series.instrument_id,
        interval=series.interval,
        opened_at=_from_postgres(rows["opened_at"]),
        closed_at=_from_postgres(rows["closed_at"]),
        **prices,
        filled=np.zeros(len(rows), np.bool_),
    )


def _from_postgres(microseconds: np.ndarray[Any, Any]) -> Instants:
    """Microseconds since 2000 as nanoseconds since 1970."""
    return (microseconds.astype(np.int64) + POSTGRES_EPOCH) * MICROSECOND


def _driver(connection: sa.Connection) -> psycopg.Connection[Any]:
    """psycopg's own connection, for COPY; it is inside SQLAlchemy's transaction."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def coverage(session: Session, series_id: int) -> Coverage:
    """How much of a series there is, and where it has holes that are no quiet intervals."""
    series = _series(session, series_id)
    bars = _read_all(session, series, None, None)
    revised = session.scalar(
        sa.text(
            "SELECT count(*) FROM bars WHERE instrument_id = :instrument AND source = :source"
            " AND interval = :interval AND revision > 0"
        ),
        {
            "instrument": series.instrument_id,
            "source": series.source,
            "interval": series.interval,
        },
    )
    filled = int(bars.filled.sum())
    return Coverage(
        bars=len(bars) - filled,
        filled=filled,
        revised=revised or 0,
        first_opened_at=instant(bars.opened_at[0]) if len(bars) else None,
        last_closed_at=instant(bars.closed_at[-1]) if len(bars) else None,
        holes=tuple(_holes(bars)),
    )


def _holes(bars: Bars) -> Iterator[tuple[datetime, datetime]]:
    """Stretches of more than four days without a bar: longer than any week-end with a holiday."""
    between = bars.opened_at[1:] - bars.closed_at[:-1]
    longest = max(4 * 86_400, 2 * bars.interval) * 1_000_000_000
    for i in np.flatnonzero(between > longest):
        yield instant(bars.closed_at[i]), instant(bars.opened_at[i + 1])


# --- writing ----------------------------------------------------------------------------------------


def series_of(
    connection: sa.Connection,
    instrument_id: int,
    source: str,
    interval: int,
    *,
    simulated: bool = False,
) -> int:
    """The id of this series, made if it is new."""
    return int(
        connection.execute(
            sa.text(
                "INSERT INTO series (instrument_id, source, interval, simulated)"
                " VALUES (:instrument, :source, :interval, :simulated)"
                " ON CONFLICT (instrument_id, source, interval) DO UPDATE SET source = EXCLUDED.source"
                " RETURNING id"
            ),
            {
                "instrument": instrument_id,
                "source": source,
                "interval": interval,
                "simulated": simulated,
            },
        ).scalar_one()
    )


class Adding:
    """Bars on their way into one or more series, inside one transaction of the caller's.

    `take` or `take_blocks`, then `store`. Nothing is visible before the caller commits. While none of the
    series has bars, they go straight in (`direct`); else they wait in a temporary table to be compared
    with what is there.
    """

    def __init__(
        self, connection: sa.Connection, series_ids: int | Iterable[int], job_id: UUID | None
    ) -> None:
        self._connection = connection
        self._job_id = job_id
        wanted = [series_ids] if isinstance(series_ids, int) else sorted(set(series_ids))
        # Whoever adds to a series waits for whoever is adding to it already.
        rows = connection.execute(_LOCK_SERIES, {"ids": wanted}).all()
        self._series = {row.id: _Key(row.instrument_id, row.source, row.interval) for row in rows}
        self._counts = {id_: _Counts() for id_ in wanted}
        self.direct = not connection.execute(_HAVE_BARS, {"ids": wanted}).scalar_one()
        if not self.direct:
            connection.execute(_MAKE_INCOMING)

    def take(self, lines: Iterable[str], series_id: int | None = None) -> None:
        """Send lines of (opened_at, closed_at, open, high, low, close, volume, adjusted close or \\N).

        Times are ISO 8601 with their offset. `series_id` where there are several series.
        """
        id_ = series_id if series_id is not None else next(iter(self._series))
        self.take_lines((id_, line) for line in lines)

    def take_lines(self, lines: Iterable[tuple[int, str]]) -> None:
        """As `take`, each line with its series."""
        before = {
            id_: f"{k.instrument_id}\t{k.source}\t{k.interval}\t" for id_, k in self._series.items()
        }
        after = f"\t{self._job_id or _NULL}\n"
        remaining = iter(lines)
        with self._copy("") as copy:
            while block := list(islice(remaining, COPY_BLOCK)):
                copy.write("".join([f"{before[id_]}{line}{after}" for id_, line in block]))
                for id_, times in Counter(id_ for id_, _ in block).items():
                    self._counts[id_].taken += times

    def take_blocks(self, blocks: Iterable[tuple[int, Block]]) -> None:
        """Send blocks of bars, each with its series, in COPY's binary format."""
        with self._copy("(FORMAT BINARY)") as copy:
            copy.write(BEGIN)
            for id_, block in blocks:
                key = self._series[id_]
                copy.write(pack(block, key.instrument_id, key.source, key.interval, self._job_id))
                self._counts[id_].taken += len(block)
            copy.write(END)

    def _copy(self, options: str) -> AbstractContextManager[psycopg.Copy]:
        table = "bars" if self.direct else "incoming"
        cursor = _driver(self._connection).cursor()
        return cursor.copy(f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN {options}")

    def store(self) -> Iterator[tuple[int, int]]:
        """Move what was taken into the series, batch by batch; yields (bars dealt with, bars in all).

        Ask `added` afterwards.
        """
        taken = sum(counts.taken for counts in self._counts.values())
        if self.direct:
            for counts in self._counts.values():
                counts.new = counts.taken
        else:
            self._connection.execute(sa.text("ANALYZE incoming"))
            for start in range(0, taken, INSERT_BATCH):
                self._store_batch(start, start + INSERT_BATCH)
                yield min(start + INSERT_BATCH, taken), taken
            self._connection.execute(sa.text("DROP TABLE incoming"))
        for id_, counts in self._counts.items():
            totals = {"id": id_, "new": counts.new, "highest": counts.highest}
            self._connection.execute(_UPDATE_SERIES, totals)

    def _store_batch(self, after: int, upto: int) -> None:
        ids = {(key.instrument_id, key.interval): id_ for id_, key in self._series.items()}
        for row in self._connection.execute(_STORE, {"after": after, "upto": upto}):
            counts = self._counts[ids[row.instrument_id, row.interval]]
            counts.new += row.new
            counts.revised += row.revised
            counts.highest = max(counts.highest, row.highest)

    @property
    def added(self) -> Added:
        """Of all series together."""
        each = [self.added_to(id_) for id_ in self._counts]
        return Added(*(sum(getattr(one, name) for one in each) for name in Added.__slots__))

    def added_to(self, series_id: int) -> Added:
        counts = self._counts[series_id]
        unchanged = counts.taken - counts.new - counts.revised
        return Added(counts.taken, counts.new, counts.revised, unchanged)


@dataclass(frozen=True, slots=True)
class _Key:
    instrument_id: int
    source: str
    interval: int


@dataclass(slots=True)
class _Counts:
    taken: int = 0
    new: int = 0
    revised: int = 0
    highest: int = 0


_NULL: Final = r"\N"

_LOCK_SERIES: Final = sa.text(
    "SELECT id, instrument_id, source, interval FROM series WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"
)

_HAVE_BARS: Final = sa.text(
    "SELECT EXISTS (SELECT FROM series JOIN bars USING (instrument_id, source, interval)"
    " WHERE series.id = ANY(:ids))"
)

_MAKE_INCOMING: Final = sa.text(
    "CREATE TEMPORARY TABLE incoming (number bigint GENERATED ALWAYS AS IDENTITY, instrument_id bigint,"
    " source text, interval bigint, opened_at timestamptz, closed_at timestamptz, open numeric,"
    " high numeric, low numeric, close numeric, volume numeric, adjusted_close numeric, job_id uuid)"
    " ON COMMIT DROP"
)

# New bars get revision 0, changed ones the next revision, and the same bar again is left alone.
_STORE: Final = sa.text(
    """
    WITH stored AS (
        INSERT INTO bars (instrument_id, source, interval, opened_at, revision, closed_at,
                          open, high, low, close, volume, adjusted_close, job_id)
        SELECT incoming.instrument_id, incoming.source, incoming.interval, incoming.opened_at,
               coalesce(newest.revision + 1, 0), incoming.closed_at,
               incoming.open, incoming.high, incoming.low, incoming.close,
               incoming.volume, incoming.adjusted_close, incoming.job_id
        FROM incoming
        LEFT JOIN LATERAL (
            SELECT * FROM bars
            WHERE bars.instrument_id = incoming.instrument_id AND bars.source = incoming.source
              AND bars.interval = incoming.interval AND bars.opened_at = incoming.opened_at
            ORDER BY bars.revision DESC LIMIT 1
        ) AS newest ON true
        WHERE incoming.number > :after AND incoming.number <= :upto
          AND (newest.closed_at, newest.open, newest.high, newest.low, newest.close, newest.volume,
               newest.adjusted_close)
              IS DISTINCT FROM
              (incoming.closed_at, incoming.open, incoming.high, incoming.low, incoming.close,
               incoming.volume, incoming.adjusted_close)
        RETURNING instrument_id, interval, revision
    )
    SELECT instrument_id, interval, count(*) FILTER (WHERE revision = 0) AS new,
           count(*) FILTER (WHERE revision > 0) AS revised, max(revision) AS highest
    FROM stored GROUP BY instrument_id, interval
    """
)

_UPDATE_SERIES: Final = sa.text(
    """
    UPDATE series SET
        bars = series.bars + :new,
        first_opened_at = (
            SELECT min(bars.opened_at) FROM bars
            WHERE bars.instrument_id = series.instrument_id AND bars.source = series.source
              AND bars.interval = series.interval),
        last_closed_at = (
            SELECT bars.closed_at FROM bars
            WHERE bars.instrument_id = series.instrument_id AND bars.source = series.source
              AND bars.interval = series.interval
            ORDER BY bars.opened_at DESC, bars.revision DESC LIMIT 1),
        revision = greatest(series.revision, :highest),
        updated_at = clock_timestamp()
    WHERE id = :id
    """
)


def add_bars(
    connection: sa.Connection, series_id: int, bars: Iterable[NewBar], job_id: UUID | None = None
) -> Added:
    """Add bars to a series inside the caller's transaction: all or nothing."""
    adding = Adding(connection, series_id, job_id)
    adding.take(bar.line() for bar in bars)
    for _ in adding.store():
        pass
    return adding.added


def store_live_bars(
    connection: sa.Connection,
    bars: Sequence[Bar] | Bars,
    source: str = "simulated",
    *,
    simulated: bool = True,
) -> int:
    """Append the engine's own closed bars; how many were new. Filled ones are not stored.

    Storing the same bar again changes nothing: a live bar is never restated.
    """
    rows = [_live_row(bar) for bar in _each(bars) if not bar.filled]
    stored = 0
    for start in range(0, len(rows), INSERT_BATCH):
        columns = [list(column) for column in zip(*rows[start : start + INSERT_BATCH], strict=True)]
        arguments = {**dict(zip(_LIVE_COLUMNS, columns, strict=True)), "source": source}
        connection.execute(_MAKE_SERIES, {**arguments, "simulated": simulated})
        stored += int(connection.execute(_STORE_LIVE, arguments).scalar_one())
    return stored


def _each(bars: Sequence[Bar] | Bars) -> Iterator[Bar]:
    if isinstance(bars, Bars):
        return (bars.bar(i) for i in range(len(bars)))
    return iter(bars)


def _live_row(bar: Bar) -> tuple[Any, ...]:
    """A price's shortest decimal form is the price the market named: see `shared.domain.market.Bar`."""
    prices = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    return (
        bar.instrument_id,
        bar.interval,
        bar.opened_at,
        bar.closed_at,
        *(Decimal(repr(price)) for price in prices),
    )


_LIVE_COLUMNS: Final = (
    "instruments",
    "intervals",
    "opened",
    "closed",
    "open",
    "high",
    "low",
    "close",
    "volume",
)

_MAKE_SERIES: Final = sa.text(
    """
    INSERT INTO series (instrument_id, source, interval, simulated)
    SELECT DISTINCT instrument_id, :source, interval, CAST(:simulated AS boolean)
    FROM unnest(CAST(:instruments AS bigint[]), CAST(:intervals AS bigint[]))
        AS live (instrument_id, interval)
    ON CONFLICT (instrument_id, source, interval) DO NOTHING
    """
)

_STORE_LIVE: Final = sa.text(
    """
    WITH stored AS (
        INSERT INTO bars (instrument_id, source, interval, opened_at, closed_at,
                          open, high, low, close, volume)
        SELECT instrument_id, :source, interval, opened_at, closed_at, open, high, low, close, volume
        FROM unnest(CAST(:instruments AS bigint[]), CAST(:intervals AS bigint[]),
                    CAST(:opened AS timestamptz[]), CAST(:closed AS timestamptz[]),
                    CAST(:open AS numeric[]), CAST(:high AS numeric[]), CAST(:low AS numeric[]),
                    CAST(:close AS numeric[]), CAST(:volume AS numeric[]))
            AS live (instrument_id, interval, opened_at, closed_at, open, high, low, close, volume)
        ON CONFLICT DO NOTHING
        RETURNING instrument_id, interval, opened_at, closed_at
    ), kept AS (
        SELECT instrument_id, interval, count(*) AS bars, min(opened_at) AS first, max(closed_at) AS last
        FROM stored GROUP BY instrument_id, interval
    ), counted AS (
        UPDATE series SET
            bars = series.bars + kept.bars,
            first_opened_at = least(series.first_opened_at, kept.first),
            last_closed_at = greatest(series.last_closed_at, kept.last),
            appended = CASE WHEN kept.first >= series.last_closed_at
                            THEN series.appended + kept.bars ELSE 0 END,
            updated_at = clock_timestamp()
        FROM kept
        WHERE series.instrument_id = kept.instrument_id AND series.source = :source
          AND series.interval = kept.interval
        RETURNING kept.bars
    )
    SELECT coalesce(sum(bars), 0) FROM counted
    """
)
