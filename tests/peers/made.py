"""Daily returns made from a seed, for us and for our peers alike."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pandas as pd

CASES: dict[str, dict[str, Any]] = {
    "crypto": {"seed": 1, "count": 700, "drift": 0.001, "scale": 0.02, "year": 365},
    "stocks": {"seed": 2, "count": 504, "drift": 0.0004, "scale": 0.01, "year": 252},
    "losing": {"seed": 3, "count": 300, "drift": -0.002, "scale": 0.015, "year": 365},
}


def made(
    *, seed: int, count: int, drift: float, scale: float, year: int
) -> tuple[pd.DatetimeIndex, np.ndarray, np.ndarray]:
    """(days, returns, the market's returns): fat tails, and half of the market in ours.

    Of `Random.random`, whose numbers are the same in every version of Python.
    """
    random = Random(seed)

    def drawn() -> float:
        bell = sum(random.random() for _ in range(12)) - 6
        return scale * 0.7 * bell / (0.4 + random.random())

    market = np.array([drift + drawn() for _ in range(count)])
    own = np.array([drift / 2 + 0.7 * drawn() for _ in range(count)])
    days = (
        pd.date_range("2021-01-01", periods=count, freq="D")
        if year == 365
        else pd.bdate_range("2021-01-04", periods=count)
    )
    return days, 0.5 * market + own, market
