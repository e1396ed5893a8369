"""Metrics: each as defined, empty with a reason where it is not, and checked by another hand."""

import json
import math
import re
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.metrics import DEFINITIONS, Curve, as_json, daily_equity, measure
from engine.backtest.results import NEVER, OPEN, Fills, Trades
from engine.bars import Bars, nanoseconds
from shared.domain.market import Bar

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def a_curve(
    equity, *, capital=100.0, start=START, step=timedelta(days=1), times=None, exposure=None
):
    equity = np.asarray(equity, dtype=np.float64)
    if times is None:
        times = [start + step * (i + 1) for i in range(len(equity))]
    return Curve(
        nanoseconds(start),
        capital,
        np.array([nanoseconds(at) for at in times], dtype=np.int64),
        equity,
        np.ones(len(equity)) if exposure is None else np.asarray(exposure, dtype=np.float64),
    )


DAY = 86_400 * 10**9


def a_trade(pnl, *, is_open=False, days=1.0, **fields):
    """One row of `trades`."""
    return {
        "instrument": 1,
        "side": 1,
        "quantity": 1.0,
        "entry_at": nanoseconds(START),
        "entry_price": 100.0,
        "exit_at": NEVER if is_open else nanoseconds(START) + int(days * DAY),
        "exit_price": math.nan if is_open else 100.0 + pnl,
        "fees": 0.0,
        "pnl": pnl,
        "return_fraction": pnl / 100,
        "bars_held": 1,
        "mae": 0.0,
        "mfe": 0.0,
        "exit_reason": OPEN if is_open else 1,
        "tag": 0,
        **fields,
    }


def in_columns(rows):
    if not rows:
        return Trades.none()
    types = {name: column.dtype for name, column in columns_of(Trades.none())}
    return Trades(**{name: np.array([r[name] for r in rows], dtype=t) for name, t in types.items()})


def columns_of(trades):
    return [(f.name, getattr(trades, f.name)) for f in fields(trades) if f.name != "tags"]


def fills_of(quantity=(), price=(), fee=(), instrument=None):
    count = len(quantity)
    return Fills(
        instrument=np.array(instrument or [1] * count, dtype=np.int64),
        at=np.zeros(count, dtype=np.int64),
        side=np.ones(count, dtype=np.int8),
        quantity=np.array(quantity, dtype=np.float64),
        price=np.array(price, dtype=np.float64),
        raw=np.array(price, dtype=np.float64),
        fee=np.array(fee, dtype=np.float64),
        leg=np.zeros(count, dtype=np.int8),
        tag=np.zeros(count, dtype=np.int32),
    )


def measured(curve, trades=(), *, fills=None, calendar="24/7", **changes):
    found = measure(
        curve, in_columns(trades), fills=fills or fills_of(), calendar=calendar, **changes
    )
    return {metric.name: metric for metric in found}


# Against another hand ---------------------------------------------------------------------------


