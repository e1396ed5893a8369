"""The floor: tasks A to D as plain loops, one pass over the bars, nothing kept that was not asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

MINUTES_A_YEAR = 525_600


@njit(cache=True)
def cross(open_: Any, close: Any, short: int, long: int, capital: float, fee: float) -> Any:
    """A: (entries, final equity, equity per bar, fills as rows of bar, side, quantity, price)."""
    n = len(close)
    equity = np.empty(n)
    fills = np.empty((n // 4, 4))
    cash, held, wants, entries, count = capital, 0.0, False, 0, 0
    near, far = 0.0, 0.0
    for t in range(n):
        if wants and held == 0.0:
            held = cash / (open_[t] * (1 + fee))
            cash = 0.0
            entries += 1
            fills[count, 0], fills[count, 1], fills[count, 2], fills[count, 3] = (
                t,
                1,
                held,
                open_[t],
            )
            count += 1
        elif not wants and held > 0.0:
            cash = held * open_[t] * (1 - fee)
            fills[count, 0], fills[count, 1], fills[count, 2], fills[count, 3] = (
                t,
                -1,
                held,
                open_[t],
            )
            count += 1
            held = 0.0
        near += close[t]
        far += close[t]
        if t >= short:
            near -= close[t - short]
        if t >= long:
            far -= close[t - long]
        if t >= long - 1:
            wants = near / short > far / long
        equity[t] = cash + held * close[t]
    return entries, equity[-1], equity, fills[:count]


@njit(cache=True, nogil=True)
def swept(open_: Any, close: Any, pairs: Any, capital: float, fee: float, out: Any) -> None:
    """B: final equity, Sharpe of the bars' returns and largest drawdown of each (short, long)."""
    n = len(close)
    for k in range(len(pairs)):
        short, long = pairs[k]
        cash, held, wants = capital, 0.0, False
        near = far = total = squares = lowest = 0.0
        before = peak = capital
        for t in range(n):
            if wants and held == 0.0:
                held = cash / (open_[t] * (1 + fee))
                cash = 0.0
            elif not wants and held > 0.0:
                cash = held * open_[t] * (1 - fee)
                held = 0.0
            near += close[t]
            far += close[t]
            if t >= short:
                near -= close[t - short]
            if t >= long:
                far -= close[t - long]
            if t >= long - 1:
                wants = near / short > far / long
            worth = cash + held * close[t]
            change = worth / before - 1
            total += change
            squares += change * change
            before = worth
            peak = max(peak, worth)
            lowest = max(lowest, 1 - worth / peak)
        mean = total / n
        deviation = np.sqrt((squares - n * mean * mean) / (n - 1))
        out[k, 0], out[k, 1], out[k, 2] = before, mean / deviation * np.sqrt(MINUTES_A_YEAR), lowest
