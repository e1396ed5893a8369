"""Stored bars: reading a series, adding imported bars with revisions, keeping live ones, what there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Final
from uuid import UUID

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.bars import Bars, Instants, fill_quiet, instant
from shared.db.market import InstrumentRow, SeriesRow
from shared.domain.market import Bar

MICROSECOND: Final = 1_000
POSTGRES_EPOCH: Final = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970

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


def series_bars(
    session: Session,
    series_id: int,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Bars:
    """The newest revision of each bar inside [starts_at, ends_at), quiet intervals filled.

    A bar counts as inside when it opens and closes inside. A quiet start of the range is filled from
    the bar before it.
    """
    series, calendar = _series(session, series_id)
    bars = fill_quiet(_stored(session, series, starts_at, ends_at), calendar)
    return bars.between(starts_at, ends_at)


def _series(session: Session, series_id: int) -> tuple[SeriesRow, str]:
    found = session.execute(
        sa.select(SeriesRow, InstrumentRow.calendar)
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .where(SeriesRow.id == series_id)
    ).one_or_none()
    if found is None:
        raise NoSuchSeries(f"there is no series {series_id}")
    return found[0], found[1]


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
    session: Session, series: SeriesRow, starts_at: datetime | None, ends_at: datetime | None
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
    return Bars(
        instrument_id=series.instrument_id,
        interval=series.interval,
        opened_at=_from_postgres(rows["opened_at"]),
        closed_at=_from_postgres(rows["closed_at"]),
        **{name: rows[name].astype(np.float64) for name in _COLUMNS[2:]},
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
    series, _ = _series(session, series_id)
    bars = series_bars(session, series_id)
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
    """Bars on their way into a series, inside one transaction of the caller's.

    `take` the bars as lines of COPY's text format, then `store` them. Nothing is visible before the
    caller commits. A series without bars takes them straight in (`direct`); else they wait in a temporary
    table to be compared with what is there.
    """

    def __init__(self, connection: sa.Connection, series_id: int, job_id: UUID | None) -> None:
        self._connection = connection
        self._series_id = series_id
        # Whoever adds to one series waits for whoever is adding to it already.
        series = connection.execute(
            sa.text("SELECT instrument_id, source, interval FROM series WHERE id = :id FOR UPDATE"),
            {"id": series_id},
        ).one()
        self._key = {
            "instrument": series.instrument_id,
            "source": series.source,
            "interval": series.interval,
        }
        self._job_id = job_id
        self._taken = self._new = self._revised = self._highest = 0
        self.direct = not connection.execute(_HAS_BARS, self._key).scalar_one()
        if not self.direct:
            connection.execute(_MAKE_INCOMING)

    def take(self, lines: Iterable[str]) -> None:
        """Send lines of (opened_at, closed_at, open, high, low, close, volume, adjusted close or \\N).

        Times are ISO 8601 with their offset.
        """
        if self.direct:
            before = f"{self._key['instrument']}\t{self._key['source']}\t{self._key['interval']}\t"
            after = f"\t{self._job_id or _NULL}"
            lines = (before + line + after for line in lines)
        remaining = iter(lines)
        while first := next(remaining, None):
            # Several COPYs rather than one: each checks its rows' references at its end.
            self._copy(chain((first,), islice(remaining, INSERT_BATCH - 1)))
        if self.direct:
            self._new = self._taken

    def _copy(self, lines: Iterable[str]) -> None:
        statement = _COPY_BARS if self.direct else _COPY_INCOMING
        with _driver(self._connection).cursor().copy(statement) as copy:
            remaining = iter(lines)
            while block := list(islice(remaining, COPY_BLOCK)):
                copy.write("\n".join(block) + "\n")
                self._taken += len(block)

    def store(self) -> Iterator[tuple[int, int]]:
        """Move what was taken into the series, batch by batch; yields (bars dealt with, bars in all).

        Ask `added` afterwards.
        """
        if not self.direct:
            self._connection.execute(sa.text("ANALYZE incoming"))
            for start in range(0, self._taken, INSERT_BATCH):
                self._store_batch(start, start + INSERT_BATCH)
                yield min(start + INSERT_BATCH, self._taken), self._taken
            self._connection.execute(sa.text("DROP TABLE incoming"))
        totals = {"id": self._series_id, "new": self._new, "highest": self._highest}
        self._connection.execute(_UPDATE_SERIES, {**self._key, **totals})

    def _store_batch(self, after: int, upto: int) -> None:
        limits = {"job": self._job_id, "after": after, "upto": upto}
        row = self._connection.execute(_STORE, {**self._key, **limits}).one()
        self._new += row.new
        self._revised += row.revised
        self._highest = max(self._highest, row.highest)

    @property
    def added(self) -> Added:
        unchanged = self._taken - self._new - self._revised
        return Added(self._taken, self._new, self._revised, unchanged)


_NULL: Final = r"\N"

_HAS_BARS: Final = sa.text(
    "SELECT EXISTS (SELECT FROM bars WHERE instrument_id = :instrument AND source = :source"
    " AND interval = :interval)"
)

_MAKE_INCOMING: Final = sa.text(
    "CREATE TEMPORARY TABLE incoming (number bigint GENERATED ALWAYS AS IDENTITY,"
    " opened_at timestamptz, closed_at timestamptz, open numeric, high numeric, low numeric,"
    " close numeric, volume numeric, adjusted_close numeric) ON COMMIT DROP"
)

_COPY_INCOMING: Final = "COPY incoming (opened_at, closed_at, open, high, low, close, volume, adjusted_close) FROM STDIN"

_COPY_BARS: Final = (
    "COPY bars (instrument_id, source, interval, opened_at, closed_at, open, high, low, close, volume,"
    " adjusted_close, job_id) FROM STDIN"
)

# New bars get revision 0, changed ones the next revision, and the same bar again is left alone.
_STORE: Final = sa.text(
    """
    WITH stored AS (
        INSERT INTO bars (instrument_id, source, interval, opened_at, revision, closed_at,
                          open, high, low, close, volume, adjusted_close, job_id)
        SELECT :instrument, :source, :interval, incoming.opened_at,
               coalesce(newest.revision + 1, 0), incoming.closed_at,
               incoming.open, incoming.high, incoming.low, incoming.close,
               incoming.volume, incoming.adjusted_close, :job
        FROM incoming
        LEFT JOIN LATERAL (
            SELECT * FROM bars
            WHERE bars.instrument_id = :instrument AND bars.source = :source
              AND bars.interval = :interval AND bars.opened_at = incoming.opened_at
            ORDER BY bars.revision DESC LIMIT 1
        ) AS newest ON true
        WHERE incoming.number > :after AND incoming.number <= :upto
          AND (newest.closed_at, newest.open, newest.high, newest.low, newest.close, newest.volume,
               newest.adjusted_close)
              IS DISTINCT FROM
              (incoming.closed_at, incoming.open, incoming.high, incoming.low, incoming.close,
               incoming.volume, incoming.adjusted_close)
        RETURNING revision
    )
    SELECT count(*) FILTER (WHERE revision = 0) AS new, count(*) FILTER (WHERE revision > 0) AS revised,
           coalesce(max(revision), 0) AS highest
    FROM stored
    """
)

_UPDATE_SERIES: Final = sa.text(
    """
    UPDATE series SET
        bars = bars + :new,
        first_opened_at = (
            SELECT min(opened_at) FROM bars
            WHERE instrument_id = :instrument AND source = :source AND interval = :interval),
        last_closed_at = (
            SELECT closed_at FROM bars
            WHERE instrument_id = :instrument AND source = :source AND interval = :interval
            ORDER BY opened_at DESC, revision DESC LIMIT 1),
        revision = greatest(revision, :highest),
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
            updated_at = clock_timestamp()
        FROM kept
        WHERE series.instrument_id = kept.instrument_id AND series.source = :source
          AND series.interval = kept.interval
        RETURNING kept.bars
    )
    SELECT coalesce(sum(bars), 0) FROM counted
    """
)
