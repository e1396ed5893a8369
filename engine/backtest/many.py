"""Many combinations of parameters on the same bars, as fast as they can be told apart.

Features with the same arguments are worked out once (`engine.rolling.remembered`), the records are set up
once, and a plain run leaves no curve behind: only what it came to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine import rolling
from engine.backtest import memory
from engine.backtest.kernel import Machine, NotCovered
from engine.backtest.kernels import layout, steps, worth
from engine.backtest.kernels.columns import TARGET
from engine.backtest.specification import Specification, strategy_of
from engine.strategies.evaluation import Evaluation
from shared.domain.signals import Market

REMEMBERED_BYTES: Final = 256 * 1024 * 1024
"""How much of the features' columns is kept for the next combination."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a run came to.

    bars          moments it was marked at
    mean, deviation   of returns from bar to bar (dividing by their number); NaN without any
    max_drawdown  of marked equity from its highest so far, as a fraction, at every bar
    trades        round trips, an open one counted
    day_equity    float64[days]: equity in the rows that were asked for
    """

    bars: int
    final_equity: float
    mean: float
    deviation: float
    max_drawdown: float
    fills: int
    trades: int
    day_equity: npt.NDArray[np.float64]

    def sharpe(self, bars_per_year: float) -> float:
        """Of returns from bar to bar, a year of `bars_per_year`; NaN where nothing moved."""
        return self.mean / self.deviation * math.sqrt(bars_per_year) if self.deviation else math.nan


class Search:
    """The same bars for many combinations, one after the other.

    `day_rows`: moments (rising) whose equity is wanted.
    """

    def __init__(
        self, specification: Specification, day_rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        memory.keep()
        self.specification = specification
        self._day_rows = day_rows
        self._machine: _Counting | None = None

    def worth(self, parameters: Mapping[str, Any]) -> Worth:
        """What one combination came to. NotCovered when its run is no plain one."""
        own = replace(self.specification, parameters=parameters)
        evaluation = Evaluation(strategy_of(own), own.inputs, own.bars)
        if evaluation.signals is None:
            raise NotCovered("a strategy in scalar form")
        if self._machine is None:
            self._machine = _Counting(own, evaluation, self._day_rows)
        else:
            self._machine.begin_again(own, evaluation)
        return self._machine.count()


def worth_of(
    specification: Specification,
    combinations: Iterable[Mapping[str, Any]],
    day_rows: npt.NDArray[np.int64] | None = None,
) -> Iterator[Worth]:
    """What each combination came to, in order. NotCovered when their runs are no plain ones."""
    search = Search(specification, day_rows)
    with rolling.remembered(REMEMBERED_BYTES):
        for parameters in combinations:
            yield search.worth(parameters)


class _Counting(Machine):
    """A machine that counts what runs come to, one after the other."""

    def __init__(
        self,
        specification: Specification,
        evaluation: Evaluation,
        day_rows: npt.NDArray[np.int64] | None,
    ) -> None:
        super().__init__(specification, evaluation, decisions=False)
        if not self.settings[0]["plain"]:
            raise NotCovered("more than market orders")
        self.settings[0]["only_counts"] = 1
        self._at_first = [a.copy() for a in (self.account, self.books)]
        close = self._asked[0].close
        change = np.zeros(len(close))
        change[1:] = close[1:] / close[:-1] - 1
        self._sums = np.cumsum(np.column_stack([change, change * change]), axis=0)
        rows = np.zeros(0, np.int64) if day_rows is None else np.ascontiguousarray(day_rows)
        self._day_rows = rows + int(self.books[0]["row"]) + 1
        self._day_equity = np.zeros(len(rows))
        self._worth = np.zeros(1, layout.WORTH)
        found, capital = self._worth[0], float(self.account[0]["capital"])
        found["before"] = found["peak"] = found["floor"] = capital
        found["days"] = len(self._day_rows)
        found["day_rows"] = self._day_rows.ctypes.data
        found["day_equity"] = self._day_equity.ctypes.data
        found["returns"] = self._sums.ctypes.data
        self._nothing = self._worth.copy()
        self._lay_out()

    def begin_again(self, specification: Specification, evaluation: Evaluation) -> None:
        """The same bars and settings, another strategy."""
        self.specification, self.evaluation = specification, evaluation
        said = evaluation.signals
        if said is None or said.exits or not isinstance(said.entry, Market):
            raise NotCovered("more than market orders")
        self.account[:], self.books[:] = self._at_first
        self._kept_signals.clear()
        self._want(TARGET, evaluation.target)

    def count(self) -> Worth:
        """Run it, and tell what it came to."""
        self._worth[:] = self._nothing
        if worth.worth(self._table, len(self.times)) != layout.DONE:
            raise NotCovered("a signal that cannot be")
        found = self._worth[0]
        bars, total = int(found["bars"]), float(found["total"])
        mean = total / bars if bars else math.nan
        spread = float(found["squares"]) - bars * mean * mean
        return Worth(
            bars=bars,
            final_equity=float(found["before"]),
            mean=mean,
            deviation=math.sqrt(max(0.0, spread) / bars) if bars else math.nan,
            max_drawdown=float(found["lowest"]),
            fills=int(self.account[0]["fills"]),
            trades=int(self.account[0]["entered"]),
            day_equity=self._day_equity.copy(),
        )

    def _lay_out(self) -> None:
        """The table of addresses, for the compiled code."""
        places = [getattr(self, name).ctypes.data for name in steps.WORLD]
        self._addresses = np.array([*places, self._worth.ctypes.data])
        self._table = int(self._addresses.ctypes.data)
