"""What a run was worth, in numbers that say how they came about. docs/metrics.md explains each.

Returns are of marked daily equity in UTC, annualised by the calendar. What is not defined has no
value and a reason, never a stand-in number. A value in % is a fraction: 0.05 reads 5 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.backtest.metrics.comparison import COMPARISON
from engine.backtest.metrics.costs import COSTS
from engine.backtest.metrics.curves import Curve, daily_equity
from engine.backtest.metrics.facts import SHORTEST_YEARLY, Facts
from engine.backtest.metrics.growth import GROWTH
from engine.backtest.metrics.model import Definition, Found, Metric, Undefined, as_json
from engine.backtest.metrics.risk import FALLS, RATIOS, SHAPE
from engine.backtest.metrics.trading import TRADING
from engine.backtest.metrics.usage import USAGE
from engine.backtest.results import Counts, Fills, Paid, Trades
from engine.bars import Bars

__all__ = [
    "DEFINITIONS",
    "FAMILIES",
    "SHORTEST_YEARLY",
    "Curve",
    "Definition",
    "Found",
    "Metric",
    "Undefined",
    "as_json",
    "daily_equity",
    "measure",
    "measure_only",
]

FAMILIES: Final = {
    "Growth": GROWTH,
    "Risk and return": RATIOS,
    "Falls": FALLS,
    "Shape of daily returns": SHAPE,
    "Beside buying and holding": COMPARISON,
    "Use of capital": USAGE,
    "Trades": TRADING,
    "Costs and orders": COSTS,
}

DEFINITIONS: Final = tuple(definition for family in FAMILIES.values() for definition in family)

_BY_NAME: Final = {definition.name: definition for definition in DEFINITIONS}
_NO_COSTS: Final = Paid()
_NO_COUNTS: Final = Counts()


def measure(
    curve: Curve,
    trades: Trades,
    *,
    fills: Fills,
    paid: Paid = _NO_COSTS,
    counts: Counts = _NO_COUNTS,
    calendar: str,
    hold: Iterable[Bars] = (),
    benchmark: Iterable[Bars] | None = None,
    risk_free: float = 0.0,
    trials: int = 1,
    trials_variance: float | None = None,
) -> tuple[Metric, ...]:
    """Every metric, in the order to show them.

    `hold` are the bars of what was traded, one series an instrument; the run is compared with buying
    and holding them, or `benchmark` instead. `risk_free` is a yearly rate as a fraction. `trials` says
    out of how many runs this one was chosen, `trials_variance` how far their yearly Sharpe ratios scattered.
    ValueError if a mark is not a number.
    """
    facts = Facts(
        curve,
        trades,
        fills=fills,
        paid=paid,
        counts=counts,
        calendar=calendar,
        hold=hold,
        benchmark=benchmark,
        risk_free=risk_free,
        trials=trials,
        trials_variance=trials_variance,
    )
    return tuple(definition.measured(facts) for definition in DEFINITIONS)


def measure_only(
    names: Iterable[str],
    curve: Curve,
    trades: Trades | None = None,
    *,
    fills: Fills | None = None,
    paid: Paid = _NO_COSTS,
    counts: Counts = _NO_COUNTS,
    calendar: str,
    hold: Iterable[Bars] = (),
    risk_free: float = 0.0,
) -> dict[str, float | None]:
    """{name: value or None} of some metrics, nothing else computed: what a sweep asks of each of its runs.

    Metrics of trades need `trades`, those of costs `fills` and `paid`, those of orders `counts`. KeyError names one that does not exist.
    """
    facts = Facts(
        curve,
        Trades.none() if trades is None else trades,
        fills=Fills.none() if fills is None else fills,
        paid=paid,
        counts=counts,
        calendar=calendar,
        hold=hold,
        benchmark=None,
        risk_free=risk_free,
        trials=1,
        trials_variance=None,
    )
    return {name: _BY_NAME[name].measured(facts).value for name in names}
