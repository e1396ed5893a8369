"""What many combinations came to, held to whole runs of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine import rolling
from engine.backtest.job import conclude
from engine.backtest.kernel import NotCovered
from engine.backtest.many import worth_of
from engine.backtest.simulation import simulate, through_core
from engine.backtest.specification import Specification
from engine.bars import instant
from engine.costs import Costs
from engine.risk.rules import OFF, RiskPolicy
from engine.sizing import Sizing
from engine.sweeping.evaluation import COUNTED, evaluate
from tests.builders import a_bound_input, a_market, an_instrument, strategy_type

COMBINATIONS = [
    {"short_window": short, "long_window": long} for short in (2, 5, 9) for long in (10, 30, 70)
]


def given(seed: int = 1, **changed: Any) -> Specification:
    settings: dict[str, Any] = {
        "strategy": strategy_type("moving_average_cross"),
        "inputs": (a_bound_input(interval=3600),),
        "bars": {"main": a_market(4000, seed, sigma=0.004, places=6, interval=3600)},
        "instruments": {1: an_instrument(1)},
        "costs": Costs(0.001, 0.0002),
        "sizing": Sizing("cash"),
        "policy": OFF,
    }
    return Specification(**{**settings, **changed})


@pytest.mark.parametrize(
    "sizing", [Sizing("cash"), Sizing("fraction", fraction=0.4)], ids=["all-in", "a-part"]
)
@pytest.mark.parametrize("late", [False, True], ids=["from-the-start", "after-history"])
def test_counted_numbers_equal_those_of_whole_runs(sizing: Sizing, late: bool) -> None:
    specification = given(sizing=sizing)
    if late:
        start = instant(int(specification.bars["main"].closed_at[1500]))
        specification = replace(specification, starts_at=start)
    names = sorted(COUNTED)
    for parameters, found in zip(
        COMBINATIONS, evaluate(specification, COMBINATIONS, names), strict=True
    ):
        own = replace(specification, parameters=parameters)
        whole = {m.name: m.value for m in conclude(own, through_core(own)).metrics}
        assert not found.error
        for name, number in zip(names, found.numbers, strict=True):
            assert number == pytest.approx(whole[name], rel=1e-9, abs=1e-12), (name, parameters)


def test_returns_from_bar_to_bar_are_those_of_the_curve() -> None:
    specification = given(3)
    for parameters, found in zip(COMBINATIONS, worth_of(specification, COMBINATIONS), strict=True):
        equity = simulate(replace(specification, parameters=parameters)).equity
        returns = np.diff(equity, prepend=specification.capital) / np.concatenate(
            [[specification.capital], equity[:-1]]
        )
        assert found.bars == len(equity)
        assert found.mean == pytest.approx(returns.mean(), rel=1e-9)
        assert found.deviation == pytest.approx(returns.std(), rel=1e-9)
        assert found.sharpe(525_600) == pytest.approx(
            returns.mean() / returns.std() * np.sqrt(525_600), rel=1e-9
        )


def test_a_run_with_rules_is_not_counted_but_run() -> None:
    specification = given(policy=RiskPolicy())
    with pytest.raises(NotCovered):
        list(worth_of(specification, COMBINATIONS[:1]))
    [found] = evaluate(specification, COMBINATIONS[:1], ["sharpe", "trades"])
    own = replace(specification, parameters=COMBINATIONS[0])
    whole = {m.name: m.value for m in conclude(own, simulate(own)).metrics}
    assert found.numbers == (whole["sharpe"], whole["trades"])


def test_one_bad_combination_stops_no_other() -> None:
    bad = {"short_window": 30, "long_window": 10}
    first, wrong, last = evaluate(given(), [COMBINATIONS[0], bad, COMBINATIONS[0]], ["sharpe"])
    assert "short_window: 30 must be less than long_window 10" in wrong.error
    assert first.numbers == last.numbers


def test_a_column_asked_for_again_is_the_same_one_until_memory_is_full() -> None:
    values = np.arange(1000.0)
    with rolling.remembered(20_000):
        first = rolling.window_means(values, 10)
        assert rolling.window_means(values, 10) is first
        assert rolling.window_means(values[1:], 10) is not first
        for window in range(20, 24):
            rolling.window_means(values, window)
        assert rolling.window_means(values, 10) is not first
    assert rolling.window_means(values, 10) is not rolling.window_means(values, 10)


def test_a_column_is_not_to_be_written_into() -> None:
    with pytest.raises(ValueError, match="read-only"):
        rolling.window_means(np.arange(50.0), 5)[0] = 1.0
