"""Indicators: their definitions, and that no row ever knows a later one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import indicators, rolling
from tests.builders import a_market

BARS = a_market(300, 3)
EVERY = {
    "sma": lambda b: indicators.sma(b.close, 10),
    "ema": lambda b: indicators.ema(b.close, 10),
    "wilder": lambda b: indicators.wilder(b.close, 10),
    "deviation": lambda b: indicators.deviation(b.close, 10),
    "bollinger": lambda b: indicators.bollinger(b.close, 10),
    "rsi": lambda b: (indicators.rsi(b.close, 7), indicators.rsi(b.close, 7, "cutler")),
    "true_range": lambda b: indicators.true_range(b.high, b.low, b.close),
    "atr": lambda b: indicators.atr(b.high, b.low, b.close, 7),
    "adx": lambda b: indicators.adx(b.high, b.low, b.close, 7),
    "macd": lambda b: indicators.macd(b.close, 5, 9, 4),
    "stochastic": lambda b: indicators.stochastic(b.high, b.low, b.close, 7, 3),
    "cci": lambda b: indicators.cci(b.high, b.low, b.close, 10),
    "roc": lambda b: indicators.roc(b.close, 5),
    "highest": lambda b: indicators.highest(b.high, 5),
    "lowest": lambda b: indicators.lowest(b.low, 5),
    "donchian": lambda b: indicators.donchian(b.high, b.low, 5),
    "volatility": lambda b: indicators.volatility(b.close, 10, 252),
}


def features(name, bars):
    found = EVERY[name](bars)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("name", EVERY)
def test_the_future_cannot_change_the_past(name):
    for whole, cut in zip(features(name, BARS), features(name, BARS[:200]), strict=True):
        np.testing.assert_array_equal(whole.values[:200], cut.values)


@pytest.mark.parametrize("name", EVERY)
def test_few_bars_give_what_their_rows_are_with_more(name):
    """Wherever the cut falls: no row is defined only because others follow it."""
    for whole, *cuts in zip(
        features(name, BARS[:40]), *(features(name, BARS[:n]) for n in range(1, 40)), strict=True
    ):
        for n, cut in enumerate(cuts, 1):
            np.testing.assert_allclose(cut.values, whole.values[:n], rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_memory_is_enough_to_give_the_newest_value(name):
    """A window of `memory` bars gives what all of history gives, to the last digit that matters."""
    bars = a_market(1500, 4)
    for number, whole in enumerate(features(name, bars)):
        tail = features(name, bars[-whole.memory - 2 :])[number]
        assert tail.values[-1] == pytest.approx(whole.values[-1], rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_too_few_bars_are_undefined_never_zero_and_never_an_error(name):
    for count in (0, 1, 3):
        for feature in features(name, BARS[:count]):
            assert len(feature.values) == count
            if name not in ("true_range",):
                assert np.isnan(feature.values).all()


def test_a_window_s_value_does_not_depend_on_where_the_series_began():
    for start in (0, 1, 17, 100):
        part = indicators.sma(BARS.close[start:], 30).values[-50:]
        np.testing.assert_array_equal(part, indicators.sma(BARS.close, 30).values[-50:])


def test_simple_average_and_deviation_are_what_they_say():
    last = BARS.close[-10:]
    assert indicators.sma(BARS.close, 10).values[-1] == pytest.approx(last.mean(), rel=1e-15)
    assert indicators.deviation(BARS.close, 10).values[-1] == pytest.approx(last.std(), rel=1e-12)


def test_ema_is_recursive_with_alpha_two_over_window_plus_one():
    value = BARS.close[0]
    for close in BARS.close[1:]:
        value += 2 / 11 * (close - value)
    assert indicators.ema(BARS.close, 10).values[-1] == pytest.approx(value, rel=1e-12)


def test_wilder_s_rsi_by_hand():
    change = np.diff(BARS.close)
    gain = loss = 0.0
    for step in change:
        gain += (max(step, 0.0) - gain) / 7
        loss += (max(-step, 0.0) - loss) / 7
    assert indicators.rsi(BARS.close, 7).values[-1] == pytest.approx(
        100 * gain / (gain + loss), rel=1e-9
    )


def test_cutler_s_rsi_by_hand():
    change = np.diff(BARS.close[-8:])
    gain, loss = change[change > 0].sum(), -change[change < 0].sum()
    assert indicators.rsi(BARS.close, 7, "cutler").values[-1] == pytest.approx(
        100 * gain / (gain + loss)
    )


def test_atr_by_hand_and_without_the_zeros_of_its_library():
    ranges = indicators.true_range(BARS.high, BARS.low, BARS.close).values.copy()
    ranges[0] = BARS.high[0] - BARS.low[0]
    value = ranges[:7].mean()
    for step in ranges[7:]:
        value += (step - value) / 7
    found = indicators.atr(BARS.high, BARS.low, BARS.close, 7).values
    assert found[-1] == pytest.approx(value, rel=1e-9)
    assert np.isnan(found[:6]).all()
    assert (found[6:] > 0).all()


def test_donchian_looks_at_the_bars_before_this_one():
    lower, upper = indicators.donchian(BARS.high, BARS.low, 5)
    assert upper.values[50] == BARS.high[45:50].max()
    assert lower.values[50] == BARS.low[45:50].min()


def test_a_shift_into_the_future_is_refused():
    with pytest.raises(ValueError, match="would read the future"):
        indicators.sma(BARS.close, 5).shift(-1)


@given(st.integers(2, 40), st.integers(0, 60))
def test_arithmetic_keeps_the_longest_memory(window, shift):
    both = indicators.sma(BARS.close, window) - indicators.sma(BARS.close, 5).shift(shift)
    assert both.memory == max(window, 5 + shift)


def test_every_indicator_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "indicators.md").read_text()
    public = [
        name for name, value in vars(indicators).items()
        if callable(value) and getattr(value, "__module__", "") == indicators.__name__ and name[0].islower()
    ]  # fmt: skip
    assert set(public) <= set(EVERY)
    for name in public:
        assert f"`{name}(" in text, name


@pytest.mark.parametrize("window", [1, 2, 3, 7, 10, 30, 64, 200])
def test_a_row_depends_on_its_window_alone_to_the_last_bit(window):
    values = np.random.default_rng(7).standard_normal(3000).cumsum() + 100
    for function in (rolling.window_means, rolling.window_sums, rolling.window_deviations):
        whole = function(values, window)
        for start in (1, 17, 1024, 2047):
            part = function(values[start:], window)
            np.testing.assert_array_equal(part[window - 1 :], whole[start + window - 1 :])


@pytest.mark.parametrize("window", [1, 2, 5, 14, 50])
def test_compiled_loops_equal_pandas_and_ta(window):
    from ta.momentum import RSIIndicator
    from ta.volatility import AverageTrueRange

    close = np.random.default_rng(3).standard_normal(2500).cumsum() + 200
    high, low = close + 1.5, close - 0.5
    frame = pd.Series(close)
    pairs = [
        (rolling.window_means(close, window), frame.rolling(window).mean()),
        (rolling.extremes(close, window, 1.0), frame.rolling(window).max()),
        (rolling.extremes(close, window, -1.0), frame.rolling(window).min()),
        (
            rolling.smoothed(close, 1 / window, window),
            frame.ewm(alpha=1 / window, min_periods=window, adjust=False).mean(),
        ),
    ]
    if window > 1:
        pairs.append((rolling.window_deviations(close, window), frame.rolling(window).std(ddof=0)))
        strength = RSIIndicator(frame, window=window).rsi().to_numpy(copy=True)
        strength[:window] = np.nan
        pairs.append((rolling.wilder_strength(close, window), strength))
        columns = (pd.Series(high), pd.Series(low), frame)
        ranges = AverageTrueRange(*columns, window=window).average_true_range().to_numpy(copy=True)
        ranges[: window - 1] = np.nan
        pairs.append((rolling.wilder_ranges(high, low, close, window), ranges))
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-9, atol=1e-9)


def test_an_average_of_a_column_that_begins_later_begins_with_it():
    values = np.concatenate([[np.nan] * 4, np.arange(20.0)])
    theirs = pd.Series(values).ewm(span=5, min_periods=5, adjust=False).mean()
    np.testing.assert_allclose(rolling.smoothed(values, 2 / 6, 5), theirs)
    highest = pd.Series(values).rolling(3).max()
    np.testing.assert_array_equal(rolling.extremes(values, 3, 1.0), highest)


def one_after_another(values, alpha, least):
    mean, seen, found = np.nan, 0, []
    for value in values.tolist():
        if value == value:
            seen += 1
            mean = value if seen == 1 else (1.0 - alpha) * mean + alpha * value
        found.append(mean if seen >= least else np.nan)
    return np.array(found)


@pytest.mark.parametrize("window", [1, 2, 5, 14, 40])
@pytest.mark.parametrize("kind", ["wandering", "still", "with holes", "never forgotten"])
def test_an_exponential_average_is_what_one_step_after_another_gives_to_the_last_bit(window, kind):
    """Parts of a long series are averaged side by side; a spike may not be forgotten where one begins."""
    random = np.random.default_rng(window)
    values = random.standard_normal(20_000).cumsum() + 500
    if kind == "still":
        values = np.repeat(np.round(values[:100], 2), 200)
    elif kind == "with holes":
        values[random.random(20_000) < 0.3] = np.nan
        values[:50] = np.nan
        values[9_000:11_000] = np.nan
    elif kind == "never forgotten":
        values[3_000::2_000] = 1e200
    alpha = 2 / (window + 1)
    expected = one_after_another(values, alpha, window)
    np.testing.assert_array_equal(rolling.smoothed(values, alpha, window), expected)
