"""What a run gained, and at which rate."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from engine.backtest.metrics.facts import YEAR, Facts
from engine.backtest.metrics.model import Definition, Found, Undefined

_HALVINGS: Final = 200


def _total_return(facts: Facts) -> Found:
    gained = facts.final / facts.curve.capital - 1
    if len(facts.raw.flow_times):
        ended = float(facts.raw.equity[facts.marks - 1])
        gained = (ended - facts.raw.flows) / facts.curve.capital - 1
    return Found(gained, facts.marks)


def _twr(facts: Facts) -> Found:
    return Found(facts.final / facts.curve.capital - 1, len(facts.raw.flow_times) + 1)


def _mwr(facts: Facts) -> Found:
    """Without flows there is one way in and one out: the growth a year of what was there."""
    flows = facts.raw
    if not len(flows.flow_times):
        return Found(facts.growth, 2)
    assert facts.yearly(1.0) == 0  # long enough
    amounts = np.concatenate(
        [[facts.curve.capital], flows.flow_amounts, [-float(flows.equity[facts.marks - 1])]]
    )
    times = np.concatenate(
        [[flows.started_at], flows.flow_times, [flows.times[-1]]], dtype=np.float64
    )
    years = (times[-1] - times) / YEAR
    return Found(_root(amounts, years), len(amounts))


def _root(amounts: np.ndarray, years: np.ndarray) -> float:
    """The yearly rate at which all amounts, grown to the end, are nothing together; sought by halving."""

    def left(rate: float) -> float:
        return float((amounts * np.exp(years * rate)).sum())

    low, high = -50.0, 50.0  # of log(1 + rate): from losing everything to any gain
    if not left(low) < 0 < left(high):
        raise Undefined("no rate explains these flows", len(amounts))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) < 0 else (low, middle)
    return math.expm1(low)


def _cagr(facts: Facts) -> Found:
    return Found(facts.growth, facts.days_passed)


def _final_equity(facts: Facts) -> Found:
    assert math.isfinite(facts.final)
    return Found(float(facts.raw.equity[facts.marks - 1]), facts.marks)


def _realised(facts: Facts) -> Found:
    earned = float(facts.results.sum())
    still = float(facts.trades.pnl.sum()) - earned
    return Found(earned, len(facts.results), {"open_trades": still})


def _best_day(facts: Facts) -> Found:
    return Found(float(facts.returns.max()), len(facts.returns))


def _worst_day(facts: Facts) -> Found:
    return Found(float(facts.returns.min()), len(facts.returns))


GROWTH: Final = (
    Definition(
        "total_return",
        "%",
        "(final equity - what came from outside) / starting capital - 1",
        _total_return,
    ),
    Definition(
        "twr",
        "%",
        "time-weighted return: product of (1 + return) of the stretches between flows - 1",
        _twr,
    ),
    Definition(
        "mwr",
        "%",
        "money-weighted return: the yearly rate at which capital and flows grow to final equity",
        _mwr,
    ),
    Definition(
        "cagr",
        "%",
        "(1 + time-weighted return) ^ (1 / years) - 1, years of 365.25 days",
        _cagr,
    ),
    Definition("final_equity", "currency", "cash + what is held at the last close", _final_equity),
    Definition("realised", "currency", "sum of the P&L of closed trades, after fees", _realised),
    Definition("best_day", "%", "largest daily return", _best_day),
    Definition("worst_day", "%", "smallest daily return", _worst_day),
)
