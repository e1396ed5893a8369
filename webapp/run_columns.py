"""The columns a run leaves behind (equity, exposure, closes), thinned to what a picture can show."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from shared.db.backtests import RunRow, RunSeriesRow, RunTradeRow
from webapp.charts import thinned
from webapp.db import db

Column = npt.NDArray[Any]

POINTS: Final = 2_000
NANOSECONDS: Final = 1_000_000_000
FEW_TRADES: Final = 5
SPARK_BYTES: Final = 400_000
"""Larger columns are not opened for a sparkline in a list."""

_TYPES: Final = {"times": "<i8", "equity": "<f8", "exposure": "<f8", "close": "<f8"}


@dataclass(frozen=True, slots=True)
class Curve:
    """Marked equity over time (seconds), drawdown as a fraction <= 0, and buying and holding beside it.

    `hold` is empty when there is nothing to compare with: several traded instruments, or no closes.
    """

    times: Column
    equity: Column
    drawdown: Column
    exposure: Column
    hold: Column

    def __len__(self) -> int:
        return len(self.times)

    def thin(self, points: int = POINTS) -> Curve:
        """At most `points` of it: the lowest and the highest equity of each stretch, and both ends."""
        rows = extremes(self.equity, points)
        hold = self.hold[rows] if len(self.hold) else self.hold
        return Curve(
            self.times[rows], self.equity[rows], self.drawdown[rows], self.exposure[rows], hold
        )


def curve(run: RunRow) -> Curve:
    """The whole curve, from the starting capital on."""
    found = columns(run.id, "times", "equity", "exposure", "close")
    capital = float(run.options["capital"])
    start = run.starts_at.timestamp()
    times = found["times"] / NANOSECONDS
    equity = found["equity"]
    is_before = not len(times) or start < times[0]
    if is_before:
        times, equity = np.concatenate([[start], times]), np.concatenate([[capital], equity])
    exposure = np.concatenate([[0.0], found["exposure"]]) if is_before else found["exposure"]
    peaks = np.maximum.accumulate(np.maximum(equity, capital))
    return Curve(
        times, equity, equity / peaks - 1, exposure, _hold(run, found["close"], is_before=is_before)
    )


def _hold(run: RunRow, closes: Column, *, is_before: bool) -> Column:
    """What the capital would be worth, bought at the first open: scaled so that it ends where the metric says."""
    gained = (run.metrics.get("buy_and_hold") or {}).get("value")
    traded = [i for i in run.inputs.values() if i.get("trades", True)]
    if gained is None or not len(closes) or len({i["instrument_id"] for i in traded}) != 1:
        return np.zeros(0)
    capital = float(run.options["capital"])
    held = capital * (1 + float(gained)) * closes / closes[-1]
    return np.concatenate([[capital], held]) if is_before else held


def columns(run_id: int, *names: str) -> dict[str, Column]:
    """The named columns as arrays, empty where there is none."""
    query = sa.select(RunSeriesRow.name, RunSeriesRow.data).where(
        RunSeriesRow.run_id == run_id, RunSeriesRow.name.in_(names)
    )
    stored = dict(db.session.execute(query).all())
    return {name: _array(stored.get(name), _TYPES[name]) for name in names}


def _array(data: bytes | None, kind: str) -> Column:
    return np.frombuffer(zlib.decompress(data) if data else b"", dtype=kind)


def extremes(values: Column, points: int) -> npt.NDArray[np.intp]:
    """Rows to show of a long column: first, last, and each stretch's lowest and highest, in order."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    stretches = max(1, (points - 2) // 2)
    edges = np.linspace(0, count, stretches + 1).astype(np.intp)
    rows = {0, count - 1}
    for first, after in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        stretch = values[first:after]
        rows.add(first + int(np.argmin(stretch)))
        rows.add(first + int(np.argmax(stretch)))
    return np.array(sorted(rows), dtype=np.intp)


def equity_sparks(run_ids: Sequence[int]) -> dict[int, list[float]]:
    """A few equities of each run, oldest first, for a list."""
    if not run_ids:
        return {}
    query = sa.select(RunSeriesRow.run_id, RunSeriesRow.data).where(
        RunSeriesRow.run_id.in_(run_ids),
        RunSeriesRow.name == "equity",
        sa.func.octet_length(RunSeriesRow.data) <= SPARK_BYTES,
    )
    return {
        run_id: thinned(_array(data, "<f8")[extremes(_array(data, "<f8"), 120)].tolist())
        for run_id, data in db.session.execute(query)
    }


@dataclass(frozen=True, slots=True)
class Month:
    """The return of one month; `level` -4 to 4 by its size among the others."""

    value: float
    level: int


@dataclass(frozen=True, slots=True)
class Year:
    """Twelve months, None where the run was not running, and all of them together."""

    year: int
    months: list[Month | None]
    value: float


def years(found: Curve) -> list[Year]:
    """Returns month by month in UTC, from the last mark of the month before."""
    if len(found) < 2:
        return []
    stamps = (found.times * 1000).astype("datetime64[ms]")
    # A mark at midnight belongs to the day it ends.
    months = (stamps - np.timedelta64(1, "ms")).astype("datetime64[M]").astype(int)
    months[0] = max(months[0], int(stamps[0].astype("datetime64[M]").astype(int)))
    last = np.flatnonzero(np.concatenate([months[1:] != months[:-1], [True]]))
    ends = found.equity[last]
    starts = np.concatenate([[found.equity[0]], ends[:-1]])
    returns = dict(zip(months[last].tolist(), (ends / starts - 1).tolist(), strict=True))
    largest = max(map(abs, returns.values())) or 1.0
    first_year, last_year = 1970 + min(returns) // 12, 1970 + max(returns) // 12
    return [_year(year, returns, largest) for year in range(first_year, last_year + 1)]


def _year(year: int, returns: dict[int, float], largest: float) -> Year:
    months: list[Month | None] = []
    grown = 1.0
    for month in range((year - 1970) * 12, (year - 1970) * 12 + 12):
        value = returns.get(month)
        if value is None:
            months.append(None)
            continue
        grown *= 1 + value
        level = min(4, int(abs(value) / largest * 4 + 0.999)) * (1 if value > 0 else -1)
        months.append(Month(value, level if abs(value) > 1e-9 else 0))
    return Year(year, months, grown - 1)


@dataclass(frozen=True, slots=True)
class Bin:
    """Trades whose return lies in [low, high)."""

    low: float
    high: float
    count: int


def return_bins(run_id: int, wanted: int = 24) -> list[Bin]:
    """How the trades of a run came out, in bins of one width with an edge at zero; empty under five trades."""
    trades = sa.select(RunTradeRow.return_fraction).where(RunTradeRow.run_id == run_id)
    returns = np.array(list(db.session.scalars(trades)), dtype=np.float64)
    if len(returns) < FEW_TRADES:
        return []
    # One wild trade must not flatten all others: the outermost bins are open to the outside.
    low, high = np.quantile(returns, (0.01, 0.99)).tolist()
    width = (max(high, 0.0) - min(low, 0.0)) / wanted or 0.001
    first, last = int(np.floor(min(low, 0.0) / width)), int(np.ceil(max(high, 0.0) / width))
    places = np.clip(np.floor(returns / width).astype(int), first, max(first, last - 1))
    counts = np.bincount(places - first, minlength=max(1, last - first))
    return [
        Bin((first + place) * width, (first + place + 1) * width, int(count))
        for place, count in enumerate(counts.tolist())
    ]


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
