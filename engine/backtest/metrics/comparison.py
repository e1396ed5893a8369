"""A run beside buying and holding what it traded, or another series."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.backtest.metrics.facts import SAME, Facts
from engine.backtest.metrics.model import Definition, Found, Undefined
from engine.bars import Prices


def _buy_and_hold(facts: Facts) -> Found:
    returns = [float(bars.close[-1] / bars.open[0]) - 1 for bars in facts.held]
    return Found(sum(returns) / len(returns), len(returns))


def _beta(facts: Facts) -> Found:
    return Found(facts.beta, len(facts.returns))


def _alpha(facts: Facts) -> Found:
    ours = float(facts.excess.mean())
    theirs = float(facts.benchmark_returns.mean()) - facts.risk_free_daily
    daily = ours - facts.beta * theirs
    days = facts.days_per_year
    if days * math.log1p(daily) > 700:
        raise Undefined("too large to be a number", len(facts.returns))
    return Found((1 + daily) ** days - 1, len(facts.returns), {"daily": daily})


def _r_squared(facts: Facts) -> Found:
    correlation = facts.covariance / (facts.deviation * facts.benchmark_deviation)
    return Found(min(1.0, correlation**2), len(facts.returns), {"correlation": correlation})


def _difference(facts: Facts) -> tuple[Prices, float]:
    """(daily returns less the benchmark's, their standard deviation (n - 1))."""
    difference = facts.returns - facts.benchmark_returns
    return difference, float(difference.std(ddof=1))


def _tracking_error(facts: Facts) -> Found:
    _, deviation = _difference(facts)
    return Found(deviation * math.sqrt(facts.days_per_year), len(facts.returns))


def _information_ratio(facts: Facts) -> Found:
    difference, deviation = _difference(facts)
    if deviation < SAME:
        raise Undefined("returns follow the benchmark exactly", len(difference))
    daily = float(difference.mean()) / deviation
    return Found(daily * math.sqrt(facts.days_per_year), len(difference))


def _treynor(facts: Facts) -> Found:
    if abs(facts.beta) < SAME:
        raise Undefined("beta is zero", len(facts.returns))
    yearly = float(facts.excess.mean()) * facts.days_per_year
    return Found(yearly / facts.beta, len(facts.returns))


def _capture(facts: Facts, days: npt.NDArray[np.bool_], which: str) -> Found:
    ours, theirs = facts.returns[days], facts.benchmark_returns[days]
    if not len(theirs):
        raise Undefined(f"the benchmark had no day {which}")
    return Found(_mean_growth(ours) / _mean_growth(theirs), len(theirs))


def _mean_growth(returns: Prices) -> float:
    """The geometric mean of daily returns."""
    return math.expm1(float(np.log1p(returns).mean()))


def _up_capture(facts: Facts) -> Found:
    return _capture(facts, facts.benchmark_returns > 0, "up")


def _down_capture(facts: Facts) -> Found:
    return _capture(facts, facts.benchmark_returns < 0, "down")


COMPARISON: Final = (
    Definition(
        "buy_and_hold",
        "%",
        "last close / first open - 1, without costs; of several instruments the mean",
        _buy_and_hold,
    ),
    Definition(
        "alpha",
        "%",
        "(1 + mean daily excess return - beta x the benchmark's) ^ trading days a year - 1",
        _alpha,
    ),
    Definition(
        "beta",
        "ratio",
        "covariance of daily returns with the benchmark's / variance of the benchmark's",
        _beta,
    ),
    Definition(
        "r_squared",
        "ratio",
        "square of the correlation of daily returns with the benchmark's",
        _r_squared,
    ),
    Definition(
        "tracking_error",
        "%",
        "standard deviation (n - 1) of daily returns less the benchmark's x sqrt(trading days a year)",
        _tracking_error,
    ),
    Definition(
        "information_ratio",
        "ratio",
        "mean of daily returns less the benchmark's / their standard deviation (n - 1) "
        "x sqrt(trading days a year)",
        _information_ratio,
    ),
    Definition(
        "treynor", "ratio", "mean daily excess return x trading days a year / beta", _treynor
    ),
    Definition(
        "up_capture",
        "%",
        "geometric mean of daily returns / the benchmark's, on days the benchmark rose",
        _up_capture,
    ),
    Definition(
        "down_capture",
        "%",
        "geometric mean of daily returns / the benchmark's, on days the benchmark fell",
        _down_capture,
    ),
)
