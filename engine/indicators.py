"""Indicators by name, over pandas and `ta`, as causal float64 columns that know their memory.

Every function takes float64 arrays of one series and gives `Feature`s of the same length. A row is
NaN until the indicator is defined there: `ta` pads ATR and ADX with zeros, which we undo. Nothing
here reads a later row than the one it answers for. Definitions: docs/indicators.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine import rolling

Column = npt.NDArray[np.float64]

RECURSIVE: Final = 40
"""A recursive average of n bars has forgotten its start to 1e-17 after 40 n bars: exp(-40)."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A causal column and how many bars back its newest value can still feel (`memory`).

    `input` names the bar series it was computed on; empty means the strategy's clock input.
    """

    values: Column
    memory: int
    input: str = ""

    def on(self, key: str) -> Feature:
        """The same column, said to belong to input `key`."""
        return replace(self, input=key)

    def __sub__(self, other: Feature | float) -> Feature:
        return _combined(np.subtract, self, other)

    def __add__(self, other: Feature | float) -> Feature:
        return _combined(np.add, self, other)

    def __mul__(self, other: Feature | float) -> Feature:
        return _combined(np.multiply, self, other)

    def __truediv__(self, other: Feature | float) -> Feature:
        return _combined(np.divide, self, other)

    def shift(self, bars: int) -> Feature:
        """The value `bars` bars ago. Never a later one."""
        if bars < 0:
            raise ValueError(f"shift({bars}) would read the future; give 0 or more")
        shifted = np.full_like(self.values, np.nan)
        shifted[bars:] = self.values[: max(0, len(self.values) - bars)]
        return Feature(shifted, self.memory + bars, self.input)


Operation = Callable[[Any, Any], Any]


def _combined(operation: Operation, left: Feature, right: Feature | float) -> Feature:
    if not isinstance(right, Feature):
        return Feature(operation(left.values, right), left.memory, left.input)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = operation(left.values, right.values)
    return Feature(values, max(left.memory, right.memory), left.input)


def _series(*columns: Column) -> tuple[Any, ...]:
    """Columns as `ta` wants them."""
    import pandas as pd  # only these indicators wait for it

    return tuple(pd.Series(column) for column in columns)


def _check(window: int, at_least: int = 1) -> None:
    if window < at_least:
        raise ValueError(f"window {window}: give {at_least} or more bars")


def sma(values: Column, window: int) -> Feature:
    """Simple moving average of the last `window` bars."""
    _check(window)
    return Feature(rolling.window_means(values, window), window)


def ema(values: Column, window: int) -> Feature:
    """Exponential moving average, alpha = 2 / (window + 1), seeded with the first value, shown from bar `window` on."""
    _check(window)
    mean = rolling.smoothed(values, 2 / (window + 1), window)
    return Feature(mean, RECURSIVE * (window + 1) // 2)


def wilder(values: Column, window: int) -> Feature:
    """Wilder's average: exponential with alpha = 1 / window, seeded with the first value."""
    _check(window)
    return Feature(rolling.smoothed(values, 1 / window, window), RECURSIVE * window)


def deviation(values: Column, window: int) -> Feature:
    """Standard deviation of the last `window` bars, dividing by `window` (population), as Bollinger defines it."""
    _check(window)
    return Feature(rolling.window_deviations(values, window), window)


def bollinger(
    values: Column, window: int = 20, deviations: float = 2.0
) -> tuple[Feature, Feature, Feature]:
    """(lower, middle, upper): the simple average and `deviations` population deviations around it."""
    _check(window)
    lower, middle, upper = rolling.window_bands(values, window, deviations)
    return Feature(lower, window), Feature(middle, window), Feature(upper, window)


def rsi(values: Column, window: int = 14, method: str = "wilder") -> Feature:
    """Relative strength index, 0 to 100.

    `wilder` averages gains and losses exponentially with alpha 1 / window; `cutler`
    takes simple averages of the last `window` changes. Undefined where nothing moved at all.
    """
    _check(window)
    if method == "wilder":
        return Feature(rolling.wilder_strength(values, window), RECURSIVE * window)
    if method != "cutler":
        raise ValueError(f"RSI method {method!r}: give 'wilder' or 'cutler'")
    change = np.diff(values, prepend=np.nan)
    gains = rolling.window_sums(np.where(change > 0, change, 0.0), window)
    losses = rolling.window_sums(np.where(change < 0, -change, 0.0), window)
    with np.errstate(invalid="ignore", divide="ignore"):
        out = 100 * gains / (gains + losses)
    return Feature(_undefined_before(out, window), window + 1)


