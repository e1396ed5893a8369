"""Bars as a notebook has them: a pandas frame, `Bars`, a stored series by its symbol, or several of those by input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.bars import DAY, SECOND, Bars
from engine.books import as_instrument
from engine.history import series_bars
from engine.strategies.base import BaseStrategy
from engine.strategies.evaluation import BoundInput
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.sessions import make_sessions
from shared.domain.instruments import DAYS_PER_YEAR, Instrument
from shared.domain.market import interval_seconds, interval_text
from shared.settings import Settings

Given = pd.DataFrame | Bars | str

COLUMNS: Final = ("open", "high", "low", "close", "volume")
ENOUGH_DAYS: Final = 14
"""Days after which a series without a weekend is one of an exchange."""


class BadBars(ValueError):
    """Bars that cannot be used: which input, what is wrong, and what to give instead."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a run reads, by input."""

    inputs: tuple[BoundInput, ...]
    bars: dict[str, Bars]
    instruments: dict[int, Instrument]


def sources(
    strategy: type[BaseStrategy],
    given: Given | Mapping[str, Given],
    *,
    symbols: Mapping[str, str] | None = None,
    calendar: str | None = None,
    currency: str = "USD",
    database: str | None = None,
) -> Sources:
    """Every declared input with its bars. A frame's instrument is called as its input unless `symbols` says how."""
    by_key: Mapping[str, Given] = given if isinstance(given, Mapping) else {"main": given}
    declared = strategy.series()
    if set(by_key) != set(declared):
        raise BadBars(
            f"bars: {', '.join(map(str, by_key)) or 'nothing'} given; give one of each of {', '.join(declared)}"
        )
    if calendar is not None and calendar not in DAYS_PER_YEAR:
        raise BadBars(f"calendar: {calendar!r} is not one of {', '.join(DAYS_PER_YEAR)}")
    made = _Made(symbols or {}, calendar, currency)
    for key in declared:
        one = by_key[key]
        if isinstance(one, str):
            made.add(key, *_stored(key, one, database), trades=declared[key].trades)
        else:
            bars = one if isinstance(one, Bars) else from_frame(one, key)
            made.add(key, bars, None, trades=declared[key].trades)
    return made.sources()


class _Made:
    """Inputs, one after the other; the same symbol is the same instrument."""

    def __init__(self, symbols: Mapping[str, str], calendar: str | None, currency: str) -> None:
        self._symbols, self._calendar, self._currency = symbols, calendar, currency
        self._numbers: dict[str, int] = {}
        self._inputs: list[BoundInput] = []
        self._bars: dict[str, Bars] = {}
        self._instruments: dict[int, Instrument] = {}

    def add(self, key: str, bars: Bars, stored: Instrument | None, *, trades: bool) -> None:
        if len(bars) < 2:
            raise BadBars(f"bars[{key!r}]: {len(bars)} rows; at least 2 are needed")
        symbol = stored.symbol if stored else self._symbols.get(key, key)
        number = self._numbers.setdefault(symbol, len(self._numbers) + 1)
        self._bars[key] = replace(bars, instrument_id=number, digests=())
        self._inputs.append(BoundInput(key, number, symbol, bars.interval, trades))
        if number not in self._instruments:
            self._instruments[number] = (
                replace(stored, id=number) if stored else self._instrument(number, symbol, bars)
            )

    def _instrument(self, number: int, symbol: str, bars: Bars) -> Instrument:
        return Instrument(
            number,
            "notebook",
            symbol,
            symbol,
            self._currency,
            calendar=self._calendar or likely_calendar(bars),
        )

    def sources(self) -> Sources:
        quotes = {self._instruments[b.instrument_id].quote_asset for b in self._inputs if b.trades}
        if len(quotes) != 1:
            raise BadBars(
                f"bars: traded instruments must share a quote asset, not {sorted(quotes)}"
            )
        return Sources(tuple(self._inputs), self._bars, self._instruments)


