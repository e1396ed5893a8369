"""Metrics worked by hand, and held to a plain slow reading of the curve."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.metrics import Curve, measure_only
from engine.backtest.metrics.curves import walk
from engine.backtest.metrics.risk import _luckiest
from engine.backtest.metrics.trading import wilson
from engine.backtest.results import Counts, Paid, Trades
from engine.bars import SECOND, nanoseconds
from tests.engine.test_metrics import DAY, START, a_curve, a_trade, fills_of, hold_of, measured

HOUR = 3600 * SECOND


def values(*given_, **changes):
    return {name: metric.value for name, metric in measured(*given_, **changes).items()}


# Flows ------------------------------------------------------------------------------------------


def a_curve_with_flows(equity, flows, *, step=timedelta(days=1)):
    """`flows` as {mark at which the money is there: amount}."""
    plain = a_curve(equity, step=step)
    rows = sorted(flows)
    return Curve(
        plain.started_at,
        plain.capital,
        plain.times,
        plain.equity,
        plain.exposure,
        plain.times[rows],
        np.array([float(flows[row]) for row in rows]),
    )


def test_money_that_comes_is_no_gain():
    found = values(a_curve_with_flows([110.0, 220.0, 231.0], {1: 110.0}))
    assert found["twr"] == pytest.approx(1.1 * 1.05 - 1)
    assert found["total_return"] == pytest.approx(0.21)
    assert found["final_equity"] == 231
    assert found["max_drawdown"] == 0


def test_money_that_goes_is_no_loss():
    found = values(a_curve_with_flows([110.0, 55.0, 55.0, 66.0], {1: -55.0}))
    assert found["twr"] == pytest.approx(1.1 * 1.2 - 1)
    assert found["max_drawdown"] == 0
    assert found["best_day"] == pytest.approx(0.2)


def test_the_money_weighted_rate_explains_capital_and_flows():
    """100 now and 100 in a year are 231 in two years at 10 %."""
    year = timedelta(days=365.25)
    found = values(a_curve_with_flows([210.0, 231.0], {0: 100.0}, step=year))
    assert found["mwr"] == pytest.approx(0.1, rel=1e-9)


def test_a_rate_needs_ninety_days_with_flows_too():
    assert values(a_curve_with_flows([210.0, 231.0], {0: 100.0}))["mwr"] is None


def test_money_that_comes_when_nothing_is_left_makes_returns_unknown():
    found = measured(a_curve_with_flows([50.0, 0.0, 80.0, 90.0], {2: 80.0}))
    assert found["twr"].reason == "money came when nothing was left"
    assert found["max_drawdown"].value is None


levels = st.lists(st.floats(1, 1e6), min_size=3, max_size=60)


@given(levels, st.data())
def test_returns_do_not_know_about_deposits(equity, data):
    """Each unit earns the same whether there are more of them or not."""
    row = data.draw(st.integers(1, len(equity) - 1))
    amount = data.draw(st.floats(0.01, 1e6))
    before = equity[row - 1]
    more = [e if i < row else e * (1 + amount / before) for i, e in enumerate(equity)]
    plain, flowed = values(a_curve(equity)), values(a_curve_with_flows(more, {row: amount}))
    for name in ("twr", "cagr", "sharpe", "max_drawdown", "ulcer_index", "var_95"):
        if plain[name] is None:
            assert flowed[name] is None
        else:
            assert flowed[name] == pytest.approx(plain[name], rel=1e-6, abs=1e-9), name


@given(levels)
def test_without_flows_the_time_weighted_return_is_the_total_return(equity):
    found = values(a_curve(equity))
    assert found["twr"] == found["total_return"]
    assert found["mwr"] == found["cagr"]


# One look at every mark -------------------------------------------------------------------------


def plain_walk(curve):
    top, top_at = curve.capital, curve.started_at
    deepest, costliest, under, longest, fell = 0.0, 0.0, 0, 0, False
    for at, worth in zip(curve.times.tolist(), curve.equity.tolist(), strict=True):
        if worth >= top:
            longest = max(longest, at - top_at) if fell else longest
            top, top_at, fell = worth, at, False
            continue
        under, fell = under + 1, True
        deepest = max(deepest, 1 - worth / top)
        costliest = max(costliest, top - worth)
    if fell:
        longest = max(longest, int(curve.times[-1]) - top_at)
    return deepest, costliest, under, longest


@given(
    st.integers(0, 10_000),
    st.one_of(st.integers(1, 40), st.sampled_from([511, 512, 513, 1500, 2048])),
    st.sampled_from([0.0, 0.01, -0.01]),
)
def test_looking_in_blocks_sees_what_looking_one_by_one_sees(seed, count, drift):
    random = np.random.default_rng(seed)
    steps = random.normal(drift, 0.05, count) * (random.random(count) > 0.3)
    curve = a_curve(
        np.round(100 * np.exp(np.cumsum(steps)), 1),
        exposure=np.round(random.normal(0, 1, count)),
        step=timedelta(hours=1),
    )
    found = walk(curve)
    deepest, costliest, under, longest = plain_walk(curve)
    assert (found.deepest, found.costliest) == (deepest, costliest)
    assert (found.under_water, found.longest) == (under, longest)
    assert found.held == (curve.exposure != 0).sum()
    assert found.most_exposed == np.abs(curve.exposure).max()
    assert found.exposure == pytest.approx(np.abs(curve.exposure).mean(), rel=1e-12)
    assert found.mean_equity == pytest.approx(curve.equity.mean(), rel=1e-12)


@given(levels)
def test_ratios_of_falls_hang_together(equity):
    curve = a_curve(equity)
    found = values(curve)
    assert found["ulcer_index"] <= found["max_drawdown"] + 1e-12
    assert found["cvar_95"] >= found["var_95"] - 1e-12
    assert -found["worst_day"] >= found["cvar_95"] - 1e-12
    assert (found["time_under_water"] == 0) == (found["max_drawdown"] == 0)
    if found["martin"] is not None:
        assert found["martin"] * found["ulcer_index"] == pytest.approx(found["cagr"], abs=1e-9)


def test_a_fall_says_how_long_it_took_to_recover_and_how_long_money_was_under_water():
    found = values(a_curve([120.0, 90.0, 60.0, 100.0, 125.0, 110.0]))
    assert found["drawdown_recovery"] == 2 * 86_400
    assert found["longest_under_water"] == 4 * 86_400
    assert found["time_under_water"] == 4 / 6
    assert measured(a_curve([80.0]))["drawdown_recovery"].reason == "not back at the peak since"
    assert measured(a_curve([110.0]))["drawdown_recovery"].reason == "equity never fell"


# The shape of returns ---------------------------------------------------------------------------


def test_tails_are_read_between_neighbours():
    returns = np.array([-0.05, -0.02, 0.0, 0.01, 0.03])
    found = measured(a_curve(100 * np.cumprod(1 + returns)))
    assert found["var_95"].value == pytest.approx(0.05 - 0.2 * 0.03)
    assert found["cvar_95"].value == pytest.approx(0.05)
    assert found["cvar_95"].details == {"days": 1}
    assert found["tail_ratio"].value == pytest.approx((0.01 + 0.8 * 0.02) / 0.044)
    assert found["omega"].value == pytest.approx(0.04 / 0.07)


def test_a_risk_free_rate_is_taken_off_each_day():
    """A run that earns exactly the rate has nothing above it."""
    daily = 1.05 ** (1 / 365)
    wiggle = np.where(np.arange(364) % 2, 1.001, 1 / 1.001)
    equity = 100 * np.cumprod(daily * wiggle)
    found = values(a_curve(equity), risk_free=0.05)
    assert found["sharpe"] == pytest.approx(0, abs=0.02)
    assert values(a_curve(equity))["sharpe"] > 2


def test_the_luckiest_of_a_hundred_worthless_trials_is_the_published_one():
    """Bailey and Lopez de Prado 2014: a variance of 1/2 a year over 100 trials is a daily 0.1132."""
    assert _luckiest(100) * math.sqrt(0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    assert _luckiest(1) == 0


def test_the_more_runs_there_were_to_choose_from_the_less_a_ratio_means():
    returns = np.random.default_rng(5).normal(0.001, 0.01, 400)
    curve = a_curve(100 * np.cumprod(1 + returns))
    sure = [values(curve, trials=trials)["dsr"] for trials in (1, 2, 10, 100, 10_000)]
    assert sure[0] == values(curve)["psr"] > 0.8
    assert sure == sorted(sure, reverse=True)
    assert sure[-1] < 0.5
    scattered = measured(curve, trials=100, trials_variance=4.0)["dsr"]
    assert scattered.details["above"] == pytest.approx(2 * _luckiest(100))
    assert scattered.value < sure[3]


@pytest.mark.parametrize("trials", [0, -1])
def test_this_run_was_tried(trials):
    with pytest.raises(ValueError, match="trials"):
        measured(a_curve([1.0]), trials=trials)


# Beside buying and holding ----------------------------------------------------------------------


def test_a_run_that_holds_half_of_the_market_has_half_its_beta_and_captures_half():
    market = np.array([0.02, -0.01, 0.03, -0.02, 0.01] * 20)
    closes = 100 * np.cumprod(1 + market)
    held = hold_of([100.0, *closes[:-1]], closes)
    found = values(a_curve(100 * np.cumprod(1 + market / 2)), hold=[held])
    assert found["beta"] == pytest.approx(0.5)
    assert found["r_squared"] == pytest.approx(1)
    assert found["alpha"] == pytest.approx(0, abs=1e-9)
    assert found["up_capture"] == pytest.approx(0.5, rel=0.01)
    assert found["down_capture"] == pytest.approx(0.5, rel=0.01)
    assert found["tracking_error"] == pytest.approx(np.std(market / 2, ddof=1) * math.sqrt(365))
    assert found["buy_and_hold"] == pytest.approx(closes[-1] / 100 - 1)


def test_a_run_that_is_the_market_differs_in_nothing():
    closes = 100 * np.cumprod(1 + np.array([0.02, -0.01, 0.03]))
    found = measured(a_curve(closes), hold=[hold_of([100.0, *closes[:-1]], closes)])
    assert found["tracking_error"].value == pytest.approx(0, abs=1e-12)
    assert found["information_ratio"].reason == "returns follow the benchmark exactly"


def test_another_benchmark_may_be_chosen():
    flat = hold_of([10.0] * 3, [10.0] * 3)
    found = measured(
        a_curve([101.0, 99.0, 104.0]), hold=[hold_of([1.0] * 3, [1.0, 2.0, 3.0])], benchmark=[flat]
    )
    assert found["buy_and_hold"].value == 0
    assert found["beta"].reason == "the benchmark does not vary"


# Use of capital ---------------------------------------------------------------------------------


def test_leverage_is_the_most_there_was_and_turnover_what_was_traded():
    curve = a_curve([100.0, 100.0, 130.0], exposure=[0.5, -2.5, 1.0])
    found = measured(curve, fills=fills_of([2.0, 3.0], [100.0, 10.0], [0.0, 0.0]))
    assert found["leverage"].value == 2.5
    assert found["turnover"].value == pytest.approx(230 / 110)
    assert "a_year" not in found["turnover"].details


def test_at_its_capacity_a_run_earns_nothing_after_impact():
    """Impact by hand: fills of 4 at 100 against 16 a day, the price moving about 2 % a day."""
    closes = 100 * np.cumprod(1 + np.array([0.02, -0.02] * 50))
    held = hold_of([100.0, *closes[:-1]], closes)
    held.volume[:] = 16.0
    curve = a_curve(np.linspace(100, 140, 100))
    found = measured(curve, fills=fills_of([4.0] * 2, [100.0] * 2, [0.0] * 2), hold=[held])
    scatter = np.std([-0.02, *([0.02, -0.02] * 49)], ddof=1)
    impact = 2 * 400 * scatter * math.sqrt(4 / 16)
    assert found["capacity"].value == pytest.approx(100 * (40 / impact) ** 2, rel=1e-6)
    times = found["capacity"].value / 100
    assert 40 * times == pytest.approx(impact * times * math.sqrt(times))


@pytest.mark.parametrize(
    ("equity", "quantity", "volume", "reason"),
    [
        ([90.0] * 5, [1.0], 1.0, "the run earned nothing that impact could take"),
        ([110.0] * 5, [1.0], 0.0, "bars have no volume"),
        ([110.0] * 5, [], 1.0, "nothing was traded"),
    ],
)
def test_without_profit_fills_or_volume_there_is_no_capacity(equity, quantity, volume, reason):
    held = hold_of([100.0] * 5, [100.0, 101.0, 100.0, 102.0, 100.0])
    held.volume[:] = volume
    count = len(quantity)
    fills = fills_of(quantity, [100.0] * count, [0.0] * count)
    assert measured(a_curve(equity), fills=fills, hold=[held])["capacity"].reason == reason


# Trades -----------------------------------------------------------------------------------------


def trades():
    """Won 30, lost 10, even, won 10, lost 20, won 90, and one still open."""
    rows = [(30.0, 1.0), (-10.0, 2.0), (0.0, 3.0), (10.0, 4.0), (-20.0, 5.0), (90.0, 6.0)]
    closed = [a_trade(pnl, days=days, mae=0.02, mfe=0.05) for pnl, days in rows]
    return [*closed, a_trade(500.0, is_open=True, mae=0.9, mfe=0.9)]


def test_trades_are_judged_as_worked_by_hand():
    found = values(a_curve([200.0]), trades())
    assert found["payoff"] == pytest.approx((130 / 3) / 15)
    assert found["expectancy_r"] == pytest.approx((100 / 6) / 15)
    assert found["average_trade"] == pytest.approx(100 / 6)
    assert found["average_return"] == pytest.approx(100 / 6 / 100)
    assert found["realised"] == 100
    results = [30, -10, 0, 10, -20, 90]
    assert found["sqn"] == pytest.approx(math.sqrt(6) * np.mean(results) / np.std(results, ddof=1))
    assert found["largest_trade_share"] == pytest.approx(90 / 130)
    assert found["profit_without_best_5"] == -30
    assert (found["mae"], found["mfe"]) == pytest.approx((0.02, 0.05))
    assert found["edge_ratio"] == pytest.approx(2.5)


def test_only_what_earned_is_taken_away_as_the_best():
    rows = [a_trade(p) for p in (5.0, 4.0, 3.0, 2.0, 1.0, 0.5, -7.0)]
    assert values(a_curve([1.0]), rows)["profit_without_best_5"] == pytest.approx(-6.5)


def test_durations_are_told_of_all_of_winners_and_of_losers():
    found = measured(a_curve([200.0]), trades())
    day = 86_400
    assert found["average_duration"].value == 3.5 * day
    assert found["average_duration"].details == {"shortest": day, "longest": 6 * day}
    assert found["average_duration_won"].value == pytest.approx((1 + 4 + 6) / 3 * day)
    assert found["average_duration_lost"].value == 3.5 * day
    assert found["average_bars"].value == 1


def test_streaks_are_counted_as_trades_ended_and_even_ones_end_them():
    results = [1, 1, -1, -1, -1, 0, 1, 1, 1, 1, -1]
    rows = [a_trade(float(p), days=i + 1) for i, p in enumerate(results)]
    found = measured(a_curve([1.0]), rows[::-1])
    assert (found["longest_win_streak"].value, found["longest_loss_streak"].value) == (4, 3)
    assert found["longest_loss_streak"].details == {"at_the_end": 1}
    assert found["longest_win_streak"].details == {"at_the_end": 0}


def test_a_win_rate_has_wilson_s_interval():
    """8 of 10: the textbook's 0.490 to 0.943."""
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    rows = [a_trade(1.0)] * 8 + [a_trade(-1.0)] * 2
    details = measured(a_curve([1.0]), rows)["win_rate"].details
    assert (details["won"], details["low_95"]) == (8, pytest.approx(0.4902, abs=5e-5))