def a_random_walk(seed, bars):
    random = np.random.default_rng(seed)
    return 100_000 * np.exp(np.cumsum(random.normal(0.0002, 0.004, bars)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sharpe_volatility_cagr_and_drawdown_agree_with_a_few_lines_of_pandas(seed):
    """Hourly marks over 200 days, then five days without one, then 100 more."""
    hours = [START + timedelta(hours=h + 1) for h in range(305 * 24) if not 200 <= h // 24 < 205]
    equity = a_random_walk(seed, len(hours))
    found = measured(a_curve(equity, capital=100_000.0, times=hours))

    marks = pd.Series(equity, index=pd.DatetimeIndex(hours))
    daily = marks.resample("24h", closed="right", label="left").last().ffill()
    returns = pd.concat([pd.Series([100_000.0]), daily]).pct_change().dropna()
    assert len(returns) == found["sharpe"].n == 305
    sharpe = returns.mean() / returns.std() * math.sqrt(365)
    assert found["sharpe"].value == pytest.approx(sharpe, rel=1e-12)
    assert found["volatility"].value == pytest.approx(returns.std() * math.sqrt(365), rel=1e-12)
    years = (marks.index[-1] - pd.Timestamp(START)) / pd.Timedelta(days=365.25)
    cagr = (marks.iloc[-1] / 100_000) ** (1 / years) - 1
    assert found["cagr"].value == pytest.approx(cagr, rel=1e-12)
    path = pd.concat([pd.Series([100_000.0], index=[pd.Timestamp(START)]), marks])
    fallen = 1 - path / path.cummax()
    assert found["max_drawdown"].value == pytest.approx(fallen.max(), rel=1e-12)
    assert found["max_drawdown"].details["lowest_at"] == fallen.idxmax().isoformat()
    money = (path.cummax() - path).max()
    assert found["max_drawdown_value"].value == pytest.approx(money, rel=1e-12)
    assert found["calmar"].value == pytest.approx(cagr / fallen.max(), rel=1e-12)


def test_an_exchange_s_year_has_252_days_and_its_week_ends_and_holidays_none():
    sessions = [day for day in pd.bdate_range("2026-01-02", periods=150) if day.day != 19]
    closes = [day.to_pydatetime().replace(hour=21, tzinfo=UTC) for day in sessions]
    equity = a_random_walk(4, len(closes))
    found = measured(a_curve(equity, capital=100_000.0, times=closes), calendar="XNYS")
    returns = pd.Series([100_000.0, *equity]).pct_change().dropna()
    expected = returns.mean() / returns.std() * math.sqrt(252)
    assert found["sharpe"].value == pytest.approx(expected, rel=1e-12)
    assert found["sharpe"].n == len(sessions)


def test_the_standard_error_of_normal_returns_is_the_textbook_s():
    """For normal returns and a small ratio: sqrt((1 + s^2 / 2) / n) of the daily ratio."""
    returns = np.random.default_rng(5).normal(0.001, 0.01, 5000)
    found = measured(a_curve(100 * np.cumprod(1 + returns)))["sharpe"]
    daily = found.value / math.sqrt(365)
    textbook = math.sqrt((1 + daily**2 / 2) / 5000) * math.sqrt(365)
    assert found.details["standard_error"] == pytest.approx(textbook, rel=0.02)


def test_the_standard_error_feels_skewness_and_fat_tails():
    returns = 0.01 - 0.01 * (np.random.default_rng(6).exponential(1, 500) - 1)
    found = measured(a_curve(100 * np.cumprod(1 + returns)))["sharpe"]
    daily = returns.mean() / returns.std(ddof=1)
    moments = [((returns - returns.mean()) ** k).mean() for k in (2, 3, 4)]
    skew, kurtosis = moments[1] / moments[0] ** 1.5, moments[2] / moments[0] ** 2
    assert skew < -1.5
    expected = math.sqrt((1 - skew * daily + (kurtosis - 1) / 4 * daily**2) / 499 * 365)
    assert found.details["standard_error"] == pytest.approx(expected, rel=1e-9)


def test_the_standard_error_is_how_far_ratios_of_equal_runs_scatter():
    runs = [np.random.default_rng(seed).standard_t(5, 400) * 0.01 + 0.001 for seed in range(300)]
    found = [measured(a_curve(100 * np.cumprod(1 + run)))["sharpe"] for run in runs]
    scatter = np.std([metric.value for metric in found])
    said = np.mean([metric.details["standard_error"] for metric in found])
    assert said == pytest.approx(scatter, rel=0.12)


# Daily equity -----------------------------------------------------------------------------------


def days_of(curve, calendar):
    days, equity = daily_equity(curve, calendar)
    first = date(1970, 1, 1)
    return [(first + timedelta(days=int(d)), e) for d, e in zip(days, equity, strict=True)]


def test_a_mark_at_midnight_belongs_to_the_day_it_ends():
    times = [START + timedelta(hours=h) for h in (23, 24, 25)]
    assert days_of(a_curve([1.0, 2.0, 3.0], times=times), "24/7") == [
        (date(2026, 1, 1), 2),
        (date(2026, 1, 2), 3),
    ]


def test_a_market_that_never_closes_carries_equity_over_days_without_a_bar():
    times = [START + timedelta(days=d, hours=1) for d in (2, 5)]
    assert [e for _, e in days_of(a_curve([90.0, 80.0], times=times), "24/7")] == [
        100,
        100,
        90,
        90,
        90,
        80,
    ]


def test_currencies_count_the_week_end_to_monday_and_carry_a_quiet_weekday():
    friday = datetime(2026, 1, 2, 12, tzinfo=UTC)
    times = [friday, friday + timedelta(days=2), friday + timedelta(days=4)]
    curve = a_curve([1.0, 2.0, 3.0], start=friday - timedelta(hours=1), times=times)
    assert days_of(curve, "24/5") == [
        (date(2026, 1, 2), 1),
        (date(2026, 1, 5), 2),
        (date(2026, 1, 6), 3),
    ]
    later = a_curve([1.0, 3.0], start=friday - timedelta(hours=1), times=[times[0], times[2]])
    assert days_of(later, "24/5")[1] == (date(2026, 1, 5), 1)


def test_an_exchange_has_only_days_with_a_bar():
    times = [START + timedelta(days=d, hours=21) for d in (1, 4)]
    assert [d for d, _ in days_of(a_curve([1.0, 2.0], times=times), "XNYS")] == [
        date(2026, 1, 2),
        date(2026, 1, 5),
    ]


# Empty, with a reason ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "curve", "trades", "reason"),
    [
        ("total_return", a_curve([]), (), "no bars were run"),
        ("final_equity", a_curve([]), (), "no bars were run"),
        ("max_drawdown", a_curve([]), (), "no bars were run"),
        ("max_drawdown_value", a_curve([]), (), "no bars were run"),
        ("exposure", a_curve([]), (), "no bars were run"),
        ("time_in_market", a_curve([]), (), "no bars were run"),
        ("buy_and_hold", a_curve([]), (), "no bars were run"),
        ("buy_and_hold", a_curve([1.0]), (), "no bars to compare with"),
        ("cagr", a_curve([100.0] * 89), (), "89 days are fewer than 90"),
        ("calmar", a_curve([100.0] * 89), (), "89 days are fewer than 90"),
        ("calmar", a_curve([100.0] * 90), (), "equity never fell"),
        ("cagr", a_curve([0.0] * 90), (), "equity ended at zero or below"),
        ("sharpe", a_curve([101.0]), (), "fewer than two daily returns"),
        ("volatility", a_curve([101.0]), (), "fewer than two daily returns"),
        ("sharpe", a_curve([100.0] * 30), (), "daily returns do not vary"),
        (
            "sharpe",
            a_curve([100 * 1.001**n for n in range(1, 30)]),
            (),
            "daily returns do not vary",
        ),
        ("sharpe", a_curve([50.0, -1.0, 5.0]), (), "equity fell to zero or below"),
        ("win_rate", a_curve([1.0]), [a_trade(1.0, is_open=True)], "no closed trade"),
        ("average_trade", a_curve([1.0]), (), "no closed trade"),
        ("best_trade", a_curve([1.0]), (), "no closed trade"),
        ("worst_trade", a_curve([1.0]), (), "no closed trade"),
        ("profit_factor", a_curve([1.0]), (), "no closed trade"),
        ("profit_factor", a_curve([1.0]), [a_trade(1.0), a_trade(0.0)], "no losing trade"),
    ],
)
def test_what_is_not_defined_is_empty_and_says_why(name, curve, trades, reason):
    metric = measured(curve, trades)[name]
    assert (metric.value, metric.reason) == (None, reason)


def test_volatility_of_what_does_not_vary_is_zero_and_not_empty():
    assert measured(a_curve([100.0] * 30))["volatility"].value == 0


def test_ninety_days_are_enough_for_a_yearly_rate():
    grown = measured(a_curve([110.0] * 90))["cagr"]
    assert grown.value == pytest.approx(1.1 ** (365.25 / 90) - 1)
    assert (grown.n, grown.reason) == (90, "")


def test_equity_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="unknown at 2026-01-03"):
        measured(a_curve([100.0, math.nan, 100.0]))


@pytest.mark.parametrize("capital", [0.0, -1.0, math.nan])
def test_a_run_begins_with_some_capital(capital):
    with pytest.raises(ValueError, match="starting capital"):
        a_curve([1.0], capital=capital)


# As defined -------------------------------------------------------------------------------------


def test_a_drawdown_is_told_with_its_dates():
    found = measured(a_curve([110.0, 120.0, 90.0, 60.0, 100.0, 130.0, 100.0]))["max_drawdown"]
    assert found.value == 0.5
    at = [(START + timedelta(days=day)).isoformat() for day in (2, 4, 6)]
    assert list(found.details.values()) == at
    assert list(found.details) == ["peak_at", "lowest_at", "recovered_at"]


def test_a_fall_from_the_starting_capital_is_a_drawdown_that_may_not_have_ended():
    found = measured(a_curve([80.0, 90.0]))["max_drawdown"]
    assert found.value == pytest.approx(0.2)
    assert found.details["peak_at"] == START.isoformat()
    assert found.details["recovered_at"] is None


def test_a_drawdown_begins_when_equity_was_last_at_its_peak():
    found = measured(a_curve([120.0, 110.0, 120.0, 60.0]))["max_drawdown"]
    assert found.details["peak_at"] == (START + timedelta(days=3)).isoformat()


def test_the_deepest_fall_in_money_may_be_another_than_in_percent():
    found = measured(a_curve([50.0, 1000.0, 900.0]))
    assert found["max_drawdown"].value == 0.5
    assert found["max_drawdown_value"].value == 100


def test_a_fall_within_a_day_counts():
    curve = a_curve([50.0, 100.0], step=timedelta(hours=1))
    assert measured(curve)["max_drawdown"].value == 0.5


def test_trades_are_counted_open_or_closed_and_judged_closed():
    trades = [a_trade(30.0), a_trade(-10.0), a_trade(0.0), a_trade(10.0), a_trade(99, is_open=True)]
    found = measured(a_curve([129.0]), trades, fills=fills_of([1, 1], [100, 100], [2.0, 0.5]))
    values = {name: found[name].value for name in found}
    assert (values["trades"], found["trades"].details) == (
        5,
        {"closed": 4, "open": 1, "long": 5, "short": 0},
    )
    assert values["win_rate"] == 0.5
    assert values["profit_factor"] == 4
    assert (values["best_trade"], values["worst_trade"]) == (30, -10)
    assert values["average_trade"] == 7.5
    assert values["fees"] == 2.5
    assert found["win_rate"].n == 4


def test_exposure_weighs_and_time_in_market_counts():
    found = measured(a_curve([1.0] * 4, exposure=[0.0, 0.5, -0.25, 0.0]))
    assert found["exposure"].value == 0.1875
    assert found["time_in_market"].value == 0.5


def hold_of(opens, closes):
    rows = [
        Bar(1, 86_400, START + timedelta(days=d), START + timedelta(days=d + 1), o, 999, 1, c, 1)
        for d, (o, c) in enumerate(zip(opens, closes, strict=True))
    ]
    return Bars.of(rows)


def test_buying_and_holding_is_from_the_first_open_of_the_run_to_its_last_close():
    long_ago = hold_of([10.0, 20.0, 30.0, 40.0], [15.0, 25.0, 36.0, 99.0])
    other = hold_of([10.0, 10.0, 10.0, 10.0], [10.0, 10.0, 10.0, 10.0])
    curve = a_curve([100.0, 100.0], start=START + timedelta(days=1))
    assert measured(curve, hold=[long_ago])["buy_and_hold"].value == pytest.approx(36 / 20 - 1)
    assert measured(curve, hold=[long_ago, other])["buy_and_hold"].value == pytest.approx(0.4)


# Always -----------------------------------------------------------------------------------------


curves = st.lists(st.floats(1, 1e6), min_size=3, max_size=120)


@given(curves, st.sampled_from([0.5, 2.0, 1024.0]))
def test_ratios_do_not_know_how_much_money_there_was(equity, scale):
    small = measured(a_curve(equity))
    large = measured(a_curve(np.array(equity) * scale, capital=100.0 * scale))
    for name in ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "calmar"):
        assert (small[name].value is None) == (large[name].value is None)
        if small[name].value is not None:
            assert large[name].value == pytest.approx(small[name].value, rel=1e-9)