def likely_calendar(bars: Bars) -> str:
    """XNYS for bars of some weeks none of which is on a weekend, 24/7 otherwise."""
    days = np.unique(bars.opened_at // DAY)
    weekend = (days + 3) % 7 >= 5  # 1970 began on a Thursday
    return "XNYS" if days[-1] - days[0] >= ENOUGH_DAYS and not weekend.any() else "24/7"


# Frames -----------------------------------------------------------------------------------------


def from_frame(frame: pd.DataFrame, key: str = "main") -> Bars:
    """Bars of a frame with a DatetimeIndex of opening times, taken as UTC where it has no zone.

    A bar is as long as the shortest step from row to row; prices are above 0 and lie inside high and low.
    """
    name = f"bars[{key!r}]"
    columns = _columns(frame, name)
    opened = _opened(frame, name)
    steps = np.diff(opened)
    if (late := np.flatnonzero(steps <= 0)).size:
        at = frame.index[int(late[0]) + 1]
        raise BadBars(f"{name}: {at} does not come after the row before it; sort, drop duplicates")
    step = int(steps.min()) if len(steps) else DAY
    interval = max(step // SECOND, 1)
    closed = opened + interval * SECOND
    _check_prices(frame, columns, name)
    rest: Any = [*(columns[column] for column in COLUMNS), np.zeros(len(opened), np.bool_)]
    return Bars(1, interval, opened, closed, *rest)


def _columns(frame: Any, name: str) -> dict[str, Any]:
    if not isinstance(frame, pd.DataFrame):
        raise BadBars(
            f"{name}: {type(frame).__name__} is no bars; give a pandas DataFrame, Bars or a symbol"
        )
    found = {str(column).lower(): column for column in frame.columns}
    if missing := [column for column in COLUMNS if column not in found]:
        have = ", ".join(map(str, frame.columns)) or "none"
        raise BadBars(f"{name}: no column {', '.join(missing)} (there are: {have})")
    try:
        return {
            column: np.ascontiguousarray(frame[found[column]].to_numpy(np.float64))
            for column in COLUMNS
        }
    except (TypeError, ValueError) as error:
        raise BadBars(f"{name}: a column is not of numbers ({error})") from error


def _opened(frame: pd.DataFrame, name: str) -> Any:
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex):
        raise BadBars(
            f"{name}: the index is {type(index).__name__}; set a DatetimeIndex of opening times,"
            " such as frame.set_index(pd.to_datetime(frame['date']))"
        )
    if index.hasnans:
        raise BadBars(f"{name}: the index has a row without a time; drop it")
    utc = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
    return utc.as_unit("ns").to_numpy().astype(np.int64)


def _check_prices(frame: pd.DataFrame, columns: Mapping[str, Any], name: str) -> None:
    open_, high, low, close, volume = (columns[column] for column in COLUMNS)
    for column in COLUMNS[:4]:
        bad = ~(np.isfinite(columns[column]) & (columns[column] > 0))
        _refuse(frame, bad, name, column, columns[column], "a price is a number above 0")
    _refuse(frame, ~(volume >= 0), name, "volume", volume, "a volume is 0 or above; fillna(0)")
    _refuse(frame, high < np.maximum(open_, close), name, "high", high, "it is below open or close")
    _refuse(frame, low > np.minimum(open_, close), name, "low", low, "it is above open or close")


def _refuse(frame: pd.DataFrame, bad: Any, name: str, column: str, values: Any, why: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        at = int(rows[0])
        more = f" ({len(rows):,} rows are so)" if len(rows) > 1 else ""
        raise BadBars(f"{name}: {column} of {frame.index[at]} is {values[at]}: {why}{more}")


# Stored -----------------------------------------------------------------------------------------


def _stored(key: str, text: str, database: str | None) -> tuple[Bars, Instrument]:
    """The bars of SYMBOL or SYMBOL@INTERVAL out of PostgreSQL; longer ones are made of those stored."""
    url = database or Settings.load().database_url
    if not url:
        raise BadBars(
            f"bars[{key!r}]: {text!r} is a stored series; say where with database='postgresql://...'"
            " or DATABASE_URL"
        )
    sessions = make_sessions(url, pool_size=1)
    try:
        with sessions() as session:
            return _series(session, key, text)
    finally:
        sessions.kw["bind"].dispose()


def _series(session: Session, key: str, text: str) -> tuple[Bars, Instrument]:
    symbol, _, interval = text.partition("@")
    seconds = interval_seconds(interval) if interval else 0
    query = (
        sa.select(SeriesRow.id, SeriesRow.interval, SeriesRow.instrument_id, SeriesRow.source)
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .where(sa.func.lower(InstrumentRow.symbol) == symbol.lower())
        .order_by(SeriesRow.interval, SeriesRow.id)
    )
    found = session.execute(query).all()
    if seconds:
        longest = max((r.interval for r in found if seconds % r.interval == 0), default=0)
        found = [row for row in found if row.interval == longest]
    if not found:
        raise BadBars(f"bars[{key!r}]: there is no series {text!r}; `seraphim import` adds one")
    if len(found) > 1:
        have = ", ".join(f"{symbol}@{interval_text(r.interval)} ({r.source})" for r in found)
        raise BadBars(f"bars[{key!r}]: {text!r} could be {have}; name the interval")
    bars = series_bars(session, found[0].id, interval=seconds)
    return bars, as_instrument(session.get_one(InstrumentRow, found[0].instrument_id))
