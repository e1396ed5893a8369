"""The floor: tasks A to D as plain loops, one pass over the bars, nothing kept that was not asked for.

Of A every fill and equity per bar is asked, whatever the strategy.
"""

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
        deviation = np.sqrt(squares / n - mean * mean)
        out[k, 0], out[k, 1], out[k, 2] = before, mean / deviation * np.sqrt(MINUTES_A_YEAR), lowest


@njit(cache=True)
def reversion(
    open_: Any,
    high: Any,
    low: Any,
    close: Any,
    capital: float,
    fee: float,
    stop: float,
    target: float,
) -> Any:
    """C: (entries, final equity, equity per bar). Wilder RSI(14) and Bollinger(20, 2); stop and target if above 0."""
    n = len(close)
    equity = np.empty(n)
    cash, held, entry, entries = capital, 0.0, 0.0, 0
    wants = 0  # 1 buys, -1 sells, at the next open
    gains = losses = total = squares = 0.0
    base = close[0]
    for t in range(n):
        if wants == 1 and held == 0.0:
            entry = open_[t]
            held = cash / (entry * (1 + fee))
            cash = 0.0
            entries += 1
        elif wants == -1 and held > 0.0:
            cash = held * open_[t] * (1 - fee)
            held = 0.0
        if held > 0.0 and stop > 0.0:
            floor_, ceiling = entry * (1 - stop), entry * (1 + target)
            price = 0.0
            if open_[t] <= floor_ or open_[t] >= ceiling:
                price = open_[t]
            elif low[t] <= floor_:
                price = floor_
            elif high[t] >= ceiling:
                price = ceiling
            if price > 0.0:
                cash = held * price * (1 - fee)
                held = 0.0
        if t > 0:
            change = close[t] - close[t - 1]
            gains = (gains * 13 + max(change, 0.0)) / 14
            losses = (losses * 13 + max(-change, 0.0)) / 14
        away = close[t] - base
        total += away
        squares += away * away
        if t >= 20:
            gone = close[t - 20] - base
            total -= gone
            squares -= gone * gone
        wants = 0
        if t >= 19:
            mean = total / 20
            width = 2 * np.sqrt(max(squares / 20 - mean * mean, 0.0))
            strength = 100.0 if losses == 0 else 100 - 100 / (1 + gains / losses)
            if strength < 30 and away < mean - width:
                wants = 1
            elif strength > 70 and away > mean + width:
                wants = -1
        equity[t] = cash + held * close[t]
        if t % 4096 == 0:  # begin the running sums anew before they drift
            base, total, squares = close[t], 0.0, 0.0
            for k in range(max(0, t - 19), t + 1):
                total += close[k] - base
                squares += (close[k] - base) ** 2
    return entries, equity[-1], equity


@njit(cache=True)
def portfolio(open_: Any, close: Any, capital: float, fee: float, share: float) -> Any:
    """D: (entries, final equity, equity per bar) of [bars, symbols]; SMA(10) over SMA(30) on each."""
    n, count = close.shape
    equity = np.empty(n)
    near, far, held, buys = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count)
    wants = np.zeros(count, np.bool_)
    cash, entries = capital, 0
    for t in range(n):
        for i in range(count):
            if held[i] > 0.0 and not wants[i]:
                cash += held[i] * open_[t, i] * (1 - fee)
                held[i] = 0.0
        for i in range(count):
            if wants[i] and held[i] == 0.0 and buys[i] > 0.0:
                held[i] = buys[i]
                cash -= held[i] * open_[t, i] * (1 + fee)
                entries += 1
        worth = cash
        for i in range(count):
            worth += held[i] * close[t, i]
        equity[t] = worth
        for i in range(count):
            near[i] += close[t, i]
            far[i] += close[t, i]
            if t >= 10:
                near[i] -= close[t - 10, i]
            if t >= 30:
                far[i] -= close[t - 30, i]
            if t >= 29:
                over = near[i] / 10 > far[i] / 30
                if over and not wants[i]:
                    buys[i] = share * worth / close[t, i]
                wants[i] = over
    return entries, equity[-1], equity


