"""The columns a run leaves behind, read in one place: equity by mark, what its report needs by day and by trade."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import sqlalchemy as sa

from shared.db.backtests import RunRow, RunSeriesRow
from shared.domain import clock
from shared.report.curves import Days, extremes
from shared.report.pictures import Columns
from webapp.charts import thinned
from webapp.db import db

Column = npt.NDArray[Any]

POINTS: Final = 2_000
NANOSECONDS: Final = 1_000_000_000
SPARK_BYTES: Final = 400_000
"""Larger columns are not opened for a sparkline in a list."""

_TYPES: Final = {
    "equity": "<f8",
    "exposure": "<f8",
    "close": "<f8",
    "stretch": "<i8",
    "stretch.exposure": "<f8",
    "day": "<i8",
    "day.equity": "<f8",
    "day.hold": "<f8",
    "trade.return": "<f4",
    "trade.mae": "<f4",
    "trade.mfe": "<f4",
}


# By mark ----------------------------------------------------------------------------------------


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
    found = columns(run.id, "equity", "exposure", "close")
    capital = float(run.options["capital"])
    start = run.starts_at.timestamp()
    times = _times(run.id) / NANOSECONDS
    equity = found["equity"]
    is_before = not len(times) or start < times[0]
    if is_before:
        times, equity = np.concatenate([[start], times]), np.concatenate([[capital], equity])
    exposure = np.concatenate([[0.0], found["exposure"]]) if is_before else found["exposure"]
    peaks = np.maximum.accumulate(np.maximum(equity, capital))
    return Curve(
        times, equity, equity / peaks - 1, exposure, _hold(run, found["close"], is_before=is_before)
    )


def has_hold(run: RunRow) -> bool:
    """Whether the curve has buying and holding beside it."""
    traded = {i["instrument_id"] for i in run.inputs.values() if i.get("trades", True)}
    return len(traded) == 1 and (run.metrics.get("buy_and_hold") or {}).get("value") is not None


def _hold(run: RunRow, closes: Column, *, is_before: bool) -> Column:
    """What the capital would be worth, bought at the first open: scaled so that it ends where the metric says."""
    if not has_hold(run) or not len(closes):
        return np.zeros(0)
    capital, gained = float(run.options["capital"]), float(run.metrics["buy_and_hold"]["value"])
    held = capital * (1 + gained) * closes / closes[-1]
    return np.concatenate([[capital], held]) if is_before else held


# For the report ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run's report is drawn from. `tables` are groups of trades by what they have in common.

    A run from before reports were kept has its days from its curve, and neither excursions nor tables.
    """

    columns: Columns
    tables: dict[str, list[dict[str, Any]]]

    @property
    def days(self) -> Days:
        return self.columns.days


def kept(run: RunRow) -> Kept:
    names = [name for name in _TYPES if name not in ("equity", "exposure", "close")]
    stored = _stored(run.id, (*names, "tables"))
    found = {name: _array(stored.get(name), _TYPES[name]) for name in names}
    tables = orjson.loads(zlib.decompress(stored["tables"])) if "tables" in stored else {}
    days = (
        Days.of(found["day"], found["day.equity"], found["day.hold"], float(run.options["capital"]))
        if "day" in stored
        else _days_of(curve(run))
    )
    return Kept(
        Columns(
            times=found["stretch"] / NANOSECONDS,
            exposure=found["stretch.exposure"],
            days=days,
            trade_return=found["trade.return"],
            mae=found["trade.mae"],
            mfe=found["trade.mfe"],
        ),
        tables,
    )


def _days_of(found: Curve) -> Days:
    """The last mark of each UTC day that has one."""
    number = ((found.times[1:] - 1e-3) // 86_400).astype(np.int64)
    last = np.flatnonzero(np.concatenate([number[1:] != number[:-1], [True]]))
    rows = last + 1 if len(number) else np.zeros(0, dtype=np.int64)
    hold = found.hold[rows] if len(found.hold) else found.hold
    return Days.of(number[rows - 1], found.equity[rows], hold, float(found.equity[0]))


def excursions(run_id: int, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
    """(MAE, MFE) of some trades by their numbers, which count from 1; none of runs that have not kept them."""
    found = columns(run_id, "trade.mae", "trade.mfe")
    against, favour = found["trade.mae"], found["trade.mfe"]
    return {
        number: (float(against[number - 1]), float(favour[number - 1]))
        for number in numbers
        if number <= len(against)
    }


# Reading ----------------------------------------------------------------------------------------


def columns(run_id: int, *names: str) -> dict[str, Column]:
    """The named columns as arrays, empty where there is none."""
    stored = _stored(run_id, names)
    return {name: _array(stored.get(name), _TYPES[name]) for name in names}


def _times(run_id: int) -> Column:
    """int64[moments] nanoseconds, none where a run has left none."""
    data = _stored(run_id, ("times",)).get("times")
    return clock.unpack(zlib.decompress(data) if data else b"")


def _stored(run_id: int, names: Sequence[str]) -> dict[str, bytes]:
    query = sa.select(RunSeriesRow.name, RunSeriesRow.data).where(
        RunSeriesRow.run_id == run_id, RunSeriesRow.name.in_(names)
    )
    return dict(db.session.execute(query).all())


def _array(data: bytes | None, kind: str) -> Column:
    return np.frombuffer(zlib.decompress(data) if data else b"", dtype=kind)


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


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
