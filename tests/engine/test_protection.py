"""Whatever happens to entries and exits, what is held stays protected, and nothing is sold twice."""

from __future__ import annotations

from decimal import Decimal

import pytest

from engine.backtest.replay import settle
from engine.costs import Costs
from engine.sizing import Sizing
from engine.strategies.evaluation import BadSignal
from shared.domain.identity import RESEARCH_STRATEGY
from shared.domain.signals import (
    Limit,
    Signal,
    Stop,
    StopLoss,
    TakeProfit,
    TimeExit,
    TrailingStop,
)
from tests.builders import an_instrument, bars_of, ohlc
from tests.engine.scripts import N, Played, a_run, fills, held, outcomes, scripted, told

FLAT = ohlc([100] * 8, [101] * 8, [99] * 8, [100] * 8)
CRASH = ohlc([100] * 4 + [50] * 4, [101] * 4 + [51] * 4, [99] * 4 + [49] * 4, [100] * 4 + [50] * 4)
STOP = (StopLoss(fraction=0.05),)


@pytest.mark.parametrize("entry", [Stop(110.0), Limit(40.0)])
def test_a_stop_loss_stands_while_an_entry_that_adds_waits(entry):
    outcome = a_run(
        told({0: Signal("X1", 0.5, exits=STOP), 2: Signal("X1", 1.0, entry, STOP)}), CRASH
    )
    assert held(outcome) == 0
    assert fills(outcome)[1][4] == "stop_loss"


def test_an_addition_that_fills_after_the_stop_protects_what_is_held_then_and_no_more():
    outcome = a_run(
        told({0: Signal("X1", 0.5, exits=STOP), 2: Signal("X1", 1.0, Limit(50.0), STOP)}), CRASH
    )
    bought = [f for f in fills(outcome) if f[0] == "buy"]
    sold = [f for f in fills(outcome) if f[0] == "sell"]
    assert [f[1] for f in bought] == [0.5, 0.5]
    assert sum(f[1] for f in sold) <= 1.0
    assert held(outcome) >= 0


def test_a_rejected_addition_leaves_the_stop_loss_of_what_is_held():
    bars = ohlc(
        [100] * 3 + [200] + [50] * 4, [101] * 3 + [201] + [51] * 4,
        [99] * 3 + [199] + [49] * 4, [100] * 3 + [200] + [50] * 4,
    )  # fmt: skip
    script = {0: Signal("X1", 0.5, exits=STOP), 2: Signal("X1", 1.0, exits=STOP)}
    outcome = a_run(
        told(script), bars, capital=100_001.0, sizing=Sizing("quantity", quantity=1000.0),
        instruments={1: an_instrument(1, lot_size=Decimal(500))},
    )  # fmt: skip
    assert [f[4] for f in fills(outcome)] == ["entry", "stop_loss"]


def test_an_addition_moves_the_protection_to_all_that_is_held():
    bars = ohlc([100] * 8, [101] * 8, [99, 99, 99, 99, 99, 90, 99, 99], [100] * 8)
    outcome = a_run(scripted([0.5, N, 1.0, N, N, N, N, N], STOP), bars)
    assert fills(outcome)[-1][:3] == ("sell", 1.0, 95.0)
    assert outcome.core.orders == {}


@pytest.mark.parametrize("exits", [(), STOP])
def test_taking_half_off_keeps_the_stop_of_the_rest(exits):
    script = {0: Signal("X1", 1.0, exits=STOP), 2: Signal("X1", 0.5, exits=exits)}
    outcome = a_run(told(script), CRASH)
    assert [f[1] for f in fills(outcome)] == [1.0, 0.5, 0.5]
    assert held(outcome) == 0


