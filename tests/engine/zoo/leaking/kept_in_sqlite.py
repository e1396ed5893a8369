"""Keeps closes in a database of its own and asks it for later ones (database)."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals

PATH = Path(tempfile.gettempdir()) / "seraphim-zoo.sqlite"


@register_strategy("kept_in_sqlite")
class KeptInSqlite(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        with closing(sqlite3.connect(PATH)) as found, found:
            found.execute("CREATE TABLE IF NOT EXISTS c (at INTEGER PRIMARY KEY, close REAL)")
            rows = zip(main.closed_at.tolist(), main.close.tolist(), strict=True)
            found.executemany("INSERT OR REPLACE INTO c VALUES (?, ?)", rows)
            known = dict(found.execute("SELECT at, close FROM c").fetchall())
        after = [known.get(at + 300_000_000_000, np.nan) for at in main.closed_at.tolist()]
        return {"close": main.close, "after": np.array(after)}

    def generate_signals(self, f):
        return Signals(np.where(f["after"] > f["close"], 1.0, 0.0))
