"""What a run was worth, in numbers that say how they came about. docs/metrics.md explains each.

Returns are of marked daily equity in UTC, annualised by the calendar. What is not defined has no
value and a reason, never a stand-in number. A value in % is a fraction: 0.05 reads 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.backtest.trades import Trade
from engine.bars import DAY, SECOND, Bars, Instants, Prices, instant
from shared.domain.instruments import DAYS_PER_YEAR

SHORTEST_YEARLY: Final = 90
"""Days below which a yearly rate would be extrapolation."""

_YEAR: Final = 365.25 * 86_400 * SECOND
_SAME: Final = 1e-12
"""A standard deviation of daily returns below this is rounding, not variation."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number, how it was worked out (`how`) and from how many inputs (`n`).

    `value` is None when it is not defined, and `reason` says why. `details` are further facts, as JSON.
    """

    name: str
    value: float | None
    reason: str
    n: int
    unit: str
    how: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Curve:
    """Marked equity of a run that began with `capital` at `started_at` (ns).

    times     int64[marks]    nanoseconds, rising
    equity    float64[marks]  quote units, after each moment
    exposure  float64[marks]  value held as a fraction of equity (signed), or just 0 and 1
    """

    started_at: int
    capital: float
    times: Instants
    equity: Prices
    exposure: Prices

    def __post_init__(self) -> None:
        if not self.capital > 0:
            raise ValueError(f"starting capital {self.capital}: it must be more than 0")
        if not len(self.times) == len(self.equity) == len(self.exposure):
            raise ValueError("times, equity and exposure differ in length")
        unknown = np.flatnonzero(~(np.isfinite(self.equity) & np.isfinite(self.exposure)))
        if len(unknown):
            at = instant(self.times[unknown[0]])
            raise ValueError(
                f"equity or exposure is unknown at {at} and {len(unknown) - 1} more marks"
            )


def measure(
    curve: Curve,
    trades: Sequence[Trade],
    *,
    fees: float,
    calendar: str,
    hold: Iterable[Bars] = (),
) -> tuple[Metric, ...]:
    """Every metric, in the order to show them.

    `hold` are the bars of what was traded, one series an instrument, for comparison with buying
    and holding them.
    """
    facts = _Facts(curve, trades, fees, calendar, tuple(hold))
    return tuple(_measured(definition, facts) for definition in DEFINITIONS)


def as_json(metrics: Iterable[Metric]) -> dict[str, Any]:
    """{name: {"value", "reason", "n", "unit", "how"[, "details"]}}."""
    found: dict[str, Any] = {}
    for metric in metrics:
        found[metric.name] = {
            "value": metric.value,
            "reason": metric.reason,
            "n": metric.n,
            "unit": metric.unit,
            "how": metric.how,
        }
        if metric.details:
            found[metric.name]["details"] = dict(metric.details)
    return found


# Daily equity -----------------------------------------------------------------------------------


def daily_equity(curve: Curve, calendar: str) -> tuple[npt.NDArray[np.int64], Prices]:
    """(day number since 1970, last mark of that UTC day), one row a trading day.

    A mark at midnight belongs to the day it ends. A market that never closes has a row for every
    day since the start, a day without a mark carrying the one before; currencies have one for
    every weekday, the week-end's marks counting to Monday; an exchange has one for each day with a mark.
    """
    days = (curve.times - 1) // DAY
    if calendar == "24/5":
        days = _weekday(days)
    last = np.flatnonzero(np.concatenate([days[1:] != days[:-1], [True]])) if len(days) else days
    marked, equity = days[last], curve.equity[last]
    if calendar == "XNYS" or not len(marked):
        return marked, equity
    first = min(int(marked[0]), curve.started_at // DAY)
    wanted = np.arange(first, marked[-1] + 1)
    if calendar == "24/5":
        wanted = wanted[_weekday(wanted) == wanted]
    row = np.searchsorted(marked, wanted, side="right")
    return wanted, np.concatenate([[curve.capital], equity])[row]


def _weekday(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Saturdays and Sundays as the Monday after them. Day 0 was a Thursday."""
    of_week = (days + 3) % 7  # 0 is Monday
    return days + np.where(of_week >= 5, 7 - of_week, 0)


# Definitions ------------------------------------------------------------------------------------


