"""Backtests against plain loops over the same bars, timed in the same run.

The tasks: A, a cross of two averages; B, 400 of them; C, reversion with stop and target; D, twenty symbols
with one purse. Each answer is checked against the loop's before a time is told. The loops are timed first,
as anybody's script would run them: a backtest lets its process keep memory, which speeds them up too.
Searches run as they do: the loops on two threads, which no Python holds up, ours in two processes, as sweeps.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from engine.backtest.job import conclude
from engine.backtest.many import worth_of
from engine.backtest.simulation import simulate
from engine.backtest.specification import Specification
from engine.bars import Bars
from engine.costs import Costs
from engine.risk.rules import OFF
from engine.sizing import Sizing
from engine.strategies.base import BaseStrategy
from engine.strategies.evaluation import BoundInput
from engine.strategies.registry import built_in_files
from shared.domain.instruments import Instrument
from tests.benchmarks import floor
from tests.benchmarks.data import one_minute_bars
from tests.benchmarks.strategies import ExponentialCross, ManyCrosses, Reversion, ScalarCross

TIMES: Final = 9
MINUTES_A_YEAR: Final = 525_600
CAPITAL: Final = 100_000.0
SHORTS, LONGS = range(5, 25), range(30, 130, 5)


@dataclass(frozen=True, slots=True)
class Task:
    """A plain loop and our way to the same numbers; `limit` is how many times as long ours may take."""

    name: str
    loop: Callable[[], Any]
    ours: Callable[[], Any]
    same: Callable[[Any, Any], bool]
    limit: float


def main() -> int:
    """One table. Returns 1 when an answer is wrong or a limit is missed."""
    tasks = [*singles(), *searches(), many_symbols()]
    loops = {}
    for task in tasks:
        task.loop()  # compiles
        loops[task.name] = timed(task.loop)
    print(f"\n{'task':<52} {'loop':>9} {'ours':>9} {'ratio':>7} {'at most':>8}  answer")
    failed = False
    for task in tasks:
        found = task.ours()
        right = task.same(found, task.loop())
        ours = timed(task.ours)
        ratio = ours / loops[task.name]
        failed |= not right or ratio > task.limit
        print(
            f"{task.name:<52} {loops[task.name] * 1e3:>7.1f} ms {ours * 1e3:>6.1f} ms {ratio:>6.2f}x"
            f" {task.limit:>7.0f}x  {'the same' if right else 'WRONG'}"
        )
    bars = one_minute_bars(1_000_000)
    specification = one(ScalarCross, bars, 0.00001)
    simulate(specification, decisions=False)
    seconds = timed(lambda: simulate(specification, decisions=False), 3)
    speed = len(bars) / seconds
    failed |= speed < 1_000_000
    print(f"{'A asked bar by bar, 1 M bars':<52} {speed:>17,.0f} bars a second, at least 1,000,000")
    return int(failed)


def timed(work: Callable[[], Any], times: int = TIMES) -> float:
    """The median of some runs, in seconds."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def one(strategy: type[BaseStrategy], bars: Bars, fee: float, **parameters: Any) -> Specification:
    """All in, rules off."""
    return Specification(
        strategy,
        (BoundInput("main", 1, "X", 60, trades=True),),
        {"main": bars},
        {1: Instrument(1, "replay", "X", "X", "USD")},
        parameters=parameters,
        costs=Costs(fee),
        sizing=Sizing("cash"),
        policy=OFF,
    )


def whole(specification: Specification) -> Callable[[], tuple[int, float]]:
    """Arrays to fills, curve, trades and every metric; (entries, final equity)."""

    def work() -> tuple[int, float]:
        simulated = simulate(specification, decisions=False)
        conclude(specification, simulated)
        return int((simulated.fills.leg == 0).sum()), float(simulated.equity[-1])

    return work


def run_only(specification: Specification) -> Callable[[], tuple[int, float]]:
    """Arrays to fills and curve; (entries, final equity)."""

    def work() -> tuple[int, float]:
        simulated = simulate(specification, decisions=False)
        return int((simulated.fills.leg == 0).sum()), float(simulated.equity[-1])

    return work


def same_run(ours: tuple[int, float], loop: tuple[Any, ...]) -> bool:
    return ours[0] == loop[0] and abs(ours[1] / loop[1] - 1) < 1e-9


