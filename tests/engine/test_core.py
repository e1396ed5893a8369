"""The path from bar to position, through the core alone: what acts, what is denied, what exits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from engine.actions import Decide
from engine.backtest import storing
from engine.backtest.simulation import through_core
from engine.backtest.specification import run
from engine.costs import Costs
from engine.indicators import sma
from engine.risk.rules import OFF, MaxDrawdown, PositionSize, RiskPolicy
from engine.sizing import Sizing
from engine.standing import Standing
from engine.strategies.base import BaseStrategy, param, series
from engine.strategies.evaluation import BadSignal
from shared.domain.decisions import Outcome
from shared.domain.identity import RESEARCH_STRATEGY
from shared.domain.orders import OrderState
from shared.domain.signals import (
    Limit,
    Signal,
    Signals,
    StopLoss,
    TakeProfit,
    TimeExit,
    TrailingStop,
)
from shared.domain.told import Told
from tests.builders import (
    START,
    a_bound_input,
    a_market,
    bars_of,
    ohlc,
    strategy_type,
)
from tests.engine.scripts import MINUTE, N, a_run, a_specification, fills, outcomes, scripted

FLAT = bars_of([100.0] * 12, spread=0.001)
RISING = bars_of(np.arange(100.0, 112.0), spread=0.001)


def test_a_decision_at_a_close_fills_at_the_next_open_and_no_earlier():
    outcome = a_run(scripted([N, N, 1, N, N, 0, N, N, N, N, N, N]), RISING)
    assert fills(outcome) == [("buy", 1.0, 102.0, 3, "entry"), ("sell", 1.0, 105.0, 6, "exit")]
    for decision, booked in zip(outcome.record.decisions, outcome.record.fills, strict=True):
        assert booked.fill.at >= decision.decided_at


def test_the_last_row_never_trades():
    assert fills(a_run(scripted([0.0] * 11 + [1.0]), RISING)) == []


def test_a_target_acts_only_when_it_changes():
    outcome = a_run(scripted([1.0] * 6 + [0.0] * 6), RISING)
    assert [f[0] for f in fills(outcome)] == ["buy", "sell"]
    assert len(outcome.record.decisions) == 2


def test_nan_leaves_things_as_they_are():
    assert len(fills(a_run(scripted([1.0] + [N] * 11), RISING))) == 1


def test_scaling_in_and_out_trades_the_difference():
    outcome = a_run(scripted([0.5, N, 1.0, N, 0.25, N, 0, N, N, N, N, N]), RISING)
    assert [f[:2] for f in fills(outcome)] == [
        ("buy", 0.5),
        ("buy", 0.5),
        ("sell", 0.75),
        ("sell", 0.25),
    ]


def test_a_stop_out_is_not_undone_by_the_same_target_going_on():
    bars = ohlc([100] * 8, [101] * 8, [99, 99, 95, 99, 99, 99, 99, 99], [100] * 8)
    outcome = a_run(scripted([1.0] * 8, (StopLoss(fraction=0.02),)), bars)
    assert fills(outcome) == [("buy", 1.0, 100.0, 1, "entry"), ("sell", 1.0, 98.0, 3, "stop_loss")]


def test_after_a_stop_out_a_fresh_signal_enters_again():
    bars = ohlc([100] * 8, [101] * 8, [99, 99, 95, 99, 99, 99, 99, 99], [100] * 8)
    outcome = a_run(scripted([1, N, N, N, 1, N, N, N], (StopLoss(fraction=0.02),)), bars)
    assert [f[4] for f in fills(outcome)] == ["entry", "stop_loss", "entry"]


def test_a_signal_exit_cancels_the_protective_orders():
    outcome = a_run(scripted([1, N, 0, N, N, N, N, N], (StopLoss(fraction=0.02),)), FLAT[:8])
    assert [f[4] for f in fills(outcome)] == ["entry", "exit"]
    assert outcome.core.orders == {}


@pytest.mark.parametrize(
    ("exit_", "leg", "price"),
    [
        (TakeProfit(fraction=0.03), "take_profit", 104.03),
        (TakeProfit(distance=3.0), "take_profit", 104.0),
        (TrailingStop(distance=0.05), "trailing_stop", None),
        (TimeExit(bars=3), "time_exit", 104.0),
    ],
)
def test_each_exit_closes_the_position(exit_, leg, price):
    outcome = a_run(scripted([N, 1] + [N] * 10, (exit_,)), RISING)
    last = fills(outcome)[-1]
    assert last[4] == leg
    if price is not None:
        assert last[2] == pytest.approx(price)
    assert outcome.core.portfolio.position(RESEARCH_STRATEGY, 1).is_flat


def test_exits_protect_what_was_held_before_a_position_grew():
    bars = ohlc([100] * 8, [101] * 8, [99, 99, 99, 99, 99, 90, 99, 99], [100] * 8)
    outcome = a_run(scripted([0.5, N, 1.0, N, N, N, N, N], (StopLoss(fraction=0.05),)), bars)
    assert fills(outcome)[-1][:2] == ("sell", 1.0)


def test_what_stays_after_a_partial_exit_stays_protected():
    bars = ohlc([100] * 8, [101] * 8, [99, 99, 99, 99, 99, 90, 99, 99], [100] * 8)
    outcome = a_run(scripted([1.0, N, 0.5, N, N, N, N, N], (StopLoss(fraction=0.05),)), bars)
    assert [(f[0], f[1], f[2]) for f in fills(outcome)] == [
        ("buy", 1.0, 100.0),
        ("sell", 0.5, 100.0),
        ("sell", 0.5, 95.0),
    ]


def test_a_limit_entry_waits_and_is_replaced_by_a_newer_target():
    outcome = a_run(scripted([1, N, 0, N, N, N, N, N], entry=Limit(50.0)), FLAT[:8])
    assert fills(outcome) == []
    assert outcomes(outcome) == ["ordered", "nothing"]


def test_a_denied_entry_is_recorded_and_not_tried_again_until_the_signal_changes():
    policy = replace(OFF, position_size=PositionSize(max_fraction=0.0001))
    outcome = a_run(scripted([N, 1, 1, 1, 1, 0, 1, N, N, N, N, N]), RISING, policy=policy)
    assert fills(outcome) == []
    assert outcomes(outcome) == ["denied", "denied"]
    first = outcome.record.decisions[0]
    assert first.checks[0].value == pytest.approx(101 / 100_000)
    assert first.requests == ()
    assert "position_size" in first.reason


def test_a_reduction_is_never_checked():
    policy = replace(OFF, max_drawdown=MaxDrawdown(max_fraction=1e-9))
    bars = bars_of([100, 100, 100, 90, 80, 80, 80, 80], spread=0.001)
    outcome = a_run(scripted([N, 1, N, N, 0, N, N, N]), bars, policy=policy)
    assert [f[0] for f in fills(outcome)] == ["buy", "sell"]
    assert outcome.record.decisions[1].checks == ()


def test_every_decision_keeps_bar_reason_and_sizing_steps():
    [decision] = a_run(scripted([N, N, 1] + [N] * 9), RISING).record.decisions
    assert decision.bar.close == 102.0
    assert decision.bar.closed_at == decision.decided_at
    assert decision.because == "row 2"
    assert decision.previous == 0.0
    assert [step.name for step in decision.steps] == ["target", "change"]


def test_the_core_with_two_instruments_decides_in_the_order_of_their_ids():
    class Both(BaseStrategy):
        other = series(help="a second one")

        def generate_signals(self, f):
            target = np.full((len(f), 2), np.nan)
            target[2] = [1.0, 0.5]
            return Signals(target)

    inputs = (a_bound_input("other", 2), a_bound_input("main", 1))
    bars = {"main": RISING, "other": bars_of(np.arange(50.0, 62.0), instrument_id=2)}
    outcome = a_run(Both, bars, inputs=inputs)
    assert [(d.instrument_id, d.target) for d in outcome.record.decisions] == [(1, 1.0), (2, 0.5)]
    assert [(b.fill.instrument_id, b.fill.quantity) for b in outcome.record.fills] == [
        (1, 1.0),
        (2, 0.5),
    ]


class Scalar(BaseStrategy):
    """The moving-average cross in scalar form, with state."""

    short = param(3, ge=1)
    long = param(8, ge=2)

    def features(self, bars):
        close = bars["main"].close
        return {"short": sma(close, self.short), "long": sma(close, self.long)}

    def generate_signal(self, now):
        self.state["seen"] = self.state.get("seen", 0) + 1
        if np.isnan(now["long"]):
            return None
        return Signal("X1", 1.0 if now["short"] > now["long"] else 0.0)

    def on_fill(self, fill, now):
        self.state["fills"] = self.state.get("fills", 0) + 1


class Numpys(Scalar):
    """What numpy works out, as it is; and words that are no words."""

    def generate_signal(self, now):
        said = super().generate_signal(now)
        return said and said._replace(target=np.float64(said.target), tag=np.array(["a", "b"]))

    def because(self, now):
        return np.array([now["short"], now["long"]])


def test_numbers_of_numpy_are_traded_told_and_kept_as_pythons_own():
    bars = a_market(400, 5)
    given = a_specification(Numpys, bars, policy=RiskPolicy())
    kept = through_core(given)
    assert fills(run(given)) == fills(a_run(Scalar, bars, policy=RiskPolicy()))
    assert {type(decision.target) for decision in kept.told} == {float}
    assert kept.told[0].tag == "['a' 'b']"
    stored = Told(storing.decisions(kept, [1])["told"])
    assert [stored.row(n).target for n in range(len(stored))] == [d.target for d in kept.told]


@pytest.mark.parametrize("target", ["much", [1.0], np.array([1.0, 0.0])])
def test_a_target_that_is_no_number_is_told_with_its_value(target):
    class NoNumber(BaseStrategy):
        def generate_signal(self, now):
            return Signal("X1", target)

    with pytest.raises(BadSignal, match=r"signal for X1: target .* is no number"):
        a_run(NoNumber, FLAT)


def test_scalar_and_array_form_of_one_rule_trade_the_same():
    bars = a_market(400, 5)
    scalar = a_run(Scalar, bars)
    array = a_run(
        strategy_type("moving_average_cross"),
        bars,
        parameters={"short_window": 3, "long_window": 8},
    )
    assert fills(scalar) == fills(array)
    assert len(fills(scalar)) > 20
    state = scalar.core.runs[RESEARCH_STRATEGY].strategy.state
    assert state == {"seen": 400, "fills": len(fills(scalar))}


def test_a_slower_input_is_joined_only_once_it_has_closed():
    class Slow(BaseStrategy):
        slow = series(trades=False)

        def features(self, bars):
            return {"trend": sma(bars["slow"].close, 1).on("slow")}

        def generate_signal(self, now):
            said.append((now.closed_at, now["trend"]))

    said = []
    slow = bars_of([1.0, 2.0, 3.0], interval=240)
    inputs = (a_bound_input(), a_bound_input("slow", 2, 240, trades=False))
    a_run(Slow, {"main": RISING, "slow": slow}, inputs=inputs)
    known = {(at - START) // MINUTE: value for at, value in said}
    assert np.isnan(known[3])
    assert [known[minute] for minute in (4, 7, 8, 11, 12)] == [1.0, 1.0, 2.0, 2.0, 3.0]


def test_a_feature_of_another_input_must_say_so():
    class Wrong(BaseStrategy):
        slow = series(trades=False)

        def features(self, bars):
            return {"trend": sma(bars["slow"].close, 1)}

        def generate_signal(self, now):
            return None

    inputs = (a_bound_input(), a_bound_input("slow", 2, 240, trades=False))
    with pytest.raises(
        ValueError, match=r"feature 'trend' has 3 rows, its input 'main' has 12.*\.on\(key\)"
    ):
        a_run(
            Wrong, {"main": RISING, "slow": bars_of([1.0, 2.0, 3.0], interval=240)}, inputs=inputs
        )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (np.ones((12, 2)), r"target has shape \(12, 2\)"),
        (np.ones(5), r"target has shape \(5, 1\)"),
        (np.full(12, np.inf), "target holds an infinite value"),
    ],
)
def test_nonsense_signals_are_refused_with_what_they_should_be(said, message):
    class Nonsense(BaseStrategy):
        def generate_signals(self, f):
            return Signals(said)

    with pytest.raises(BadSignal, match=message):
        a_run(Nonsense, RISING)


def test_a_signal_for_something_it_does_not_trade_is_refused():
    class Elsewhere(BaseStrategy):
        def generate_signal(self, now):
            return Signal("GOLD", 1.0)

    with pytest.raises(BadSignal, match="signal for 'GOLD', which this strategy does not trade"):
        a_run(Elsewhere, RISING)


def test_volatility_sizing_waits_until_the_volatility_is_known():
    sizing = Sizing("volatility", annual_volatility=0.1, window=5)
    outcome = a_run(scripted([1, N, 0, N, N, N, N, 1, N, N, N, N]), a_market(12, 3), sizing=sizing)
    assert outcomes(outcome) == ["nothing", "ordered"]
    assert outcome.record.decisions[0].reason == "the instrument's volatility is not known yet"


def test_a_band_rebalances_a_drifted_position():
    bars = bars_of([100, 100, 100, 150, 150, 150, 150, 150], spread=0.001)
    without = a_run(scripted([0.5] * 8), bars, sizing=Sizing("fraction"))
    banded = a_run(scripted([0.5] * 8), bars, sizing=Sizing("fraction", band=0.05))
    assert [f[0] for f in fills(without)] == ["buy"]
    assert [f[0] for f in fills(banded)] == ["buy", "sell"]


@pytest.mark.parametrize(
    ("sizing", "sides"),
    [
        # of 120,000 then 50 % is held and 33 % wanted: within the band, and beyond it
        (Sizing("value", value=40_000, band=0.2), ["buy"]),
        (Sizing("value", value=40_000, band=0.1), ["buy", "sell"]),
        # units are what they were, whatever they are worth
        (Sizing("quantity", quantity=400, band=0.01), ["buy"]),
    ],
)
def test_a_band_is_around_what_the_sizing_wants(sizing, sides):
    bars = bars_of([100, 100, 100, 150, 150, 150, 150, 150], spread=0.001)
    found = a_run(scripted([1] * 8), bars, sizing=sizing, capital=100_000.0)
    assert [f[0] for f in fills(found)] == sides
    assert len(found.record.decisions) == len(sides)


def test_a_band_around_more_than_the_account_can_hold_is_not_left_for_ever():
    bars = bars_of([100.0] * 5 + [80.0] * 40, spread=0.001)
    for sizing in (
        Sizing("value", value=1_000, band=0.05),
        Sizing("quantity", quantity=20, band=0.05),
    ):
        found = a_run(scripted([1] * 45), bars, sizing=sizing, capital=1_000.0, costs=Costs(0.001))
        assert len(found.record.decisions) == 1
    short = a_run(scripted([-0.5] * 12), FLAT, sizing=Sizing("fraction", band=0.05))
    assert len(short.record.decisions) == 1


def test_a_band_around_a_volatility_is_left_when_the_volatility_has_changed():
    rng = np.random.default_rng(4)
    calm, wild = (
        np.exp(rng.normal(0, 0.0001, 60).cumsum()),
        np.exp(rng.normal(0, 0.002, 60).cumsum()),
    )
    closes = 100 * np.concatenate([calm, calm[-1] * wild])
    sizing = Sizing("volatility", annual_volatility=0.05, window=20, band=0.3)
    found = a_run(
        scripted([N] * 30 + [1] * 90), bars_of(list(closes), spread=0.0001), sizing=sizing
    )
    decided = [d.decided_at for d in found.record.decisions if d.outcome == "ordered"]
    assert 2 <= len(decided) <= 6  # the first, and what the change asks for; not every bar
    assert decided[1] > START + 60 * MINUTE


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, N]), min_size=40, max_size=40),
    st.integers(0, 10),
    st.integers(5, 35),
)
def test_the_future_cannot_change_the_past(targets, seed, now):
    """Promise 7: cutting the future off leaves every earlier fill and decision as it was."""
    exits = (StopLoss(fraction=0.02), TakeProfit(fraction=0.03), TimeExit(bars=6))
    bars = a_market(40, seed)
    whole = a_run(scripted(targets, exits), bars)
    cut = a_run(scripted(targets[:now], exits), bars[:now])
    end = bars.bar(now - 1).closed_at
    earlier = [f for f in whole.record.fills if f.fill.at < end]
    assert [
        (f.fill.at, f.fill.price, f.fill.quantity) for f in cut.record.fills if f.fill.at < end
    ] == [(f.fill.at, f.fill.price, f.fill.quantity) for f in earlier]
    assert np.array_equal(whole.record.equity[: now - 1], cut.record.equity[: now - 1])


@given(st.lists(st.sampled_from([0.0, 0.3, 1.0, N]), min_size=60, max_size=60), st.integers(0, 10))
def test_books_agree_with_fills_whatever_is_traded(targets, seed):
    exits = (StopLoss(fraction=0.01), TrailingStop(fraction=0.015), TimeExit(bars=9))
    outcome = a_run(
        scripted(targets, exits),
        a_market(60, seed),
        costs=Costs(0.001, 0.0005),
        sizing=Sizing("fraction"),
    )
    cash = 100_000.0
    held = 0.0
    for booked in outcome.record.fills:
        fill = booked.fill
        cash -= fill.side.sign * fill.quantity * fill.price + fill.fee
        held += fill.side.sign * fill.quantity
    assert outcome.core.portfolio.cash == pytest.approx(cash, abs=1e-6)
    assert outcome.core.portfolio.position(RESEARCH_STRATEGY, 1).quantity == pytest.approx(
        held, abs=1e-9
    )
    assert held >= -1e-9
    assert outcome.record.broken == []
    working = [o for o in outcome.core.orders.values() if o.state is OrderState.WORKING]
    if abs(held) < 1e-12:  # nothing held, nothing left that protects it
        assert [o for o in working if o.request.leg.is_protective] == []


def test_standings_survive_json():
    standing = Standing(target=1.0, before=0.5, age=3, time_exit=7)
    back = Standing.from_json(standing.as_json())
    assert np.isnan(back.asked)
    assert structs.replace(back, asked=0.0) == structs.replace(standing, asked=0.0)


def test_a_refused_decision_leaves_the_strategy_where_it_stood():
    outcome = a_run(scripted([N] * 12), RISING)
    core, run_ = outcome.core, outcome.core.runs[RESEARCH_STRATEGY]
    run_.evaluation.target[5, 0] = 1.0
    run_.row = 5
    [action] = core.on_moment(START + 6 * MINUTE, [run_])
    assert isinstance(action, Decide)
    assert run_.standings[1].target == 1.0
    refused = core.refused(action.decision, "halted")
    assert (refused.outcome, refused.reason, refused.requests) == (Outcome.REFUSED, "halted", ())
    assert run_.standings[1].target == 0.0
    assert core.orders == {}
