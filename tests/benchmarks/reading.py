"""Stored bars into arrays: the first time out of PostgreSQL, the second out of the cache; longer ones made of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

from deploy.embedded import using
from deploy.schema import migrate
from engine import bar_cache
from engine.bar_hash import used_hash
from engine.bars import Bars, coarser
from engine.history import Adding, series_bars, series_of
from engine.packing import Block, Decimals
from shared.db.market import InstrumentRow
from shared.db.sessions import make_sessions
from shared.settings import Settings

SIZES = (1_000_000, 5_000_000)
REPEATS = 3
LIMIT = 5_000_000
"""Rows a second that the second reading has to reach."""

BLOCK = 100_000
MINUTE = 60_000_000


def main() -> int:
    with tempfile.TemporaryDirectory() as home, using("postgres", Path(home), scratch=False) as url:
        migrate(url)
        print(f"\nstored one-minute bars into arrays, best of {REPEATS}\n")
        print(f"{'what':<70} {'seconds':>8} {'rows/s':>13}")
        for count in SIZES:
            for name, seconds in measured(url, Path(home), count):
                print(f"{f'{count:,} bars: {name}':<70} {seconds:>8.4f} {count / seconds:>13,.0f}")
        print(f"(limit of the second reading: {LIMIT:,} rows/s)")
    return 0


def measured(url: str, home: Path, count: int) -> list[tuple[str, float]]:
    plain, cached = make_sessions(url), make_sessions(url)
    bar_cache.use(cached, Settings.from_env({"SERAPHIM_HOME": str(home)}))
    series_id = a_series(plain, count)

    def read(sessions: sessionmaker[Session], **named: Any) -> Bars:
        with sessions() as session:
            return series_bars(session, series_id, **named)

    def forgotten() -> Bars:
        for file in (home / "cache").glob("*"):
            file.unlink()
        return read(cached)

    bars = read(plain)
    digested = forgotten()
    # One after the other each time: what else the machine does then weighs on both.
    pairs = [(once(lambda: read(plain)), once(forgotten)) for _ in range(REPEATS)]
    without, kept = (min(times) for times in zip(*pairs, strict=True))
    rows = [
        ("out of PostgreSQL, without a cache", without),
        (f"first reading, kept in the cache ({kept / without:.2f} times that)", kept),
        ("second reading", best(lambda: read(cached))),
        ("the hash of bars as used, nothing known of them", best(lambda: used_hash(bars))),
        ("the hash of bars as used, read by the cache", best(lambda: used_hash(digested))),
        ("hours made of bars in memory", best(lambda: coarser(bars, 3600, "24/7"))),
        ("hours, read by the cache", best(lambda: read(cached, interval=3600))),
    ]
    for sessions in (plain, cached):
        sessions.kw["bind"].dispose()
    return rows


def best(work: Callable[[], Any]) -> float:
    return min(once(work) for _ in range(REPEATS))


def once(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def a_series(sessions: sessionmaker[Session], count: int) -> int:
    """Minutes of a walk in cents; every hundredth is quiet."""
    with sessions.begin() as session:
        instrument = InstrumentRow(
            venue="replay", symbol=f"X{count}", base_asset="X", quote_asset="USD", calendar="24/7"
        )
        session.add(instrument)
        session.flush()
        connection = session.connection()
        series_id = series_of(connection, instrument.id, "import", 60)
        adding = Adding(connection, series_id, None)
        adding.take_blocks((series_id, block) for block in blocks(count))
        for _ in adding.store():
            pass
    return series_id


def blocks(count: int) -> list[Block]:
    random = np.random.Generator(np.random.PCG64(7))
    closes = 1_000_000 + np.cumsum(random.integers(-40, 41, count))
    volumes = random.integers(1, 50_0000_0000, count)
    minutes = np.arange(count) + np.arange(count) // 99
    opened = 1_451_606_400_000_000 + minutes * MINUTE
    found = []
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        price = cents(closes[rows], 2)
        high, low = cents(closes[rows] + 30, 2), cents(closes[rows] - 30, 2)
        volume = cents(volumes[rows], 8)
        found.append(Block(opened[rows], opened[rows] + MINUTE, price, high, low, price, volume))
    return found


def cents(scaled: np.ndarray[Any, Any], scale: int) -> Decimals:
    return Decimals(scaled, scale, np.full(len(scaled), scale, np.int16))
