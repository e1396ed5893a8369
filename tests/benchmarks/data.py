"""Deterministic one-minute bars for the benchmarks; nothing is read from outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import sqlalchemy as sa

from engine import catalogue
from engine.bars import Bars
from engine.history import store_live_bars
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.sessions import make_sessions
from shared.settings import Settings

MINUTE: Final = 60_000_000_000


def one_minute_bars(
    count: int, seed: int = 7, sigma: float = 0.0008, instrument_id: int = 1
) -> Bars:
    """Gap, body, wicks and volume from PCG64; prices on six decimals."""
    random = np.random.Generator(np.random.PCG64(seed))
    gap, body = random.standard_normal(count) * sigma / 4, random.standard_normal(count) * sigma
    up, down = (np.abs(random.standard_normal(count)) * sigma / 2 for _ in range(2))
    volume = np.round(np.exp(random.standard_normal(count)) * 1000 + 1, 3)
    gap[0] = 0
    level = np.cumsum(gap + body) + np.log(100)
    open_, close = np.round(np.exp(level - body), 6), np.round(np.exp(level), 6)
    high = np.round(np.maximum(np.exp(level - body), np.exp(level)) * (1 + up), 6)
    low = np.round(np.minimum(np.exp(level - body), np.exp(level)) * (1 - down), 6)
    high, low = (
        np.maximum(high, np.maximum(open_, close)),
        np.minimum(low, np.minimum(open_, close)),
    )
    first = int(np.datetime64("2020-01-01", "ns").astype("int64"))
    opened = first + np.arange(count) * MINUTE
    return Bars(
        instrument_id,
        60,
        opened,
        opened + MINUTE,
        open_,
        high,
        low,
        close,
        volume,
        np.zeros(count, bool),
    )


def keep_bars(settings: Settings, bars: Bars) -> int:
    """The one series of an instrument X in a database that is empty; its id."""
    assert settings.database_url is not None
    sessions = make_sessions(settings.database_url)
    with sessions() as session:
        catalogue.sync(session.connection(), settings.strategies_folder)
        row = InstrumentRow(
            venue="import", symbol="X", base_asset="X", quote_asset="USD", calendar="24/7"
        )
        session.add(row)
        session.flush()
        own = replace(bars, instrument_id=row.id)
        store_live_bars(session.connection(), own, source="import", simulated=False)
        session.commit()
        series_id = session.scalars(sa.select(SeriesRow.id)).one()
    sessions.kw["bind"].dispose()
    return series_id
