"""The moving-average cross that our peers and we trade on the same bars, and what we make of it.

Averages of 10 and 30 closes; a fee of 0.1 %; decided at the close, filled at the next open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.backtest import Run, run
from engine.bars import Bars, Instants, Prices
from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from shared.domain.signals import Signals, StopLoss, TakeProfit
from tests.builders import a_market

SHORT, LONG = 10, 30
FEE = 0.001
CAPITAL = 100_000.0


@dataclass(frozen=True, slots=True)
class Case:
    """`below`: the target while the short average is not above the long one.

    `stop` and `target` are fractions of the entry fill, 0 for none. `units`: base units of each entry;
    None puts in all there is.
    """

    below: float = 0.0
    stop: float = 0.0
    target: float = 0.0
    units: float | None = None

    @property
    def guarded(self) -> bool:
        return self.stop > 0


CASES = {
    "long": Case(),
    "long, stop 5 %, target 10 %": Case(stop=0.05, target=0.1),
    "long and short, 50 units": Case(-1.0, units=50.0),
    "long and short, 50 units, stop 5 %, target 10 %": Case(-1.0, 0.05, 0.1, 50.0),
    "long and short, 50 units, stop 1 %, target 1.5 %": Case(-1.0, 0.01, 0.015, 50.0),
}
"""What can be said to all three so that they must do the same."""

ALL_IN_BOTH_WAYS = Case(-1.0)
"""How much a turn from long to short sells, each defines by itself."""


class Traded(NamedTuple):
    """One closed trade; bars by their number, P&L after fees."""

    side: int
    entry_bar: int
    exit_bar: int
    quantity: float
    entry_price: float
    exit_price: float
    pnl: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Closed trades by entry, and equity at the last close with what is held at its price."""

    trades: tuple[Traded, ...]
    equity: float


def made() -> Bars:
    """Days with gaps and wicks; some opens jump over a stop."""
    return a_market(700, 11, sigma=0.02, interval=86_400)


def ours(case: Case, bars: Bars) -> Outcome:
    """What we make of it."""
    return outcome(our_run(case, bars), bars)


def our_run(case: Case, bars: Bars) -> Run:
    """Without rules, fractional quantities."""
    sizing = {"method": "quantity", "quantity": case.units} if case.units else {"method": "cash"}
    return run(
        _strategy(case), bars, capital=CAPITAL, costs=FEE, sizing=sizing,
        margin={"enabled": case.below < 0}, gate=False,
    )  # fmt: skip


def outcome(done: Run, bars: Bars) -> Outcome:
    """A run as it is compared."""
    return Outcome(_trades(done, bars), float(done.equity["equity"].iloc[-1]))


def _strategy(case: Case) -> type[BaseStrategy]:
    class Cross(BaseStrategy):
        def features(self, bars):
            close = bars["main"].close
            return {"short": sma(close, SHORT), "long": sma(close, LONG)}

        def generate_signals(self, f):
            target = np.where(f["short"] > f["long"], 1.0, case.below)
            target[np.isnan(f["long"])] = np.nan
            exits = (StopLoss(case.stop), TakeProfit(case.target)) if case.guarded else ()
            return Signals(target, exits=exits)

        def because(self, now):
            return f"short average {now['short']:g}, long average {now['long']:g}"

    return Cross


def _trades(done: Run, bars: Bars) -> tuple[Traded, ...]:
    closed = done.result.trades[done.result.trades.closed]
    columns = (
        closed.side,
        _bar(bars, closed.entry_at, closed.entry_price),
        _bar(bars, closed.exit_at, closed.exit_price),
        closed.quantity,
        closed.entry_price,
        closed.exit_price,
        closed.pnl,
    )
    return tuple(Traded(*row) for row in zip(*(c.tolist() for c in columns), strict=True))


def _bar(bars: Bars, at: Instants, price: Prices) -> npt.NDArray[np.int64]:
    """The bar a fill was in: one at the open has the time of the open, one inside the time of the close."""
    row = np.searchsorted(bars.opened_at, at).clip(max=len(bars) - 1)
    at_open = (bars.opened_at[row] == at) & np.isclose(bars.open[row], price, rtol=1e-12)
    return np.where(at_open, row, np.searchsorted(bars.closed_at, at))
