"""How returns scatter, how far equity fell, and what one is worth by the other."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from engine.backtest.metrics.facts import Facts
from engine.backtest.metrics.model import Definition, Found, Undefined
from engine.bars import SECOND, Prices, instant

_NORMAL: Final = NormalDist()
_EULER: Final = 0.5772156649015329
TAIL: Final = 0.05
"""The share of days value at risk is about."""


def _volatility(facts: Facts) -> Found:
    returns = facts.returns
    return Found(float(returns.std(ddof=1)) * math.sqrt(facts.days_per_year), len(returns))


# Ratios of return to scatter --------------------------------------------------------------------


def _sharpe(facts: Facts) -> Found:
    yearly = math.sqrt(facts.days_per_year)
    error = math.sqrt(facts.ratio_variance) * yearly
    details = {"standard_error": error, "risk_free": facts.risk_free}
    return Found(facts.ratio * yearly, len(facts.returns), details)


def _sharpe_error(facts: Facts) -> Found:
    yearly = math.sqrt(facts.days_per_year)
    skew, kurtosis = facts.moments
    details = {"skewness": skew, "kurtosis": kurtosis}
    return Found(math.sqrt(facts.ratio_variance) * yearly, len(facts.returns), details)


def _above(facts: Facts, floor: float) -> float:
    """The probability that the true daily ratio is above `floor` (Bailey and Lopez de Prado 2012)."""
    error = math.sqrt(facts.ratio_variance)
    if error == 0:
        raise Undefined("the standard error is zero", len(facts.returns))
    return _NORMAL.cdf((facts.ratio - floor) / error)


def _psr(facts: Facts) -> Found:
    details: dict[str, Any] = {"above": 0.0}
    if facts.ratio > 0:
        variance = facts.ratio_variance * (len(facts.returns) - 1)
        needed = 1 + variance * (_NORMAL.inv_cdf(1 - TAIL) / facts.ratio) ** 2
        details["days_for_95_percent"] = math.ceil(needed)
    return Found(_above(facts, 0.0), len(facts.returns), details)


def _dsr(facts: Facts) -> Found:
    """As psr, above the ratio that the best of so many worthless trials would show by luck."""
    variance = facts.trials_variance
    known = variance is not None
    variance = facts.ratio_variance if variance is None else variance / facts.days_per_year
    floor = math.sqrt(variance) * _luckiest(facts.trials)
    details: dict[str, Any] = {
        "trials": facts.trials,
        "above": floor * math.sqrt(facts.days_per_year),
        "variance_from": "the trials" if known else "the standard error of this run",
    }
    if known:
        details["trials_variance"] = facts.trials_variance
    return Found(_above(facts, floor), len(facts.returns), details)


def _luckiest(trials: int) -> float:
    """How many standard deviations above 0 the best of that many trials is expected to be."""
    if trials < 2:
        return 0.0
    first = _NORMAL.inv_cdf(1 - 1 / trials)
    second = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return (1 - _EULER) * first + _EULER * second


def _downside(facts: Facts) -> float:
    below = np.minimum(facts.excess, 0.0)
    return math.sqrt(float((below * below).mean()))


def _downside_deviation(facts: Facts) -> Found:
    yearly = math.sqrt(facts.days_per_year)
    return Found(_downside(facts) * yearly, len(facts.returns))


def _sortino(facts: Facts) -> Found:
    downside = _downside(facts)
    if downside == 0:
        raise Undefined("no day below the risk-free rate", len(facts.returns))
    daily = float(facts.excess.mean()) / downside
    return Found(daily * math.sqrt(facts.days_per_year), len(facts.returns))


def _omega(facts: Facts) -> Found:
    excess = facts.excess
    lost = -float(excess[excess < 0].sum())
    if lost == 0:
        raise Undefined("no day below the risk-free rate", len(excess))
    return Found(float(excess[excess > 0].sum()) / lost, len(excess))


# The shape of daily returns ---------------------------------------------------------------------


def _quantile(ordered: Prices, share: float) -> float:
    """Linear between neighbours, of values in order."""
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def _var(facts: Facts) -> Found:
    return Found(-_quantile(np.sort(facts.returns), TAIL), len(facts.returns))


def _cvar(facts: Facts) -> Found:
    ordered = np.sort(facts.returns)
    tail = ordered[: np.searchsorted(ordered, _quantile(ordered, TAIL), side="right")]
    return Found(-float(tail.mean()), len(ordered), {"days": len(tail)})


def _tail_ratio(facts: Facts) -> Found:
    ordered = np.sort(facts.returns)
    low, high = abs(_quantile(ordered, TAIL)), abs(_quantile(ordered, 1 - TAIL))
    if low == 0:
        raise Undefined("the worst days lost nothing", len(ordered))
    return Found(high / low, len(ordered))


def _skew(facts: Facts) -> Found:
    count = len(facts.returns)
    if count < 3:
        raise Undefined("fewer than three daily returns", count)
    correction = math.sqrt(count * (count - 1)) / (count - 2)
    return Found(facts.moments[0] * correction, count)


def _kurtosis(facts: Facts) -> Found:
    count = len(facts.returns)
    if count < 4:
        raise Undefined("fewer than four daily returns", count)
    plain = facts.moments[1] - 3
    corrected = (count - 1) / ((count - 2) * (count - 3)) * ((count + 1) * plain + 6)
    return Found(corrected, count)


# Falls ------------------------------------------------------------------------------------------


def _max_drawdown(facts: Facts) -> Found:
    walk = facts.walk
    if walk.deepest <= 0:
        return Found(0.0, facts.marks)
    details = {
        "peak_at": instant(facts.at(walk.peak)).isoformat(),
        "lowest_at": instant(facts.at(walk.low)).isoformat(),
        "recovered_at": None if walk.back < 0 else instant(facts.at(walk.back)).isoformat(),
    }
    return Found(walk.deepest, facts.marks, details)


def _max_drawdown_value(facts: Facts) -> Found:
    return Found(facts.walk.costliest, facts.marks)


def _recovery(facts: Facts) -> Found:
    walk = facts.walk
    if walk.deepest <= 0:
        raise Undefined("equity never fell", facts.marks)
    if walk.back < 0:
        raise Undefined("not back at the peak since", facts.marks)
    return Found((facts.at(walk.back) - facts.at(walk.low)) / SECOND, facts.marks)


def _time_under_water(facts: Facts) -> Found:
    return Found(facts.walk.under_water / facts.marks, facts.marks)


def _longest_under_water(facts: Facts) -> Found:
    return Found(facts.walk.longest / SECOND, facts.marks)


def _calmar(facts: Facts) -> Found:
    growth, deepest = facts.growth, facts.walk.deepest
    if deepest == 0:
        raise Undefined("equity never fell", facts.days_passed)
    return Found(growth / deepest, facts.days_passed)


def _ulcer(facts: Facts) -> float:
    falls = facts.drawdowns[1:]
    return math.sqrt(float((falls * falls).mean()))


def _ulcer_index(facts: Facts) -> Found:
    return Found(_ulcer(facts), len(facts.returns))


def _martin(facts: Facts) -> Found:
    ulcer = _ulcer(facts)
    if ulcer == 0:
        raise Undefined("no day ended below an earlier one", len(facts.returns))
    return Found((facts.growth - facts.risk_free) / ulcer, len(facts.returns))


def _serenity(facts: Facts) -> Found:
    """The pitfall: the mean of the deepest 5 % of daily drawdowns, in units of yearly volatility."""
    ulcer = _ulcer(facts)
    if ulcer == 0:
        raise Undefined("no day ended below an earlier one", len(facts.returns))
    falls = np.sort(facts.drawdowns[1:])
    deep = falls[falls >= _quantile(falls, 1 - TAIL)]
    pitfall = float(deep.mean()) / (facts.deviation * math.sqrt(facts.days_per_year))
    value = (facts.growth - facts.risk_free) / (ulcer * pitfall)
    return Found(value, len(facts.returns), {"pitfall": pitfall, "ulcer_index": ulcer})


RATIOS: Final = (
    Definition(
        "volatility",
        "%",
        "standard deviation (n - 1) of daily returns x sqrt(trading days a year)",
        _volatility,
    ),
    Definition(
        "sharpe",
        "ratio",
        "mean of daily returns above the risk-free rate / their standard deviation (n - 1) "
        "x sqrt(trading days a year)",
        _sharpe,
    ),
    Definition(
        "sharpe_error",
        "ratio",
        "standard error of the Sharpe ratio s (daily, then annualised) with skewness g and kurtosis k: "
        "sqrt((1 - g s + (k - 1) / 4 s^2) / (n - 1))",
        _sharpe_error,
    ),
    Definition(
        "psr",
        "%",
        "probability that the true Sharpe ratio is above 0: normal distribution of Sharpe / its standard error",
        _psr,
    ),
    Definition(
        "dsr",
        "%",
        "probability that the true Sharpe ratio is above what the best of N worthless trials would show by luck: "
        "sqrt(variance) x ((1 - 0.5772) z(1 - 1/N) + 0.5772 z(1 - 1/(N e))), z the normal quantile",
        _dsr,
    ),
    Definition(
        "downside_deviation",
        "%",
        "sqrt(mean of min(daily return above the risk-free rate, 0)^2) x sqrt(trading days a year)",
        _downside_deviation,
    ),
    Definition(
        "sortino",
        "ratio",
        "mean of daily returns above the risk-free rate / sqrt(mean of min(them, 0)^2) "
        "x sqrt(trading days a year)",
        _sortino,
    ),
    Definition(
        "omega",
        "ratio",
        "sum of daily returns above the risk-free rate / sum of those below, as amounts",
        _omega,
    ),
)

SHAPE: Final = (
    Definition(
        "var_95", "%", "loss that 95 % of days stay under: -5 % quantile of daily returns", _var
    ),
    Definition("cvar_95", "%", "mean loss of the days at or beyond value at risk", _cvar),
    Definition(
        "tail_ratio",
        "ratio",
        "95 % quantile / 5 % quantile of daily returns, as amounts",
        _tail_ratio,
    ),
    Definition(
        "skew", "ratio", "skewness of daily returns, corrected for n (as pandas does)", _skew
    ),
    Definition(
        "kurtosis",
        "ratio",
        "excess kurtosis of daily returns, corrected for n (as pandas does); a normal has 0",
        _kurtosis,
    ),
)

FALLS: Final = (
    Definition(
        "max_drawdown",
        "%",
        "largest fall of marked equity from its highest so far, as a part of that, at every bar",
        _max_drawdown,
    ),
    Definition(
        "max_drawdown_value",
        "currency",
        "largest fall of marked equity from its highest so far, in money, at every bar",
        _max_drawdown_value,
    ),
    Definition(
        "drawdown_recovery",
        "seconds",
        "from the lowest mark of the maximum drawdown to the first one back at its peak",
        _recovery,
    ),
    Definition(
        "time_under_water", "%", "marks below the highest so far / all marks", _time_under_water
    ),
    Definition(
        "longest_under_water",
        "seconds",
        "longest time from a peak to being back at it, or to the end",
        _longest_under_water,
    ),
    Definition("calmar", "ratio", "CAGR / maximum drawdown", _calmar),
    Definition("ulcer_index", "%", "sqrt(mean of squared daily drawdowns)", _ulcer_index),
    Definition("martin", "ratio", "(CAGR - risk-free rate) / ulcer index", _martin),
    Definition(
        "serenity",
        "ratio",
        "(CAGR - risk-free rate) / (ulcer index x mean of the deepest 5 % of daily drawdowns / volatility)",
        _serenity,
    ),
)
