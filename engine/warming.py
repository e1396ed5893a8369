"""Machine code into memory before it is needed: a worker loads it once, and every fork has it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numba
import numpy as np

from engine.backtest.job import conclude
from engine.backtest.simulation import simulate
from engine.backtest.specification import Specification
from engine.bars import DAY, Bars
from engine.strategies.evaluation import BoundInput
from engine.strategies.registry import built_in_files
from engine.sweeping.evaluation import evaluate
from shared.domain.instruments import Instrument
from shared.domain.objectives import ALWAYS_KEPT

_BARS: Final = 120
_TYPE: Final = "moving_average_cross"


def is_kept() -> bool:
    """Whether compiled functions are on this machine's disk already: loading them takes moments, making them does not."""
    folder = Path(str(numba.config.CACHE_DIR))  # type: ignore[attr-defined]
    return next(folder.rglob("*.nbc"), None) is not None


def load() -> None:
    """Run a backtest and a search of a few invented bars, so that what they call is there."""
    specification = _invented()
    conclude(specification, simulate(specification))
    evaluate(specification, [specification.parameters], ALWAYS_KEPT)


def _invented() -> Specification:
    opened = np.arange(_BARS, dtype=np.int64) * DAY
    price = 100 + 10 * np.sin(np.arange(_BARS) / 5)
    bars = Bars(
        1, 86_400, opened, opened + DAY, price, price + 1, price - 1, price,
        np.full(_BARS, 1e6), np.zeros(_BARS, dtype=bool),
    )  # fmt: skip
    cls = next(file.types[_TYPE] for file in built_in_files() if _TYPE in file.types)
    return Specification(
        strategy=cls,
        inputs=(BoundInput("main", 1, "X", 86_400, trades=True),),
        bars={"main": bars},
        instruments={1: Instrument(1, "replay", "X", "X", "USD")},
        parameters={"short_window": 3, "long_window": 9},
    )
