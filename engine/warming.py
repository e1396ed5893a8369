"""Machine code before it is needed: made ahead of the first run, loaded by a worker for all its forks.

numba compiles a function when it is first called with some types, and what calls it from Python decides
them. So each door to compiled code is gone through here once, with the types it is really called with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numba.core.dispatcher import Dispatcher

from engine import compiled, indicators
from engine.backtest.job import conclude
from engine.backtest.report import report_parts
from engine.backtest.simulation import fastest
from engine.backtest.specification import Specification
from engine.bars import SECOND, Bars
from engine.costs import Costs
from engine.margin import Margin
from engine.matching import Intrabar, Matching
from engine.risk.rules import OFF, RiskPolicy
from engine.risk.volatility import annual_volatility
from engine.strategies.base import BaseStrategy, Moment
from engine.strategies.evaluation import BoundInput
from engine.sweeping.evaluation import evaluate
from shared.domain.instruments import Instrument
from shared.domain.objectives import ALWAYS_KEPT
from shared.domain.signals import Limit, Signal, Signals, StopLoss, TakeProfit, TrailingStop

ROWS: Final = 300

Say = Callable[[str, float], None]
"""Hears what was compiled and the seconds it took."""


def make_ready(say: Say | None = None) -> bool:
    """Compile what is not on disk yet and throw older code away; whether there was anything to do.

    Processes that do it at once do no harm: each finds what the others kept, and whole files replace files.
    """
    if compiled.is_ready():
        return False
    for name, step in STEPS.items():
        started = time.perf_counter()
        step()
        if say is not None:
            say(name, time.perf_counter() - started)
    compiled.say_ready()
    compiled.drop_older()
    return True


def load() -> None:
    """Bring all machine code into this process, so that its forks have it; nothing if it is not made yet."""
    if compiled.is_ready():
        for step in STEPS.values():
            step()


def missing() -> list[str]:
    """Compiled functions whose code is not on disk, as module.function."""
    return sorted(name for name, function in _functions() if not _is_kept(function))


# Shapes -----------------------------------------------------------------------------------------


class Crossing(BaseStrategy):
    """In and out by arrays."""

    def features(self, bars: Any) -> Any:
        return {key: b.close for key, b in bars.items()}

    def generate_signals(self, f: Any) -> Signals:
        close = np.stack(list(f.columns.values()), axis=1)
        return Signals(np.where(close > 100, 1.0, 0.0))


class Protected(Crossing):
    """The same with limits, stops and targets."""

    def generate_signals(self, f: Any) -> Signals:
        target = super().generate_signals(f).target
        close = np.stack(list(f.columns.values()), axis=1)
        exits = (StopLoss(0.01), TakeProfit(0.02), TrailingStop(0.015))
        return Signals(target, Limit(close * 0.999), exits)


class Asked(BaseStrategy):
    """In and out bar by bar."""

    symbols: ClassVar[tuple[str, ...]] = ("A",)

    def features(self, bars: Any) -> Any:
        return {key: b.close for key, b in bars.items()}

    def generate_signal(self, now: Moment) -> Any:
        above = now["main"] > 100
        return [Signal(symbol, 1.0 if above else 0.0) for symbol in self.symbols]


class AskedForTwo(Asked):
    """The same for two instruments."""

    symbols = ("A", "B")


def _run(strategy: type[BaseStrategy], count: int = 1, **changed: Any) -> None:
    """A run to the end: simulated, its trades and numbers, and what its report keeps."""
    given = specification(strategy, count)
    given = replace(given, **changed)
    simulated = fastest(given)
    assert not simulated.why, simulated.why
    result = conclude(given, simulated)
    report_parts(result.curve, result.trades, calendar=result.calendar, hold=result.held)


def specification(strategy: type[BaseStrategy], count: int = 1) -> Specification:
    """A small run on made bars of `count` instruments."""
    keys = ("main", "other")[:count]
    numbers = range(1, count + 1)
    return Specification(
        strategy=strategy,
        inputs=tuple(
            BoundInput(key, number, "AB"[number - 1], 60, trades=True)
            for key, number in zip(keys, numbers, strict=True)
        ),
        bars={key: made_bars(number) for key, number in zip(keys, numbers, strict=True)},
        instruments={n: Instrument(n, "replay", "AB"[n - 1], "AB"[n - 1], "USD") for n in numbers},
        costs=Costs(0.001),
        policy=OFF,
    )


def made_bars(number: int) -> Bars:
    """Minutes of a price that swings around 100."""
    rows = np.arange(ROWS)
    close = 100 + 5 * np.sin(rows / 7 + number)
    open_ = np.concatenate([close[:1], close[:-1]])
    opened = rows * 60 * SECOND
    high, low = np.maximum(open_, close) + 0.5, np.minimum(open_, close) - 0.5
    volume, filled = np.full(ROWS, 1e6), np.zeros(ROWS, np.bool_)
    return Bars(
        number, 60, opened, opened + 60 * SECOND, open_, high, low, close, volume, filled
    )  # fmt: skip


def _indicators() -> None:
    bars = made_bars(1)
    high, low, close = bars.high, bars.low, bars.close
    indicators.sma(close, 5)
    indicators.ema(close, 5)
    indicators.deviation(close, 5)
    indicators.bollinger(close, 5)
    indicators.deviation(close, 5)
    indicators.rsi(close, 5)
    indicators.atr(high, low, close, 5)
    indicators.adx(high, low, close, 5)
    indicators.macd(close)
    indicators.stochastic(high, low, close)
    indicators.cci(high, low, close)
    indicators.donchian(high, low)
    indicators.volatility(close)


def _with_margin() -> None:
    margin = Margin(enabled=True, leverage=2.0, borrow_rate=0.05)
    _run(Protected, margin=margin, matching=Matching(Intrabar.OHLC_PATH))


def _searches() -> None:
    (found,) = evaluate(specification(Crossing), [{}], ALWAYS_KEPT)
    assert not found.error, found.error


def _rules() -> None:
    """By kernel, and as the core asks them."""
    _run(Protected, policy=RiskPolicy())
    closes = made_bars(1).close.copy()
    for is_read_only in (False, True):  # a live window, bars out of their file
        closes.flags.writeable = not is_read_only
        annual_volatility(closes[-21:], 20, 365.0)


STEPS: Final[dict[str, Callable[[], None]]] = {
    "indicators": _indicators,
    "runs of one instrument": lambda: _run(Crossing),
    "stops, targets and limits": lambda: _run(Protected),
    "risk rules": _rules,
    "margin": _with_margin,
    "several instruments": lambda: _run(Protected, 2),
    "strategies asked bar by bar": lambda: _run(Asked),
    "several of those": lambda: _run(AskedForTwo, 2),
    "searches": _searches,
}


# What is on disk --------------------------------------------------------------------------------


def _functions() -> Iterator[tuple[str, Any]]:
    """Those that are called: what is copied into others has no code of its own."""
    for file in compiled.sources():
        module = import_module("engine." + file.removesuffix(".py").replace("/", "."))
        for name, found in vars(module).items():
            is_compiled = isinstance(found, Dispatcher)
            is_own = is_compiled and found.__module__ == module.__name__
            if is_own and found.targetoptions.get("inline") != "always":
                yield f"{module.__name__}.{name}", found


def _is_kept(function: Any) -> bool:
    return Path(function._cache._cache_file._index_path).exists()
