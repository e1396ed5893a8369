"""How much of the capital was at work, how often it was turned over, and how much of it there may be."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from engine.backtest.metrics.facts import SHORTEST_YEARLY, YEAR, Facts
from engine.backtest.metrics.model import Definition, Found, Undefined
from engine.backtest.rows import rows_after
from engine.bars import DAY, Bars, Prices

SAMPLE: Final = 4_096
_GOLDEN: Final = 0.6180339887498949


def _exposure(facts: Facts) -> Found:
    return Found(facts.walk.exposure, facts.marks)


def _time_in_market(facts: Facts) -> Found:
    return Found(facts.walk.held / facts.marks, facts.marks)


def _leverage(facts: Facts) -> Found:
    return Found(facts.walk.most_exposed, facts.marks)


def _turnover(facts: Facts) -> Found:
    mean = facts.walk.mean_equity
    if mean <= 0:
        raise Undefined("mean equity is not above zero", len(facts.fills))
    turned = facts.value_traded / mean
    details = {"value_traded": facts.value_traded}
    if facts.days_passed >= SHORTEST_YEARLY:
        details["a_year"] = turned * YEAR / facts.passed
    return Found(turned, len(facts.fills), details)


def _capacity(facts: Facts) -> Found:
    """The square-root law of market impact, each fill alone against a day's mean volume."""
    fills = len(facts.fills)
    if not fills:
        raise Undefined("nothing was traded")
    earned = facts.final - facts.curve.capital
    if earned <= 0:
        raise Undefined("the run earned nothing that impact could take", fills)
    impact = _impact(facts)
    if impact == 0:
        raise Undefined("prices do not vary", fills)
    details = {"impact_at_this_capital": impact}
    return Found(facts.curve.capital * (earned / impact) ** 2, fills, details)


def _impact(facts: Facts) -> float:
    """What impact would have cost: each fill's value x daily volatility x sqrt(its part of a day's volume)."""
    fills = facts.fills
    weighed = facts.values * np.sqrt(fills.quantity)
    hold = {bars.instrument_id: bars for bars in facts.hold if len(bars)}
    cost = 0.0
    for instrument, weight in _by_instrument(fills.instrument, weighed):
        if instrument not in hold:
            raise Undefined("no bars of what was traded", len(fills))
        bars = hold[instrument]
        volume = _volume(bars) / max(1, len(facts.daily[0]))
        if not volume > 0:
            raise Undefined("bars have no volume", len(fills))
        cost += weight * _daily_deviation(bars, facts) / math.sqrt(volume)
    return cost


def _volume(bars: Bars) -> float:
    """All of it; of very many bars as that of some, spread so that no hour of the day is preferred."""
    if len(bars) <= SAMPLE:
        return float(bars.volume.sum())
    rows = (np.arange(SAMPLE) * _GOLDEN % 1.0 * len(bars)).astype(np.intp)
    return float(bars.volume[rows].mean()) * len(bars)


def _by_instrument(instruments: np.ndarray, values: Prices) -> list[tuple[int, float]]:
    """(instrument, sum of its values)."""
    if (instruments == instruments[0]).all():
        return [(int(instruments[0]), float(values.sum()))]
    found, codes = np.unique(instruments, return_inverse=True)
    return list(zip(found.tolist(), np.bincount(codes, values).tolist(), strict=True))


def _daily_deviation(bars: Bars, facts: Facts) -> float:
    """Standard deviation (n - 1) of the instrument's daily returns in the run."""
    rows = rows_after(bars.closed_at, (facts.daily[0] + 1) * DAY) - 1
    closes = bars.close[rows[rows >= 0]]
    if len(closes) < 3:
        raise Undefined("fewer than two daily returns of what was traded", len(facts.fills))
    return float((closes[1:] / closes[:-1] - 1).std(ddof=1))


USAGE: Final = (
    Definition(
        "exposure", "%", "mean over bars of |value held| / equity, after each bar", _exposure
    ),
    Definition(
        "time_in_market", "%", "bars after which anything was held / all bars", _time_in_market
    ),
    Definition("leverage", "ratio", "largest |value held| / equity after any bar", _leverage),
    Definition("turnover", "ratio", "value of all fills / mean equity over bars", _turnover),
    Definition(
        "capacity",
        "currency",
        "capital at which market impact takes all that was earned: starting capital x (earned / impact)^2, "
        "impact: sum over fills of value x daily volatility x sqrt(quantity / mean daily volume, of at most 4,096 bars)",
        _capacity,
    ),
)
