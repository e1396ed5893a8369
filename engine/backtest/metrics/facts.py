"""What metrics are worked out from, each looked at once however many metrics need it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from engine.backtest.metrics import curves
from engine.backtest.metrics.curves import Curve, Walk
from engine.backtest.metrics.model import Undefined
from engine.backtest.results import Counts, Fills, Paid, Trades
from engine.backtest.rows import rows_after
from engine.bars import DAY, SECOND, Bars, Prices, instant
from shared.domain.instruments import DAYS_PER_YEAR

SHORTEST_YEARLY: Final = 90
"""Days below which a yearly rate would be extrapolation."""

Number = TypeVar("Number", np.float64, np.int64)

YEAR: Final = 365.25 * 86_400 * SECOND

SAME: Final = 1e-12
"""A standard deviation of daily returns below this is rounding, not variation."""


class Facts:
    """The inputs, and what several metrics share. `Undefined` comes out of what cannot be had.

    `curve` has flows taken out, `raw` has them. `benchmark` are the bars compared with, `hold` those
    of what was traded.
    """

    def __init__(
        self,
        curve: Curve,
        trades: Trades,
        *,
        fills: Fills,
        paid: Paid,
        counts: Counts,
        calendar: str,
        hold: Iterable[Bars],
        benchmark: Iterable[Bars] | None,
        risk_free: float,
        trials: int,
        trials_variance: float | None,
    ) -> None:
        if trials < 1:
            raise ValueError(f"trials {trials}: at least this one run was tried")
        if not risk_free > -1:
            raise ValueError(f"risk_free {risk_free}: a yearly rate as a fraction, above -1")
        self.raw = curve
        self.curve = curve.without_flows()
        self.trades = trades
        self.fills = fills
        self.paid = paid
        self.counts = counts
        self.calendar = calendar
        self.hold = tuple(hold)
        self.benchmark = self.hold if benchmark is None else tuple(benchmark)
        self.risk_free = risk_free
        self.trials = trials
        self.trials_variance = trials_variance

    # The curve ----------------------------------------------------------------------

    @property
    def marks(self) -> int:
        """How many marks there are: at least one."""
        if not len(self.curve.equity):
            raise Undefined("no bars were run")
        return len(self.curve.equity)

    @cached_property
    def walk(self) -> Walk:
        assert self.marks
        found = curves.walk(self.curve)
        if not found.is_known:
            curves.known(self.raw)
            raise Undefined("money came when nothing was left", self.marks)
        return found

    @cached_property
    def final(self) -> float:
        """Equity at the end, flows taken out."""
        value = float(self.curve.equity[self.marks - 1])
        if not math.isfinite(value):
            assert self.walk  # says why
        return value

    @property
    def passed(self) -> int:
        """Nanoseconds from the start to the last mark."""
        return int(self.curve.times[self.marks - 1]) - self.curve.started_at

    @property
    def days_passed(self) -> int:
        return self.passed // DAY

    def at(self, row: int) -> int:
        """The time of a row; -1 is the start."""
        return self.curve.started_at if row < 0 else int(self.curve.times[row])

    def yearly(self, growth: float) -> float:
        """Growth over the run as a rate a year."""
        if self.days_passed < SHORTEST_YEARLY:
            days = self.days_passed
            raise Undefined(f"{days} days are fewer than {SHORTEST_YEARLY}", days)
        if growth <= 0:
            raise Undefined("equity ended at zero or below", self.days_passed)
        exponent = YEAR / self.passed
        if math.log(growth) * exponent > 700:
            raise Undefined("too large to be a number", self.days_passed)
        return float(growth**exponent) - 1

    @cached_property
    def growth(self) -> float:
        """CAGR."""
        return self.yearly(self.final / self.curve.capital)

    # Days ---------------------------------------------------------------------------

    @property
    def days_per_year(self) -> int:
        return DAYS_PER_YEAR[self.calendar]

    @cached_property
    def daily(self) -> tuple[npt.NDArray[np.int64], Prices]:
        """(day numbers, equity of each), flows taken out."""
        return curves.daily_equity(self.curve, self.calendar)

    @cached_property
    def levels(self) -> Prices:
        """Daily equity from the starting capital on; all above zero, at least three."""
        equity = self.daily[1]
        if len(equity) < 2:
            raise Undefined("fewer than two daily returns", len(equity))
        levels = np.concatenate([[self.curve.capital], equity])
        if not (levels > 0).all():
            assert self.walk
            raise Undefined("equity fell to zero or below", len(equity))
        return levels

    @cached_property
    def returns(self) -> Prices:
        """Daily returns, from the starting capital on; there are at least two."""
        return np.asarray(self.levels[1:] / self.levels[:-1] - 1)

    @cached_property
    def risk_free_daily(self) -> float:
        return float((1 + self.risk_free) ** (1 / self.days_per_year) - 1)

    @cached_property
    def excess(self) -> Prices:
        """Daily returns above the risk-free rate."""
        return self.returns - self.risk_free_daily

    @cached_property
    def deviation(self) -> float:
        """Standard deviation (n - 1) of daily returns; more than rounding."""
        deviation = float(self.returns.std(ddof=1))
        if deviation < SAME:
            raise Undefined("daily returns do not vary", len(self.returns))
        return deviation

    @cached_property
    def moments(self) -> tuple[float, float]:
        """(skewness, kurtosis) of daily returns as they are, a normal's being (0, 3)."""
        assert self.deviation
        standard = (self.returns - self.returns.mean()) / self.returns.std()
        squares = standard * standard
        return float((squares * standard).mean()), float((squares * squares).mean())

    @cached_property
    def ratio(self) -> float:
        """The daily Sharpe ratio."""
        return float(self.excess.mean()) / self.deviation

    @cached_property
    def ratio_variance(self) -> float:
        """How far estimates of the daily ratio scatter, for returns of any distribution (Mertens 2002)."""
        skew, kurtosis = self.moments
        variance = 1 - skew * self.ratio + (kurtosis - 1) / 4 * self.ratio**2
        return max(0.0, variance) / (len(self.returns) - 1)

    @cached_property
    def drawdowns(self) -> Prices:
        """How far equity is below its highest so far, each day from the start on, as a fraction."""
        return np.asarray(1 - self.levels / np.maximum.accumulate(self.levels))

    # The benchmark ------------------------------------------------------------------

    @cached_property
    def held(self) -> tuple[Bars, ...]:
        """The bars of the run to compare with, at least one."""
        first, last = instant(self.curve.started_at), instant(self.curve.times[self.marks - 1])
        held = tuple(s for bars in self.benchmark if len(s := bars.between(first, last)))
        if not held:
            raise Undefined("no bars to compare with")
        return held

    @cached_property
    def benchmark_returns(self) -> Prices:
        """Daily returns of equal money in each, bought at its first open, beside `returns`."""
        days = self.daily[0]
        assert len(self.returns) == len(days)
        grown = np.zeros(len(days))
        for bars in self.held:
            rows = rows_after(bars.closed_at, (days + 1) * DAY) - 1
            grown += np.where(rows < 0, 1.0, bars.close[rows] / bars.open[0])
        levels = np.concatenate([[1.0], grown / len(self.held)])
        return np.asarray(levels[1:] / levels[:-1] - 1)

    @cached_property
    def benchmark_deviation(self) -> float:
        deviation = float(self.benchmark_returns.std(ddof=1))
        if deviation < SAME:
            raise Undefined("the benchmark does not vary", len(self.benchmark_returns))
        return deviation

    @cached_property
    def covariance(self) -> float:
        ours, theirs = self.returns, self.benchmark_returns
        product = (ours - ours.mean()) * (theirs - theirs.mean())
        return float(product.sum()) / (len(ours) - 1)

    @cached_property
    def beta(self) -> float:
        return self.covariance / self.benchmark_deviation**2

    # Trades -------------------------------------------------------------------------

    @cached_property
    def is_closed(self) -> npt.NDArray[np.bool_]:
        return self.trades.closed

    @cached_property
    def results(self) -> Prices:
        """The P&L of every closed trade; there is at least one."""
        return self.of_closed(self.trades.pnl)

    def of_closed(self, column: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """A column of the closed trades; there is at least one."""
        closed = column if self.is_closed.all() else column[self.is_closed]
        if not len(closed):
            raise Undefined("no closed trade")
        return closed

    @cached_property
    def winners(self) -> npt.NDArray[np.intp]:
        """Which of the closed trades earned something. Rows: to pick by them is quicker than by yes and no."""
        return np.flatnonzero(self.results > 0)

    @cached_property
    def losers(self) -> npt.NDArray[np.intp]:
        """Which of the closed trades lost something."""
        return np.flatnonzero(self.results < 0)

    @cached_property
    def won(self) -> Prices:
        """What each winning trade earned, closed only."""
        return self.results[self.winners]

    @cached_property
    def lost(self) -> Prices:
        """What each losing trade lost, closed only, as amounts above 0."""
        return -self.results[self.losers]

    @cached_property
    def durations(self) -> npt.NDArray[np.int64]:
        """Nanoseconds each closed trade was held."""
        return self.of_closed(self.trades.exit_at) - self.of_closed(self.trades.entry_at)

    @cached_property
    def values(self) -> Prices:
        """The value of every fill."""
        return self.fills.quantity * self.fills.price

    @cached_property
    def value_traded(self) -> float:
        return float(self.values.sum())
