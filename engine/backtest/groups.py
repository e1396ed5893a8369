"""Trades by what they have in common, and a run in the market's moods and crises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.backtest.metrics.curves import Curve, weekday
from engine.backtest.metrics.facts import Facts
from engine.backtest.metrics.model import Undefined
from engine.backtest.results import REASONS, Counts, Fills, Paid, Trades
from engine.bars import DAY, SECOND, Bars

Codes = npt.NDArray[np.int64]

LOOKED_BACK: Final = 20
"""Days whose returns say how wild the market is."""

FEWEST_DAYS: Final = 60
"""Below these a third of a run is too short to be called a mood."""

REGIMES: Final = ("calm", "usual", "wild")
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

CRISES: Final = (
    ("Dot-com crash", date(2000, 3, 24), date(2002, 10, 9)),
    ("11 September", date(2001, 9, 10), date(2001, 9, 21)),
    ("Financial crisis", date(2007, 10, 9), date(2009, 3, 9)),
    ("Flash crash", date(2010, 5, 5), date(2010, 5, 26)),
    ("Euro debt crisis", date(2011, 7, 22), date(2011, 10, 3)),
    ("China devaluation", date(2015, 8, 17), date(2015, 9, 29)),
    ("Brexit vote", date(2016, 6, 23), date(2016, 6, 27)),
    ("Crypto winter", date(2018, 1, 6), date(2018, 12, 15)),
    ("Volatility shock", date(2018, 1, 26), date(2018, 2, 9)),
    ("Covid crash", date(2020, 2, 19), date(2020, 3, 23)),
    ("Crypto sell-off of May 2021", date(2021, 5, 8), date(2021, 7, 20)),
    ("Rising rates", date(2022, 1, 3), date(2022, 10, 12)),
    ("Terra collapse", date(2022, 5, 5), date(2022, 6, 18)),
    ("FTX collapse", date(2022, 11, 5), date(2022, 11, 21)),
    ("Bank failures", date(2023, 3, 6), date(2023, 3, 15)),
    ("Carry unwinding", date(2024, 7, 31), date(2024, 8, 5)),
    ("Tariff shock", date(2025, 4, 2), date(2025, 4, 8)),
)
"""Named ranges of days, ends included, UTC."""


@dataclass(frozen=True, slots=True)
class Group:
    """Closed trades with something in common; `open` ones are counted beside them.

    None is not defined: no closed trade, no losing one.
    """

    name: str
    trades: int
    open: int
    won: int
    pnl: float
    fees: float
    average: float | None
    average_return: float | None
    profit_factor: float | None
    best: float | None
    worst: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Crisis:
    """What became of the run in a range of days: fractions; `hold` is buying and holding, if there is any."""

    name: str
    starts: str
    ends: str
    days: int
    total_return: float
    max_drawdown: float
    hold: float | None
    trades: int
    pnl: float


def tables(
    trades: Trades,
    *,
    curve: Curve,
    calendar: str,
    hold: Iterable[Bars] = (),
    benchmark: Iterable[Bars] | None = None,
    symbols: Mapping[int, str] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """{"instrument": [group, ...], "tag": ..., ..., "crisis": [...]}, ready for JSON.

    Instruments, tags and exit reasons come by what they earned, the others in their own order; hour,
    weekday and month are those of the entry in UTC. A table without a row is left empty.
    """
    facts = _facts(curve, trades, calendar, hold, benchmark)
    names = symbols or {}
    grouped: dict[str, list[Group]] = {
        "instrument": _earned(
            _of_values(trades, trades.instrument, lambda i: names.get(i, f"instrument {i}"))
        ),
        "side": _groups(trades, (trades.side < 0).astype(np.int64), ("long", "short")),
        "tag": _earned(_groups(trades, trades.tag.astype(np.int64), trades.tags)),
        "exit_reason": _earned(_groups(trades, trades.exit_reason.astype(np.int64), REASONS)),
        "hour": _groups(trades, _hours(trades), [f"{hour:02d}:00" for hour in range(24)]),
        "weekday": _groups(trades, (trades.entry_at // DAY + 3) % 7, WEEKDAYS),
        "month": _of_values(trades, _months(trades), _month_name),
        "regime": _by_regime(facts),
    }
    found = {name: [asdict(group) for group in groups] for name, groups in grouped.items()}
    found["crisis"] = [asdict(crisis) for crisis in _crises(facts)]
    return found


def _facts(
    curve: Curve,
    trades: Trades,
    calendar: str,
    hold: Iterable[Bars],
    benchmark: Iterable[Bars] | None,
) -> Facts:
    return Facts(
        curve,
        trades,
        fills=Fills.none(),
        paid=Paid(),
        counts=Counts(),
        calendar=calendar,
        hold=hold,
        benchmark=benchmark,
        risk_free=0.0,
        trials=1,
        trials_variance=None,
    )


# Groups -----------------------------------------------------------------------------------------


def _groups(trades: Trades, codes: Codes, names: Sequence[str]) -> list[Group]:
    """One group a code that occurs, in the order of `names`."""
    closed = trades.closed
    count = np.bincount(codes, minlength=len(names))
    own = codes[closed]

    def summed(column: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.bincount(own, column[closed], minlength=len(names)).astype(np.float64)

    pnl, held = trades.pnl, np.where(closed, trades.exit_at - trades.entry_at, 0)
    sums = [
        summed(np.ones(len(trades))),
        summed(pnl > 0),
        summed(pnl),
        summed(trades.fees),
        summed(trades.return_fraction),
        summed(np.maximum(pnl, 0.0)),
        summed(np.maximum(-pnl, 0.0)),
        summed(held / SECOND),
    ]
    best, worst = _extremes(own, pnl[closed], len(names))
    return [
        _group(
            names[code],
            int(count[code]),
            [float(column[code]) for column in sums],
            float(best[code]),
            float(worst[code]),
        )
        for code in np.flatnonzero(count).tolist()
    ]


def _extremes(codes: Codes, values: npt.NDArray[np.float64], count: int) -> tuple[Any, Any]:
    best, worst = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(best, codes, values)
    np.minimum.at(worst, codes, values)
    return best, worst


def _group(name: str, count: int, sums: Sequence[float], best: float, worst: float) -> Group:
    closed, won, pnl, fees, returned, earned, lost, seconds = sums
    return Group(
        name=name,
        trades=int(closed),
        open=count - int(closed),
        won=int(won),
        pnl=pnl,
        fees=fees,
        average=pnl / closed if closed else None,
        average_return=returned / closed if closed else None,
        profit_factor=earned / lost if lost else None,
        best=best if closed else None,
        worst=worst if closed else None,
        seconds=seconds / closed if closed else None,
    )


def _of_values(
    trades: Trades, values: npt.NDArray[np.int64], name: Callable[[int], str]
) -> list[Group]:
    """Groups by any whole number, in its order."""
    found, codes = np.unique(values, return_inverse=True)
    return _groups(trades, codes.astype(np.int64), [name(value) for value in found.tolist()])


def _earned(groups: list[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: -group.pnl)


def _hours(trades: Trades) -> Codes:
    return np.asarray(trades.entry_at // (3600 * SECOND) % 24)


def _months(trades: Trades) -> Codes:
    return trades.entry_at.astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64)


def _month_name(month: int) -> str:
    return f"{1970 + month // 12}-{month % 12 + 1:02d}"


# Moods and crises -------------------------------------------------------------------------------


def _by_regime(facts: Facts) -> list[Group]:
    """By thirds of the run's days, ordered by how much the market varied just before each."""
    try:
        returns = facts.benchmark_returns
    except Undefined:
        return []
    if len(returns) < FEWEST_DAYS or not len(facts.trades):
        return []
    windows = np.lib.stride_tricks.sliding_window_view(returns, LOOKED_BACK)[:-1]
    scatter = windows.std(axis=1)  # row i is what was known when day i + LOOKED_BACK began
    mood = np.searchsorted(np.quantile(scatter, (1 / 3, 2 / 3)), scatter, side="left")
    day = np.searchsorted(facts.daily[0], _days(facts), side="left") - LOOKED_BACK
    codes = np.where(day < 0, len(REGIMES), mood[np.clip(day, 0, len(mood) - 1)])
    return _groups(facts.trades, codes.astype(np.int64), (*REGIMES, f"first {LOOKED_BACK} days"))