def test_a_trailing_stop_stays_where_it_trailed_when_half_is_sold():
    bars = ohlc(
        [100, 100, 150, 200, 150, 150], [101, 150, 200, 200, 152, 151],
        [99, 100, 150, 194, 148, 149], [100, 150, 200, 195, 150, 150],
    )  # fmt: skip
    trail = (TrailingStop(distance=10.0),)
    outcome = a_run(
        told({0: Signal("X1", 1.0, exits=trail), 3: Signal("X1", 0.5, exits=trail)}), bars
    )
    assert {f[2] for f in fills(outcome)[1:]} == {150.0}
    assert held(outcome) == 0


def test_stopping_keeps_protection_and_exits_and_cancels_entries():
    adding = {0: Signal("X1", 0.5, exits=STOP), 2: Signal("X1", 1.0, Limit(90.0), STOP)}
    leaving = {0: Signal("X1", 1.0, exits=STOP), 3: Signal("X1", 0.0)}
    for script, left in ((adding, ["stop_loss"]), (leaving, ["exit", "stop_loss"])):
        played = Played(told(script), FLAT, 4)
        actions = played.core.stop(RESEARCH_STRATEGY, played.at, flatten=False, because="stopped")
        settle(played.core, played.broker, actions, played.at, played.record)
        assert played.legs() == left


def test_an_exit_and_its_stop_never_sell_the_same_twice():
    bars = ohlc(
        [100] * 4 + [50] * 4, [101] * 4 + [51] * 4, [99] * 4 + [49] * 4, [100] * 4 + [50] * 4
    )
    outcome = a_run(told({0: Signal("X1", 1.0, exits=STOP), 3: Signal("X1", 0.0)}), bars)
    assert [f[:3] for f in fills(outcome)] == [("buy", 1.0, 100.0), ("sell", 1.0, 50.0)]
    assert outcome.core.orders == {}


@pytest.mark.parametrize("target", [0.5, 2.0])
def test_a_position_changed_in_the_moment_of_its_time_exit_can_still_be_closed(target):
    script = {
        0: Signal("X1", 1.0, exits=(TimeExit(3),)),
        3: Signal("X1", target),
        6: Signal("X1", 0.0),
    }
    assert held(a_run(told(script), bars_of([100.0] * 12, spread=0.001))) == 0


def test_an_entry_without_a_known_stop_is_not_made():
    outcome = a_run(scripted([N, 1.0] + [N] * 6, (StopLoss(distance=N),)), FLAT)
    assert outcomes(outcome) == ["nothing"]
    assert outcome.record.decisions[0].reason == "the distance of its StopLoss is not known yet"


@pytest.mark.parametrize(
    ("exit_", "message"),
    [
        (StopLoss(fraction=-0.05), "StopLoss: fraction -0.05 must be above 0"),
        (TakeProfit(distance=0.0), "TakeProfit: distance 0 must be above 0"),
        (TrailingStop(), "TrailingStop has neither fraction nor distance"),
    ],
)
def test_an_exit_that_cannot_be_is_told_to_its_author(exit_, message):
    with pytest.raises(BadSignal, match=message):
        a_run(scripted([N, 1.0] + [N] * 6, (exit_,)), FLAT)


def test_a_trailing_stop_of_a_limit_entry_does_not_trail_the_high_before_the_entry():
    bars = ohlc([108, 108, 96, 96], [110, 110, 97, 97], [107, 94, 95, 95], [108, 96, 96, 96])
    script = {0: Signal("X1", 1.0, Limit(95.0), (TrailingStop(distance=5.0),))}
    assert [f[0] for f in fills(a_run(told(script), bars))] == ["buy"]


def test_a_stop_never_fills_at_a_price_the_bar_never_saw():
    wide = a_run(
        scripted([N, 1.0] + [N] * 6, (StopLoss(fraction=0.001),)),
        bars_of([100.0] * 8),
        costs=Costs(0.0, 0.01),
    )
    for booked in wide.record.fills:
        raw = booked.fill.price / (1.01 if booked.fill.side.sign > 0 else 0.99)
        assert raw == pytest.approx(100.0)
