"""The content of a series: its bars exactly as stored, and the hash of them.

The hash is SHA-256 over one line a bar, newest first, newest revision only, numbers without trailing zeros:
the same bars give the same hash on every installation, whichever way they came in.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.bars import Bars, Prices, instant, nanoseconds
from engine.history import NoSuchSeries
from shared.db.market import InstrumentRow, SeriesRow

_COLUMNS: Final = ("opened_at", "closed_at", "open", "high", "low", "close", "volume", "adjusted")
_MICROSECOND: Final = 1_000

_READ: Final = """
    COPY (
        SELECT DISTINCT ON (opened_at)
               (extract(epoch FROM opened_at) * 1000000)::int8,
               (extract(epoch FROM closed_at) * 1000000)::int8,
               trim_scale(open), trim_scale(high), trim_scale(low), trim_scale(close),
               trim_scale(volume), trim_scale(adjusted_close)
        FROM bars
        WHERE instrument_id = %(instrument)s AND source = %(source)s AND interval = %(interval)s
        ORDER BY opened_at DESC, revision DESC
    ) TO STDOUT (FORMAT CSV)
"""


@dataclass(frozen=True, slots=True)
class Content:
    """Stored bars without any that are filled; `adjusted` closes, NaN where there is none, or None."""

    bars: Bars
    adjusted: Prices | None
    hash: str


@dataclass(frozen=True, slots=True)
class Series:
    """A series with what its instrument says about it. `change` counts the changes of its bars."""

    id: int
    instrument_id: int
    venue: str
    symbol: str
    source: str
    interval: int
    calendar: str
    tick: Any
    change: int
    content_hash: str | None
    """Of the bars as they are now; None until it is worked out again."""


def series_of_id(session: Session, series_id: int) -> Series:
    """The series; NoSuchSeries for an id nobody has."""
    found = session.execute(
        sa.select(SeriesRow, InstrumentRow)
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .where(SeriesRow.id == series_id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NoSuchSeries(f"there is no series {series_id}")
    row, instrument = found
    return Series(
        id=row.id,
        instrument_id=instrument.id,
        venue=instrument.venue,
        symbol=instrument.symbol,
        source=row.source,
        interval=row.interval,
        calendar=instrument.calendar,
        tick=instrument.tick_size,
        change=row.changes,
        content_hash=row.content_hash if row.hashed_change == row.changes else None,
    )


def one_moment(session: Session) -> None:
    """Let everything this session reads until its next commit be of one moment; ask before reading.

    Bars and the count of their changes then belong together, however busy a writer is.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def read(session: Session, series: Series) -> Content:
    """All bars of the series, with their hash."""
    raw = b"".join(_lines(session, series))
    digest = hashlib.sha256(_head(series))
    digest.update(raw)
    return _content(series, raw, digest.hexdigest())


def content_hash(session: Session, series_id: int) -> str:
    """The hash of a series as this session sees it; kept with it, so that it is worked out once."""
    series = series_of_id(session, series_id)
    if series.content_hash is not None:
        return series.content_hash
    digest = hashlib.sha256(_head(series))
    for lines in _lines(session, series):
        digest.update(lines)
    _keep_apart(session, series, digest.hexdigest())
    return digest.hexdigest()


def _keep_apart(session: Session, series: Series, found: str) -> None:
    """Keep a hash without a change in the session's own transaction, and without waiting for a writer."""
    bind = session.get_bind()
    if not isinstance(bind, sa.Engine):
        return
    free = (
        sa.select(SeriesRow.id).where(SeriesRow.id == series.id).with_for_update(skip_locked=True)
    )
    with Session(bind) as own:
        if own.scalar(free) is not None:
            keep_hash(own, series, found)
            own.commit()


def _lines(session: Session, series: Series) -> Iterator[bytes]:
    """Newest first, which is how the primary key gives the newest revision of each."""
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    key = {
        "instrument": series.instrument_id,
        "source": series.source,
        "interval": series.interval,
    }
    with driver.cursor().copy(_READ, key) as copy:
        yield from map(bytes, copy)


def _head(series: Series) -> bytes:
    return f"{series.venue}\t{series.symbol}\t{series.source}\t{series.interval}\n".encode()


def _content(series: Series, raw: bytes, content_hash: str) -> Content:
    import pandas as pd  # not needed for bars that are read from their file

    types = {name: "int64" if name.endswith("_at") else "float64" for name in _COLUMNS}
    frame = pd.read_csv(io.BytesIO(raw), header=None, names=list(_COLUMNS), dtype=types)[::-1]
    columns = {name: frame[name].to_numpy() for name in _COLUMNS}
    prices: dict[str, Any] = {name: np.ascontiguousarray(columns[name]) for name in _COLUMNS[2:7]}
    bars = Bars(
        instrument_id=series.instrument_id,
        interval=series.interval,
        opened_at=columns["opened_at"] * _MICROSECOND,
        closed_at=columns["closed_at"] * _MICROSECOND,
        **prices,
        filled=np.zeros(len(frame), np.bool_),
    )
    adjusted = columns["adjusted"]
    return Content(bars, None if np.isnan(adjusted).all() else adjusted, content_hash)


def keep_hash(session: Session, series: Series, content_hash: str) -> bool:
    """Store the hash with the series, unless bars came in meanwhile; whether it was. The caller commits."""
    kept = session.execute(
        sa.update(SeriesRow)
        .where(SeriesRow.id == series.id, SeriesRow.changes == series.change)
        .values(content_hash=content_hash, hashed_change=series.change)
        .returning(SeriesRow.id)
    )
    return kept.scalar() is not None


def adjusted_closes(session: Session, bars: Bars, source: str) -> Prices | None:
    """The adjusted close of each of these bars, NaN where there is none; None when there are none at all."""
    if not len(bars):
        return None
    rows = session.execute(
        _ADJUSTED,
        {
            "instrument": bars.instrument_id,
            "source": source,
            "interval": bars.interval,
            "first": instant(bars.opened_at[0]),
            "last": instant(bars.opened_at[-1]),
        },
    ).all()
    if not rows:
        return None
    adjusted = np.full(len(bars), np.nan)
    at = np.searchsorted(bars.opened_at, [nanoseconds(row[0]) for row in rows])
    adjusted[at] = [row[1] for row in rows]
    return adjusted


_ADJUSTED: Final = sa.text(
    """
    SELECT opened_at, adjusted_close FROM (
        SELECT DISTINCT ON (opened_at) opened_at, adjusted_close::float8 FROM bars
        WHERE instrument_id = :instrument AND source = :source AND interval = :interval
          AND opened_at BETWEEN :first AND :last
        ORDER BY opened_at, revision DESC
    ) AS newest WHERE adjusted_close > 0 ORDER BY opened_at
    """
)
