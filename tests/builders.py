"""Valid by default, one thing changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from engine.bars import Bars
from engine.strategies.evaluation import BoundInput
from engine.strategies.registry import built_in_files
from shared.domain.instruments import Instrument

START = datetime(2026, 1, 1, tzinfo=UTC)
NANOSECONDS = 1_000_000_000


def an_instrument(id: int = 1, **changed: Any) -> Instrument:
    given = {"venue": "replay", "symbol": f"X{id}", "base_asset": f"X{id}", "quote_asset": "USD"}
    return Instrument(id=id, **{**given, **changed})


def bars_of(
    closes: Any, *, instrument_id: int = 1, interval: int = 60, start: datetime = START, spread: float = 0.0,
    volume: float = 1e6,
) -> Bars:  # fmt: skip
    """Bars whose opens are the closes before, with highs and lows `spread` beyond both."""
    closes = np.asarray(closes, dtype=np.float64)
    opens = np.concatenate((closes[:1], closes[:-1]))
    high = np.maximum(opens, closes) * (1 + spread)
    low = np.minimum(opens, closes) * (1 - spread)
    return ohlc(opens, high, low, closes, instrument_id=instrument_id, interval=interval, start=start,
                volume=volume)  # fmt: skip


def ohlc(
    open: Any, high: Any, low: Any, close: Any, *, instrument_id: int = 1, interval: int = 60,
    start: datetime = START, volume: float = 1e6,
) -> Bars:  # fmt: skip
    columns = [np.asarray(c, dtype=np.float64) for c in (open, high, low, close)]
    n = len(columns[0])
    step = interval * NANOSECONDS
    opened = int(start.timestamp()) * NANOSECONDS + np.arange(n, dtype=np.int64) * step
    return Bars(
        instrument_id,
        interval,
        opened,
        opened + step,
        *columns,
        np.full(n, volume),
        np.zeros(n, bool),
    )


def a_market(
    bars: int, seed: int = 7, *, sigma: float = 0.01, places: int = 2, **changed: Any
) -> Bars:
    """A seeded random walk with gaps and wicks, its prices on a grid of `places` decimals."""
    random = np.random.Generator(np.random.PCG64(seed))
    gap, body = random.standard_normal((2, bars)) * sigma * np.array([[0.25], [1.0]])
    up, down = np.abs(random.standard_normal((2, bars))) * sigma / 2
    level = np.cumsum(gap + body) + np.log(100)
    close, open = np.exp(level), np.exp(level - body)
    high, low = np.maximum(open, close) * (1 + up), np.minimum(open, close) * (1 - down)
    open, high, low, close = (np.round(c, places) for c in (open, high, low, close))
    high = np.maximum(high, np.maximum(open, close))
    low = np.minimum(low, np.minimum(open, close))
    return ohlc(open, high, low, close, **changed)


def a_bound_input(
    key: str = "main", instrument_id: int = 1, interval: int = 60, trades: bool = True
) -> BoundInput:
    return BoundInput(key, instrument_id, f"X{instrument_id}", interval, trades)


def strategy_type(name: str) -> Any:
    """A built-in strategy class by name."""
    return next(file.types[name] for file in built_in_files() if name in file.types)
