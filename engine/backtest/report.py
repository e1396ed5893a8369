"""What a report page reads of a run beside its metrics: small columns and tables, made once when it is stored."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from engine.backtest.groups import tables
from engine.backtest.metrics.curves import Curve
from engine.backtest.metrics.facts import Facts
from engine.backtest.metrics.model import Undefined
from engine.backtest.results import Counts, Fills, Paid, Trades
from engine.bars import Bars
from shared.report.curves import means
from shared.report.pictures import STRETCHES


def report_parts(
    curve: Curve,
    trades: Trades,
    *,
    calendar: str,
    hold: Iterable[Bars] = (),
    symbols: Mapping[int, str] | None = None,
) -> dict[str, bytes]:
    """{name: zlib-compressed bytes}, to be kept beside the run's other columns.

    day, day.equity, day.hold   int64 days since 1970 and float64 levels, a trading day each: equity, and what
                                the starting capital would be, bought and held (no rows where there is none)
    stretch, stretch.exposure   int64 nanoseconds at the end of at most 360 stretches of the run, and float64
                                means of exposure in each
    trade.return, trade.mae, trade.mfe   float32, a trade each, in their order
    tables                      JSON, as `engine.backtest.groups.tables` has it
    """
    held = tuple(hold)
    days, equity, benchmark = daily_levels(curve, trades, calendar, held)
    exposure, rows = means(curve.exposure, STRETCHES)
    found = {
        "stretch": curve.times[rows].astype("<i8"),
        "stretch.exposure": exposure.astype("<f8"),
        "day": days.astype("<i8"),
        "day.equity": equity.astype("<f8"),
        "day.hold": benchmark.astype("<f8"),
        "trade.return": trades.return_fraction.astype("<f4"),
        "trade.mae": trades.mae.astype("<f4"),
        "trade.mfe": trades.mfe.astype("<f4"),
    }
    grouped = tables(trades, curve=curve, calendar=calendar, hold=held, symbols=symbols)
    parts = {name: zlib.compress(column.tobytes(), 1) for name, column in found.items()}
    return {**parts, "tables": zlib.compress(orjson.dumps(grouped), 1)}


def daily_levels(
    curve: Curve, trades: Trades, calendar: str, hold: tuple[Bars, ...]
) -> tuple[Any, Any, Any]:
    """(days, equity, what the capital would be if it was bought and held)."""
    facts = Facts(
        curve,
        trades,
        fills=Fills.none(),
        paid=Paid(),
        counts=Counts(),
        calendar=calendar,
        hold=hold,
        benchmark=None,
        risk_free=0.0,
        trials=1,
        trials_variance=None,
    )
    days, equity = facts.daily
    try:
        return days, equity, curve.capital * np.cumprod(1 + facts.benchmark_returns)
    except Undefined:
        return days, equity, np.zeros(0)