def _undefined_before(values: Column, first: int) -> Column:
    """NaN in the rows before `first`, where a window is not full yet."""
    out = np.array(values, dtype=np.float64)
    out[:first] = np.nan
    return out


def true_range(high: Column, low: Column, close: Column) -> Feature:
    """The bar's range, widened to the close before it. The first bar has none."""
    before = np.concatenate(([np.nan], close[:-1]))
    spans = np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))
    return Feature(spans, 2)


def atr(high: Column, low: Column, close: Column, window: int = 14) -> Feature:
    """Average true range by Wilder's average, seeded with the mean of the first `window` ranges."""
    _check(window)
    return Feature(rolling.wilder_ranges(high, low, close, window), RECURSIVE * window)


def adx(high: Column, low: Column, close: Column, window: int = 14) -> Feature:
    """Average directional index, 0 to 100, by Wilder's averages (`ta`)."""
    _check(window)
    if len(close) < 2 * window:
        return Feature(np.full(len(close), np.nan), 2 * RECURSIVE * window)
    from ta.trend import ADXIndicator

    columns = _series(high, low, close)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # ta divides by a zero range in flat markets
        out = ADXIndicator(*columns, window=window).adx().to_numpy(np.float64)
    return Feature(_undefined_before(out, 2 * window - 1), 2 * RECURSIVE * window)


def macd(
    values: Column, fast: int = 12, slow: int = 26, signal: int = 9
) -> tuple[Feature, Feature, Feature]:
    """(line, signal, histogram): the difference of two exponential averages, its average, and their gap."""
    from ta.trend import MACD

    (series,) = _series(values)
    found = MACD(series, window_slow=slow, window_fast=fast, window_sign=signal)
    memory = RECURSIVE * (slow + signal + 2) // 2
    columns = (found.macd(), found.macd_signal(), found.macd_diff())
    line, average, gap = (Feature(c.to_numpy(np.float64), memory) for c in columns)
    return line, average, gap


def stochastic(
    high: Column, low: Column, close: Column, window: int = 14, smooth: int = 3
) -> tuple[Feature, Feature]:
    """(%K, %D): where the close stands in the range of `window` bars, 0 to 100, and its simple average."""
    from ta.momentum import StochasticOscillator

    columns = _series(high, low, close)
    found = StochasticOscillator(*columns, window=window, smooth_window=smooth)
    k, d = found.stoch().to_numpy(np.float64), found.stoch_signal().to_numpy(np.float64)
    return Feature(k, window), Feature(d, window + smooth - 1)


def cci(high: Column, low: Column, close: Column, window: int = 20) -> Feature:
    """Commodity channel index: typical price from its average, in 0.015 mean absolute deviations (`ta`)."""
    from ta.trend import CCIIndicator

    columns = _series(high, low, close)
    return Feature(CCIIndicator(*columns, window=window).cci().to_numpy(np.float64), window)


def roc(values: Column, window: int = 10) -> Feature:
    """Rate of change over `window` bars, as a fraction."""
    _check(window)
    out = np.full(len(values), np.nan)
    out[window:] = values[window:] / values[: max(0, len(values) - window)] - 1
    return Feature(out, window + 1)


def highest(values: Column, window: int) -> Feature:
    """The highest of the last `window` bars, this one included."""
    _check(window)
    return Feature(rolling.extremes(values, window, 1.0), window)


def lowest(values: Column, window: int) -> Feature:
    """The lowest of the last `window` bars, this one included."""
    _check(window)
    return Feature(rolling.extremes(values, window, -1.0), window)


def donchian(high: Column, low: Column, window: int = 20) -> tuple[Feature, Feature]:
    """(lower, upper): the extremes of the `window` bars *before* this one, so that a close can break them."""
    return lowest(low, window).shift(1), highest(high, window).shift(1)


def volatility(values: Column, window: int = 20, bars_per_year: float = 1.0) -> Feature:
    """Sample deviation of the last `window` log returns, times the root of `bars_per_year`."""
    _check(window, 2)
    returns = np.diff(np.log(values), prepend=np.nan)
    mean = rolling.window_means(np.nan_to_num(returns), window)
    out = np.full(len(values), np.nan)
    rows = len(values) - window + 1
    if rows > 0:
        squares = np.zeros(rows)
        for offset in range(window):
            squares += (returns[offset : offset + rows] - mean[window - 1 :]) ** 2
        out[window - 1 :] = np.sqrt(squares / (window - 1) * bars_per_year)
    return Feature(_undefined_before(out, window), window + 1)