@pytest.mark.parametrize(
    ("name", "results", "reason"),
    [
        ("payoff", [1.0], "no losing trade"),
        ("payoff", [-1.0], "no winning trade"),
        ("sqn", [1.0], "fewer than two closed trades"),
        ("sqn", [2.0, 2.0], "trades do not vary"),
        ("largest_trade_share", [-1.0], "no winning trade"),
        ("average_duration_won", [-1.0], "no winning trade"),
        ("average_duration_lost", [1.0], "no losing trade"),
        ("edge_ratio", [1.0], "no price went against a trade"),
        ("mae", [], "no closed trade"),
        ("longest_win_streak", [], "no closed trade"),
    ],
)
def test_a_judgement_without_cases_says_so(name, results, reason):
    metric = measured(a_curve([1.0]), [a_trade(p) for p in results])[name]
    assert (metric.value, metric.reason) == (None, reason)


# Costs ------------------------------------------------------------------------------------------


def test_costs_are_what_fills_the_books_and_the_broker_say():
    found = measured(
        a_curve([100.0]),
        fills=fills_of([1.0, 2.0], [100.0, 50.0], [1.0, 0.5]),
        paid=Paid(slippage=2.0, spread=0.25, borrowing=4.0),
        counts=Counts(orders=8, rejected=1, expired=2, partly_filled=4, denied=3, ambiguous_bars=5),
    )
    names = ("fees", "slippage", "spread", "funding", "costs")
    assert [found[name].value for name in names] == [1.5, 2, 0.25, 4, 7.75]
    assert found["fees"].details == {"of_value_traded": 1.5 / 200}
    assert found["costs"].details == {"of_capital": 0.0775}
    names = ("orders", "rejected", "timed_out", "denied", "ambiguous_bars")
    assert [found[name].value for name in names] == [8, 1, 2, 3, 5]
    assert found["partial_fill_ratio"].value == 0.5


# A few only -------------------------------------------------------------------------------------


def test_a_few_metrics_alone_are_what_they_are_among_all():
    curve = a_curve([101.0, 99.0, 120.0])
    names = ("sharpe", "max_drawdown", "total_return", "cagr")
    few = measure_only(names, curve, calendar="24/7")
    everything = values(curve)
    assert few == {name: everything[name] for name in names}
    assert few["cagr"] is None
    with pytest.raises(KeyError, match="sharp"):
        measure_only(("sharp",), curve, calendar="24/7")
    assert measure_only(("trades",), curve, Trades.none(), calendar="24/7") == {"trades": 0}


def test_times_of_the_curve_are_exact():
    assert nanoseconds(datetime(2026, 1, 2, tzinfo=UTC)) - nanoseconds(START) == DAY
    assert a_curve([1.0], step=timedelta(hours=1)).times[0] - nanoseconds(START) == HOUR
