"""How much an instrument moves, compiled: rules and sizing ask it at every decision, about some twenty numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.compiled import compiled


def annual_volatility(
    closes: npt.NDArray[np.float64], window: int, bars_per_year: float
) -> float | None:
    """Sample deviation of the last `window` log returns, annualised; None with fewer returns."""
    if len(closes) < window + 1:
        return None
    return float(_of_last(closes, window, bars_per_year))


@compiled
def _of_last(closes: Any, window: int, bars_per_year: float) -> float:
    """The operations of `engine.backtest.kernels.deciding.volatility_of`, in its order."""
    last = len(closes) - 1
    before = math.log(closes[last - window])
    mean = (math.log(closes[last]) - before) / window
    total = 0.0
    for row in range(last - window + 1, last + 1):
        here = math.log(closes[row])
        total += (here - before - mean) ** 2
        before = here
    return math.sqrt(total / (window - 1)) * math.sqrt(bars_per_year)
