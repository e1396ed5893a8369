"""The numbers empyrical-reloaded 0.7.1 and quantstats 0.0.86 give for the same daily returns, and ours.

tests/peers/metrics.py printed theirs. docs/metrics.md tells where definitions differ and why.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.backtest.metrics import Curve, measure
from engine.backtest.results import Fills, Trades
from engine.bars import DAY, Bars
from tests.peers.made import CASES, made

THEIRS = json.loads((Path(__file__).parents[1] / "peers" / "metrics.json").read_text())
CALENDARS = {365: "24/7", 252: "XNYS"}


def ours(name, **changes):
    case = CASES[name]
    days, returns, market = made(**case)
    opened = days.to_numpy().astype("datetime64[ns]").astype(np.int64)
    level = 100 * np.cumprod(1 + market)
    bars = Bars(
        1,
        86_400,
        opened,
        opened + DAY,
        np.concatenate([[100.0], level[:-1]]),
        level,
        level,
        level,
        np.ones(len(level)),
        np.zeros(len(level), dtype=bool),
    )
    curve = Curve(
        int(opened[0]), 1000.0, opened + DAY, 1000 * np.cumprod(1 + returns), np.ones(len(days))
    )
    found = measure(
        curve,
        Trades.none(),
        fills=Fills.none(),
        calendar=CALENDARS[case["year"]],
        hold=[bars],
        **changes,
    )
    return {metric.name: metric for metric in found}


OURS = {name: ours(name) for name in CASES}

SAME = {
    "empyrical": (
        "total_return", "volatility", "sharpe", "sortino", "downside_deviation", "omega",
        "tail_ratio", "alpha", "beta",
    ),
    "quantstats": (
        "total_return", "volatility", "sharpe", "sortino", "omega", "tail_ratio", "skew",
        "kurtosis", "best_day", "worst_day", "beta", "r_squared",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("peer", SAME)
def test_where_definitions_agree_numbers_do(case, peer):
    theirs = THEIRS[case][peer]
    for name in SAME[peer]:
        assert OURS[case][name].value == pytest.approx(theirs[name], rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("case", CASES)
def test_losses_are_theirs_with_the_sign_turned(case):
    for name in ("max_drawdown", "var_95", "cvar_95"):
        theirs = THEIRS[case]["empyrical"][name]
        assert OURS[case][name].value == pytest.approx(-theirs, rel=1e-9), name


@pytest.mark.parametrize("case", CASES)
def test_cagr_is_theirs_once_years_are(case):
    """They count returns / trading days; ours is the time that passed."""
    years_of_days = CASES[case]["count"] / CASES[case]["year"]
    theirs = THEIRS[case]["empyrical"]["cagr_of_returns"]
    grown = OURS[case]["total_return"].value + 1
    assert grown ** (1 / years_of_days) - 1 == pytest.approx(theirs, rel=1e-9)
    if CASES[case]["year"] == 365:
        passed = CASES[case]["count"] / 365.25
        assert OURS[case]["cagr"].value == pytest.approx(grown ** (1 / passed) - 1, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_what_is_theirs_but_for_a_factor(case):
    count, year = CASES[case]["count"], CASES[case]["year"]
    theirs, found = THEIRS[case]["quantstats"], OURS[case]
    ulcer = theirs["ulcer_index_by_n_less_1"] * math.sqrt((count - 1) / count)
    assert found["ulcer_index"].value == pytest.approx(ulcer, rel=1e-6)
    ratio = theirs["information_ratio_daily"] * math.sqrt(year)
    assert found["information_ratio"].value == pytest.approx(ratio, rel=1e-9)
    _, returns, _ = made(**CASES[case])
    treynor = float(returns.mean()) * year / theirs["beta"]
    assert found["treynor"].value == pytest.approx(treynor, rel=1e-9)
    assert theirs["treynor_of_total_return"] == pytest.approx(
        found["total_return"].value / found["beta"].value, rel=1e-6
    )


@pytest.mark.parametrize("case", CASES)
def test_the_probability_of_a_true_ratio_above_zero_differs_by_corrections_for_n_only(case):
    theirs = THEIRS[case]["quantstats"]["psr_as_they_do"]
    assert OURS[case]["psr"].value == pytest.approx(theirs, abs=1e-4)