def _days(facts: Facts) -> Codes:
    """The trading day of each entry."""
    days = facts.trades.entry_at // DAY
    if facts.calendar != "24/5":
        return np.asarray(days)
    found, codes = np.unique(days, return_inverse=True)
    return np.array([weekday(day) for day in found.tolist()], dtype=np.int64)[codes]


def _crises(facts: Facts) -> list[Crisis]:
    try:
        levels = facts.levels
    except Undefined:
        return []
    try:
        returns = facts.benchmark_returns
        hold = np.concatenate([[1.0], np.cumprod(1 + returns)])
    except Undefined:
        hold = None
    found = (_crisis(facts, levels, hold, *crisis) for crisis in CRISES)
    return [crisis for crisis in found if crisis is not None]


def _crisis(
    facts: Facts,
    levels: npt.NDArray[np.float64],
    hold: npt.NDArray[np.float64] | None,
    name: str,
    starts: date,
    ends: date,
) -> Crisis | None:
    """None if the run has no trading day in it. `levels` has one more row than there are days: the start."""
    first_day, last_day = _number(starts), _number(ends)
    days = facts.daily[0]
    first, after = np.searchsorted(days, (first_day, last_day + 1)).tolist()
    if first == after:
        return None
    inside = levels[first : after + 1]
    entered = facts.trades.entry_at // DAY
    own = facts.trades.closed & (entered >= first_day) & (entered <= last_day)
    return Crisis(
        name=name,
        starts=max(starts, _date(int(days[first]))).isoformat(),
        ends=min(ends, _date(int(days[after - 1]))).isoformat(),
        days=after - first,
        total_return=float(inside[-1] / inside[0]) - 1,
        max_drawdown=float((1 - inside / np.maximum.accumulate(inside)).max()),
        hold=None if hold is None else float(hold[after] / hold[first]) - 1,
        trades=int(own.sum()),
        pnl=float(facts.trades.pnl[own].sum()),
    )


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _date(number: int) -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + number)