@given(curves)
def test_twice_the_daily_returns_are_twice_the_volatility_and_the_same_sharpe(equity):
    returns = np.clip(np.diff(np.log([100.0, *equity])), -0.4, 0.4)
    once = measured(a_curve(100 * np.cumprod(1 + returns)))
    twice = measured(a_curve(100 * np.cumprod(1 + 2 * returns)))
    assert twice["volatility"].value == pytest.approx(
        2 * once["volatility"].value, rel=1e-6, abs=1e-9
    )
    if once["volatility"].value > 1e-6:
        assert twice["sharpe"].value == pytest.approx(once["sharpe"].value, rel=1e-6, abs=1e-9)


@given(curves)
def test_a_drawdown_lies_between_nothing_and_everything_and_covers_every_fall(equity):
    found = measured(a_curve(equity))["max_drawdown"].value
    assert 0 <= found <= 1
    path = [100.0, *equity]
    for earlier in range(0, len(path), 7):
        assert 1 - min(path[earlier:]) / path[earlier] <= found + 1e-12


@given(curves, st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_every_metric_has_a_value_or_a_reason_and_survives_the_database(equity, results):
    found = as_json(
        measure(
            a_curve(equity),
            in_columns([a_trade(p) for p in results]),
            fills=fills_of([1.0], [100.0], [1.0]),
            calendar="24/5",
        )
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for entry in found.values():
        assert (entry["value"] is None) == bool(entry["reason"])
        assert entry["how"]
        assert entry["unit"] in {"%", "ratio", "currency", "count", "seconds"}


def test_every_metric_is_explained_in_the_docs_and_every_explanation_is_of_a_metric():
    documented = re.findall(r"^### `(\w+)`$", DOCS.read_text(), flags=re.MULTILINE)
    assert documented == [definition.name for definition in DEFINITIONS]