class _Undefined(Exception):
    """Why there is no number, and from how many inputs there is none."""

    def __init__(self, reason: str, n: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.n = n


@dataclass(frozen=True, slots=True)
class _Facts:
    curve: Curve
    trades: Sequence[Trade]
    fees: float
    calendar: str
    hold: tuple[Bars, ...]

    @property
    def marks(self) -> int:
        """How many marks there are: at least one."""
        if not len(self.curve.equity):
            raise _Undefined("no bars were run")
        return len(self.curve.equity)

    @property
    def final(self) -> float:
        return float(self.curve.equity[self.marks - 1])

    @property
    def days_per_year(self) -> int:
        return DAYS_PER_YEAR[self.calendar]

    @property
    def closed(self) -> list[Trade]:
        return [trade for trade in self.trades if not trade.is_open]

    def results(self) -> npt.NDArray[np.float64]:
        """The P&L of every closed trade; there is at least one."""
        if not self.closed:
            raise _Undefined("no closed trade")
        return np.array([float(trade.pnl) for trade in self.closed])

    def returns(self) -> npt.NDArray[np.float64]:
        """Daily returns, from the starting capital on; there are at least two."""
        _, equity = daily_equity(self.curve, self.calendar)
        if len(equity) < 2:
            raise _Undefined("fewer than two daily returns", len(equity))
        levels = np.concatenate([[self.curve.capital], equity])
        if (levels <= 0).any():
            raise _Undefined("equity fell to zero or below", len(equity))
        return np.asarray(levels[1:] / levels[:-1] - 1)


@dataclass(frozen=True, slots=True)
class Found:
    """A defined value, from `n` inputs."""

    value: float
    n: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric by name: its unit, its formula in words, and the function that finds it."""

    name: str
    unit: str
    how: str
    find: Callable[[_Facts], Found]


def _measured(definition: Definition, facts: _Facts) -> Metric:
    name, unit, how = definition.name, definition.unit, definition.how
    try:
        found = definition.find(facts)
    except _Undefined as undefined:
        return Metric(name, None, undefined.reason, undefined.n, unit, how)
    if not math.isfinite(found.value):
        return Metric(name, None, "too large to be a number", found.n, unit, how)
    return Metric(name, found.value, "", found.n, unit, how, found.details)


def _total_return(facts: _Facts) -> Found:
    return Found(facts.final / facts.curve.capital - 1, facts.marks)


def _final_equity(facts: _Facts) -> Found:
    return Found(facts.final, facts.marks)


def _cagr(facts: _Facts) -> Found:
    grown = facts.final / facts.curve.capital
    passed = int(facts.curve.times[-1]) - facts.curve.started_at
    days = passed // DAY
    if days < SHORTEST_YEARLY:
        raise _Undefined(f"{days} days are fewer than {SHORTEST_YEARLY}", days)
    if grown <= 0:
        raise _Undefined("equity ended at zero or below", days)
    return Found(grown ** (_YEAR / passed) - 1, days)


def _volatility(facts: _Facts) -> Found:
    returns = facts.returns()
    return Found(float(returns.std(ddof=1)) * math.sqrt(facts.days_per_year), len(returns))


def _sharpe(facts: _Facts) -> Found:
    """With the standard error for returns of any distribution (Mertens 2002)."""
    returns = facts.returns()
    deviation = float(returns.std(ddof=1))
    if deviation < _SAME:
        raise _Undefined("daily returns do not vary", len(returns))
    daily = float(returns.mean()) / deviation
    yearly = math.sqrt(facts.days_per_year)
    standard = (returns - returns.mean()) / returns.std()
    skew, kurtosis = float((standard**3).mean()), float((standard**4).mean())
    variance = (1 - skew * daily + (kurtosis - 1) / 4 * daily**2) / (len(returns) - 1)
    error = math.sqrt(max(0.0, variance)) * yearly
    return Found(daily * yearly, len(returns), {"standard_error": error})


def _peaks(facts: _Facts) -> tuple[Prices, Prices]:
    """(highest equity so far, equity), from the starting capital on; more than one of each."""
    assert facts.marks
    equity = np.concatenate([[facts.curve.capital], facts.curve.equity])
    return np.maximum.accumulate(equity), equity


def _max_drawdown(facts: _Facts) -> Found:
    peaks, equity = _peaks(facts)
    fallen = 1 - equity / peaks
    lowest = int(np.argmax(fallen))
    if fallen[lowest] <= 0:
        return Found(0.0, facts.marks)
    times = np.concatenate([[facts.curve.started_at], facts.curve.times])
    highest = int(np.flatnonzero(equity[: lowest + 1] == peaks[lowest])[-1])
    again = np.flatnonzero(equity[lowest:] >= peaks[lowest])
    details = {
        "peak_at": instant(times[highest]).isoformat(),
        "lowest_at": instant(times[lowest]).isoformat(),
        "recovered_at": instant(times[lowest + again[0]]).isoformat() if len(again) else None,
    }
    return Found(float(fallen[lowest]), facts.marks, details)


def _max_drawdown_value(facts: _Facts) -> Found:
    peaks, equity = _peaks(facts)
    return Found(float((peaks - equity).max()), facts.marks)


def _calmar(facts: _Facts) -> Found:
    growth, fallen = _cagr(facts), _max_drawdown(facts)
    if fallen.value == 0:
        raise _Undefined("equity never fell", growth.n)
    return Found(growth.value / fallen.value, growth.n)


def _buy_and_hold(facts: _Facts) -> Found:
    first, last = instant(facts.curve.started_at), instant(facts.curve.times[facts.marks - 1])
    held = [series for bars in facts.hold if len(series := bars.between(first, last))]
    if not held:
        raise _Undefined("no bars to compare with")
    returns = [float(bars.close[-1] / bars.open[0]) - 1 for bars in held]
    return Found(sum(returns) / len(returns), len(returns))


def _trades(facts: _Facts) -> Found:
    closed, count = len(facts.closed), len(facts.trades)
    return Found(float(count), count, {"closed": closed, "open": count - closed})


def _win_rate(facts: _Facts) -> Found:
    results = facts.results()
    return Found(float((results > 0).mean()), len(results))


def _profit_factor(facts: _Facts) -> Found:
    results = facts.results()
    lost = float(-results[results < 0].sum())
    if lost == 0:
        raise _Undefined("no losing trade", len(results))
    return Found(float(results[results > 0].sum()) / lost, len(results))


def _average_trade(facts: _Facts) -> Found:
    results = facts.results()
    return Found(float(results.mean()), len(results))


def _best_trade(facts: _Facts) -> Found:
    results = facts.results()
    return Found(float(results.max()), len(results))


def _worst_trade(facts: _Facts) -> Found:
    results = facts.results()
    return Found(float(results.min()), len(results))


def _exposure(facts: _Facts) -> Found:
    marks = facts.marks
    return Found(float(np.abs(facts.curve.exposure).mean()), marks)


def _time_in_market(facts: _Facts) -> Found:
    marks = facts.marks
    return Found(float((facts.curve.exposure != 0).mean()), marks)


def _fees(facts: _Facts) -> Found:
    return Found(facts.fees, len(facts.trades))


DEFINITIONS: Final = (
    Definition("total_return", "%", "final equity / starting capital - 1", _total_return),
    Definition(
        "cagr",
        "%",
        "(final equity / starting capital) ^ (1 / years) - 1, years of 365.25 days",
        _cagr,
    ),
    Definition(
        "volatility",
        "%",
        "standard deviation (n - 1) of daily returns x sqrt(trading days a year)",
        _volatility,
    ),
    Definition(
        "sharpe",
        "ratio",
        "mean / standard deviation (n - 1) of daily returns x sqrt(trading days a year), "
        "risk-free rate 0",
        _sharpe,
    ),
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
    Definition("calmar", "ratio", "CAGR / maximum drawdown", _calmar),
    Definition("trades", "count", "round trips from flat to flat, open ones counted", _trades),
    Definition(
        "win_rate", "%", "closed trades that earned more than their fees / closed trades", _win_rate
    ),
    Definition(
        "profit_factor",
        "ratio",
        "sum of what winning trades earned / sum of what losing trades lost, after fees, closed only",
        _profit_factor,
    ),
    Definition(
        "average_trade", "currency", "mean P&L of closed trades, after fees", _average_trade
    ),
    Definition("best_trade", "currency", "largest P&L of a closed trade, after fees", _best_trade),
    Definition(
        "worst_trade", "currency", "smallest P&L of a closed trade, after fees", _worst_trade
    ),
    Definition(
        "exposure", "%", "mean over bars of |value held| / equity, after each bar", _exposure
    ),
    Definition(
        "time_in_market", "%", "bars after which anything was held / all bars", _time_in_market
    ),
    Definition("fees", "currency", "sum of all fees paid", _fees),
    Definition("final_equity", "currency", "cash + what is held at the last close", _final_equity),
    Definition(
        "buy_and_hold",
        "%",
        "last close / first open - 1, without costs; of several instruments the mean",
        _buy_and_hold,
    ),
)