def singles() -> list[Task]:
    bars, fee = one_minute_bars(1_000_000), 0.00001
    o, h, l, c = bars.open, bars.high, bars.low, bars.close  # noqa: E741
    cross = next(
        f.types["moving_average_cross"]
        for f in built_in_files()
        if "moving_average_cross" in f.types
    )
    return [
        Task(
            "A averages cross, 1 M bars: fills, curve, metrics",
            lambda: floor.cross(o, c, 10, 30, CAPITAL, fee),
            whole(one(cross, bars, fee)), same_run, 2,
        ),
        Task(
            "A exponential averages",
            lambda: floor.exponential_cross(o, c, 10, 30, CAPITAL, fee),
            whole(one(ExponentialCross, bars, fee)), same_run, 3,
        ),
        Task(
            "A reversion, RSI and Bollinger",
            lambda: floor.reversion(o, h, l, c, CAPITAL, fee, 0.0, 0.0),
            whole(one(Reversion, bars, fee)), same_run, 3,
        ),
        Task(
            "C reversion with stop and target, 1 M bars: fills, curve",
            lambda: floor.reversion(o, h, l, c, CAPITAL, fee, 0.02, 0.04),
            run_only(one(Reversion, bars, fee, protected=True)), same_run, 2,
        ),
    ]  # fmt: skip


def searches() -> list[Task]:
    bars, fee = one_minute_bars(100_000), 0.001
    pairs = [(short, long) for short in SHORTS for long in LONGS]
    combinations = [{"short_window": short, "long_window": long} for short, long in pairs]
    cross = next(
        f.types["moving_average_cross"]
        for f in built_in_files()
        if "moving_average_cross" in f.types
    )
    windows = [(window, strength) for window in range(10, 30) for strength in range(5, 25)]
    reversions = [{"window": window, "strength": strength} for window, strength in windows]
    threads = ThreadPoolExecutor(2)
    processes = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    _searched.update(bars=bars, cross=cross, exponential=ExponentialCross, reversion=Reversion)
    return [
        Task(
            "B 400 crosses x 100 k bars, both cores",
            lambda: on_two(threads, lambda part: swept(floor.swept, bars, part, fee), pairs),
            lambda: on_two(processes, partial(counted, "cross", fee=fee), combinations),
            same_search, 1,
        ),
        Task(
            "B 400 exponential crosses",
            lambda: on_two(threads, lambda part: swept(floor.swept_exponential, bars, part, fee), pairs),
            lambda: on_two(processes, partial(counted, "exponential", fee=fee), combinations),
            same_search, 3,
        ),
        Task(
            "B 400 reversions",
            lambda: on_two(threads, lambda part: swept(floor.swept_reversion, bars, part, fee), windows),
            lambda: on_two(processes, partial(counted, "reversion", fee=fee), reversions),
            same_search, 3,
        ),
    ]  # fmt: skip


_searched: dict[str, Any] = {}
"""The bars and strategies of searches, for processes that are forked from this one, as a sweep's are."""


def on_two(pool: Executor, work: Callable[[Sequence[Any]], Any], all_of: Sequence[Any]) -> Any:
    half = len(all_of) // 2
    return np.concatenate(list(pool.map(work, (all_of[:half], all_of[half:]))))


def swept(
    loop: Callable[..., None], bars: Bars, pairs: Sequence[tuple[int, int]], fee: float
) -> Any:
    out = np.empty((len(pairs), 3))
    loop(bars.open, bars.close, np.array(pairs), CAPITAL, fee, out)
    return out


def counted(strategy: str, combinations: Sequence[Mapping[str, Any]], *, fee: float) -> Any:
    specification = one(_searched[strategy], _searched["bars"], fee, **combinations[0])
    found = worth_of(specification, combinations)
    return np.array([[w.final_equity, w.sharpe(MINUTES_A_YEAR), w.max_drawdown] for w in found])


def same_search(ours: Any, loop: Any) -> bool:
    return bool(np.allclose(ours, loop, rtol=1e-8))


def many_symbols() -> Task:
    every = [one_minute_bars(50_000, seed=7 + i, instrument_id=i + 1) for i in range(20)]
    opens = np.column_stack([bars.open for bars in every])
    closes = np.column_stack([bars.close for bars in every])
    ids = range(1, 21)
    specification = Specification(
        ManyCrosses,
        tuple(BoundInput(f"s{i}", i, f"X{i}", 60, trades=True) for i in ids),
        {f"s{i}": bars for i, bars in zip(ids, every, strict=True)},
        {i: Instrument(i, "replay", f"X{i}", f"X{i}", "USD") for i in ids},
        costs=Costs(0.001),
        sizing=Sizing("fraction", fraction=0.05),
        policy=OFF,
    )
    return Task(
        "D 20 symbols x 50 k bars, one purse",
        lambda: floor.portfolio(opens, closes, CAPITAL, 0.001, 0.05),
        run_only(specification), same_run, 2,
    )  # fmt: skip
