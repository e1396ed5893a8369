"""The pictures of a report, each by name, from the columns of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.shown import money, percent, plural, quantity, signed_percent
from shared.report import curves
from shared.report.curves import ROLLING, Days
from shared.report.plots import Line, histogram, lines, scatter

Column = npt.NDArray[Any]

POINTS: Final = 800
"""Points of a line; of more days the lowest and highest of each stretch."""

STRETCHES: Final = 360
"""Stretches of the run whose mean exposure is drawn."""

DOTS: Final = 1_500
"""Trades a picture shows at most; beyond that the largest and an even choice of the others."""

_FEWEST_RETURNS: Final = 20


@dataclass(frozen=True, slots=True)
class Columns:
    """What pictures are drawn from. Times in seconds, means of exposure up to each; a trade each in the last three.

    Any of them may be empty: a run of long ago, a run without trades.
    """

    times: Column
    exposure: Column
    days: Days
    trade_return: Column
    mae: Column
    mfe: Column


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture with its title and what it says about itself."""

    name: str
    title: str
    svg: str
    note: str = ""


def equity(columns: Columns, currency: str) -> Drawn | None:
    """Equity over days, with buying and holding where there is one."""
    days = columns.days
    if len(days) < 2:
        return None
    rows = curves.extremes(days.equity, POINTS)
    drawn = [Line(days.equity[rows], "accent", area=True)]
    if len(days.hold):
        drawn.append(Line(days.hold[rows], "muted"))
    note = "dashed: buy and hold" if len(days.hold) else ""
    svg = lines(
        days.times[rows],
        drawn,
        lambda v: money(v, 0),
        f"Equity in {currency} by day",
        height=300,
        reads="money 0",
        beside=_highest(days),
    )
    return Drawn("equity", "Equity", svg, note)


def underwater(columns: Columns) -> Drawn | None:
    days = columns.days
    if len(days) < 2:
        return None
    fallen = curves.drawdowns(days.equity)
    rows = curves.extremes(fallen, POINTS)
    svg = lines(
        days.times[rows],
        [Line(fallen[rows], "loss", area=True)],
        lambda v: percent(v, _decimals(fallen)),
        f"How far equity is below its highest so far, by day; at most {percent(-fallen.min())}",
        zero=True,
        reads="percent 2",
        beside=_highest(days),
    )
    return Drawn("underwater", "Under water", svg, "below the highest so far, by day")


def _highest(days: Days) -> str:
    """The longest label of equity."""
    return money(max(days.equity.max(), days.hold.max(initial=0.0)), 0)


def rolling_sharpe(columns: Columns, calendar: str) -> Drawn | None:
    days = columns.days
    ratio = curves.rolling_sharpe(days.returns, DAYS_PER_YEAR[calendar])
    if np.isfinite(ratio).sum() < 2:
        return None
    rows = curves.extremes(ratio, POINTS)
    svg = lines(
        days.times[-len(ratio) :][rows],
        [Line(ratio[rows], "accent")],
        lambda v: money(v, 1),
        f"Sharpe ratio of the last {ROLLING} trading days",
        zero=True,
        reads="number 2",
    )
    return Drawn("rolling-sharpe", "Rolling Sharpe", svg, f"of the last {ROLLING} trading days")


def exposure(columns: Columns) -> Drawn | None:
    """By bar, thinned: what is held as a fraction of equity."""
    if len(columns.times) < 2 or not columns.exposure.any():
        return None
    decimals = _decimals(columns.exposure)
    svg = lines(
        columns.times,
        [Line(columns.exposure, "accent thin", area=True)],
        lambda v: percent(v, decimals),
        "Value held as a share of equity",
        zero=True,
        reads="percent 1",
    )
    return Drawn("exposure", "Exposure", svg, "value held / equity, mean of each stretch")


def daily_returns(columns: Columns) -> Drawn | None:
    """Days that moved: a run that is mostly flat would show one column."""
    if not len(columns.days):
        return None
    moved = columns.days.returns[np.abs(columns.days.returns) > 1e-12]
    found = curves.bins(moved, fewest=_FEWEST_RETURNS)
    if not found:
        return None
    label = "How many days had which return"
    svg = histogram(found, _percents(found[-1].high - found[0].low), "days", label)
    flat = len(columns.days) - len(moved)
    note = plural(len(moved), "day") + (f", {plural(flat, 'flat one')} left out" if flat else "")
    return Drawn("daily-returns", "Daily returns", svg, note)


def trade_returns(columns: Columns) -> Drawn | None:
    found = curves.bins(columns.trade_return.astype(np.float64))
    if not found:
        return None
    label = "How many trades came out at which return"
    svg = histogram(found, _percents(found[-1].high - found[0].low), "trades", label)
    note = plural(len(columns.trade_return), "trade")
    return Drawn("trade-returns", "Returns of trades", svg, note)


def excursions(columns: Columns) -> list[Drawn]:
    """What trades returned against how far the price went against them, and for them."""
    found = []
    for name, title, across in (
        ("mae", "Adverse excursion", columns.mae),
        ("mfe", "Favourable excursion", columns.mfe),
    ):
        if len(across) < 2:
            return []
        rows = curves.outstanding(across, DOTS)
        x, y = across[rows].astype(np.float64), columns.trade_return[rows].astype(np.float64)
        count = plural(len(across), "trade")
        shown = f"{quantity(len(rows))} of {count}" if len(rows) < len(across) else count
        decimals = _decimals(np.array([x.max(), *y]))
        way = "against" if name == "mae" else "for"
        svg = scatter(
            x,
            y,
            y > 0,
            partial(percent, decimals=decimals),
            f"Each trade: across how far the price went {way} it, up what it returned",
        )
        found.append(Drawn(name, title, svg, f"and return, {shown}"))
    return found


def all_of(columns: Columns, currency: str, calendar: str) -> list[Drawn]:
    """Every picture there is something for, in the order to show them."""
    found = [
        equity(columns, currency),
        underwater(columns),
        rolling_sharpe(columns, calendar),
        exposure(columns),
        daily_returns(columns),
        trade_returns(columns),
        *excursions(columns),
    ]
    return [drawn for drawn in found if drawn is not None]


def _decimals(fractions: Column) -> int:
    """As many as tell per cents of this size apart."""
    size = float(np.abs(fractions).max()) if len(fractions) else 0.0
    return next((n for n, least in enumerate((0.08, 0.008, 0.0008)) if size > least), 4)


def _percents(width: float) -> Callable[[float], str]:
    return partial(signed_percent, decimals=_decimals(np.array([width / 2])))


TABLES: Final[Mapping[str, str]] = {
    "instrument": "By instrument",
    "side": "By side",
    "tag": "By tag",
    "exit_reason": "By exit reason",
    "weekday": "By weekday of entry, UTC",
    "regime": "By mood of the market",
    "hour": "By hour of entry, UTC",
    "month": "By month of entry, UTC",
}
"""The tables of trades and their titles."""