@njit(cache=True)
def exponential_cross(
    open_: Any, close: Any, short: int, long: int, capital: float, fee: float
) -> Any:
    """A with exponential averages; what it gives is what `cross` gives."""
    n = len(close)
    equity = np.empty(n)
    fills = np.empty((n // 4, 4))
    cash, held, wants, entries, count = capital, 0.0, False, 0, 0
    near = far = close[0]
    a, b = 2 / (short + 1), 2 / (long + 1)
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
        if t > 0:
            near = (1 - a) * near + a * close[t]
            far = (1 - b) * far + b * close[t]
        wants = t >= long - 1 and near > far
        equity[t] = cash + held * close[t]
    return entries, equity[-1], equity, fills[:count]


@njit(cache=True)
def _worth(worth: Any, state: Any) -> None:
    """One more marked equity: state is (before, peak, total, squares, lowest)."""
    change = worth / state[0] - 1
    state[2] += change
    state[3] += change * change
    state[0] = worth
    state[1] = max(state[1], worth)
    state[4] = max(state[4], 1 - worth / state[1])


@njit(cache=True)
def _told(state: Any, n: int, out: Any) -> None:
    mean = state[2] / n
    deviation = np.sqrt(state[3] / n - mean * mean)
    out[0], out[1], out[2] = state[0], mean / deviation * np.sqrt(MINUTES_A_YEAR), state[4]


@njit(cache=True, nogil=True)
def swept_exponential(
    open_: Any, close: Any, pairs: Any, capital: float, fee: float, out: Any
) -> None:
    """B with exponential averages."""
    n = len(close)
    state = np.empty(5)
    for k in range(len(pairs)):
        a, b, long = 2 / (pairs[k, 0] + 1), 2 / (pairs[k, 1] + 1), pairs[k, 1]
        cash, held, wants = capital, 0.0, False
        near = far = close[0]
        state[:] = 0.0
        state[0] = state[1] = capital
        for t in range(n):
            if wants and held == 0.0:
                held = cash / (open_[t] * (1 + fee))
                cash = 0.0
            elif not wants and held > 0.0:
                cash = held * open_[t] * (1 - fee)
                held = 0.0
            if t > 0:
                near = (1 - a) * near + a * close[t]
                far = (1 - b) * far + b * close[t]
            wants = t >= long - 1 and near > far
            _worth(cash + held * close[t], state)
        _told(state, n, out[k])


@njit(cache=True, nogil=True)
def swept_reversion(
    open_: Any, close: Any, pairs: Any, capital: float, fee: float, out: Any
) -> None:
    """B with RSI and Bollinger: pairs are (window of the bands, window of the RSI)."""
    n = len(close)
    state = np.empty(5)
    for j in range(len(pairs)):
        window, strength = pairs[j]
        cash, held, wants = capital, 0.0, 0
        gains = losses = total = squares = 0.0
        base = close[0]
        state[:] = 0.0
        state[0] = state[1] = capital
        for t in range(n):
            if wants == 1 and held == 0.0:
                held = cash / (open_[t] * (1 + fee))
                cash = 0.0
            elif wants == -1 and held > 0.0:
                cash = held * open_[t] * (1 - fee)
                held = 0.0
            if t > 0:
                change = close[t] - close[t - 1]
                gains = (gains * (strength - 1) + max(change, 0.0)) / strength
                losses = (losses * (strength - 1) + max(-change, 0.0)) / strength
            away = close[t] - base
            total += away
            squares += away * away
            if t >= window:
                gone = close[t - window] - base
                total -= gone
                squares -= gone * gone
            wants = 0
            if t >= window - 1 and t >= strength:
                mean = total / window
                width = 2 * np.sqrt(max(squares / window - mean * mean, 0.0))
                index = 100.0 if losses == 0 else 100 - 100 / (1 + gains / losses)
                if index < 30 and away < mean - width:
                    wants = 1
                elif index > 70 and away > mean + width:
                    wants = -1
            _worth(cash + held * close[t], state)
            if t % 4096 == 0:  # begin the running sums anew before they drift
                base, total, squares = close[t], 0.0, 0.0
                for m in range(max(0, t - window + 1), t + 1):
                    total += close[m] - base
                    squares += (close[m] - base) ** 2
        _told(state, n, out[j])
