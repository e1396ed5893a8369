"""What a target does to what works and what is held, whatever came before it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from engine.actions import Cancel, Decide
from engine.backtest.replay import replay, settle
from engine.core import TradingCore
from engine.costs import Costs
from engine.execution.paper import PaperBroker
from engine.portfolio import Portfolio, float_number
from engine.risk.rules import OFF, Volatility
from engine.sizing import Sizing
from engine.standing import StrategyRun
from engine.strategies.base import BaseStrategy, series
from engine.strategies.evaluation import Window, needed_rows
from shared.domain.decisions import Outcome
from shared.domain.signals import Limit, Signal, TimeExit
from tests.builders import START, a_bound_input, a_market, an_instrument, bars_of, ohlc
from tests.engine.scripts import MINUTE, N, Played, a_run, fills, held, scripted, told

FLAT = ohlc([100] * 8, [101] * 8, [99] * 8, [100] * 8)
DIP = ohlc([100] * 8, [101] * 8, [99, 99, 99, 99, 90, 99, 99, 99], [100] * 8)


class Pair(BaseStrategy):
    """Decides every minute; trades X2, whose bars close every ten."""

    slow = series(help="traded")
    script: ClassVar[dict] = {}

    def generate_signal(self, now):
        target = self.script.get(now.row)
        return None if target is None else Signal("X2", target)


def a_pair(script, minutes=80):
    strategy = type("Scripted", (Pair,), {"script": script})
    inputs = (a_bound_input("main", 1), a_bound_input("slow", 2, 600))
    slow = bars_of([50.0] * (minutes // 10), instrument_id=2, interval=600)
    return a_run(strategy, {"main": bars_of([100.0] * minutes), "slow": slow}, inputs=inputs)


def test_a_limit_entry_ends_when_the_target_goes_back_to_flat():
    assert held(a_run(scripted([1, N, 0, 0, 0, 0, 0, 0], entry=Limit(95.0)), DIP)) == 0


def test_a_limit_addition_ends_when_the_target_is_what_is_held():
    script = {0: Signal("X1", 0.5), 2: Signal("X1", 1.0, Limit(95.0)), 3: Signal("X1", 0.5)}
    assert held(a_run(told(script), DIP)) == 0.5


def test_a_market_entry_that_still_waits_ends_when_the_target_goes_back_to_flat():
    assert fills(a_pair({13: 1.0, 15: 0.0})) == []


def test_an_exit_that_still_waits_ends_when_the_target_is_long_again():
    outcome = a_pair({13: 1.0, 33: 0.0, 35: 1.0})
    assert held(outcome, 2) == 1.0


def test_a_quiet_market_does_not_leave_a_position_nobody_wants():
    quiet = np.array([False, False, True, True, False, False, False, False])
    bars = replace(bars_of([100.0] * 8), filled=quiet)
    assert held(a_run(scripted([N, 1, 0, 0, 0, 0, 0, 0]), bars)) == 0


def test_entries_replaced_and_then_cancelled_leave_the_strategy_flat():
    script = {0: Signal("X1", 1.0, Limit(50.0)), 2: Signal("X1", 0.5, Limit(50.0))}
    played = Played(told(script), FLAT, 4)
    [order_id] = played.core.orders
    settle(played.core, played.broker, [Cancel(order_id)], played.at, played.record)
    assert played.standing.target == 0.0


def test_a_refused_exit_keeps_the_time_exit_and_is_asked_again_once_trading_resumes():
    script = {
        0: Signal("X1", 1.0, exits=(TimeExit(9),)),
        **{r: Signal("X1", 0.0) for r in range(3, 8)},
    }
    played = Played(told(script), FLAT, 3)
    [decide] = played.row(3)
    played.core.refused(decide.decision, "halted")
    assert (played.standing.target, played.standing.time_exit) == (1.0, 9)
    assert played.row(4) == []
    played.core.ask_exits_again()
    [decide] = played.row(5)
    assert (decide.decision.outcome, decide.decision.target) == (Outcome.ORDERED, 0.0)


def test_a_refused_entry_is_not_asked_again_when_trading_resumes():
    played = Played(told({r: Signal("X1", 1.0) for r in range(3, 8)}), FLAT, 3)
    [decide] = played.row(3)
    played.core.refused(decide.decision, "halted")
    played.core.ask_exits_again()
    assert played.row(4) == []


def test_after_a_crash_beside_a_refusal_the_exit_is_asked_again():
    played = Played(
        told({0: Signal("X1", 1.0), 3: Signal("X1", 0.0), 4: Signal("X1", 0.0)}), FLAT, 3
    )
    [decide] = played.row(3)
    for (
        request
    ) in decide.decision.requests:  # the rows say refused; the state saved before says flat
        del played.core.orders[request.client_order_id]
    played.core.agree(played.run)
    [decide] = played.row(4)
    assert isinstance(decide, Decide)
    assert decide.decision.outcome is Outcome.ORDERED


def two_strategies(entry):
    instruments = {1: an_instrument(1), 2: an_instrument(2)}
    portfolio = Portfolio("USD", instruments, float_number, 100_000.0)
    core = TradingCore(0, instruments, portfolio, OFF, Costs(0.0))
    broker = PaperBroker(instruments, Costs(0.0), float_number, portfolio)
    first, second = told({0: Signal("X1", 1.0, entry)}), told({2: Signal("X2", 1.0)})
    core.start(StrategyRun(1, "a", first({}, {}), (a_bound_input("main", 1),), 50_000.0, Sizing()))
    core.start(StrategyRun(2, "b", second({}, {}), (a_bound_input("main", 2),), 60_000.0, Sizing()))
    bars = {(i, 60): bars_of([100.0] * 8, instrument_id=i) for i in (1, 2)}
    replay(core, broker, bars)
    return portfolio


def test_a_waiting_order_of_another_strategy_takes_the_account_s_cash_but_not_my_allocation():
    portfolio = two_strategies(Limit(99.0))  # 500 at 99 wait, of the account's 100,000
    assert portfolio.position(2, 2).quantity == pytest.approx(505.0)


def test_live_keeps_the_bars_that_rules_and_sizing_read():
    policy = replace(OFF, volatility=Volatility(window=400, max_annual=100))
    strategy = told({})({}, {})
    rows = needed_rows(strategy, policy.window(), 451)
    window = Window(strategy, [a_bound_input()], {"main": a_market(700)}, rows)
    closes, _ = window.evaluate().recent(a_bound_input(), rows - 1, policy.window())
    assert len(closes) == policy.window()
    assert rows >= 451


def test_a_scalar_strategy_sees_no_row_after_now():
    seen = []

    class Peek(BaseStrategy):
        slow = series(trades=False)

        def features(self, bars):
            return {"close": bars["main"].close}

        def generate_signal(self, now):
            seen.append(
                (now.bars["main"].close[-1], now.columns["close"][-1], len(now.bars["slow"]))
            )

    inputs = (a_bound_input(), a_bound_input("slow", 2, 240, trades=False))
    bars = {
        "main": bars_of(np.arange(100.0, 112.0)),
        "slow": bars_of([1.0, 2.0, 3.0], interval=240),
    }
    a_run(Peek, bars, inputs=inputs)
    assert seen == [(100.0 + row, 100.0 + row, (row + 1) // 4) for row in range(12)]


def test_an_instrument_without_a_bar_yet_has_no_price_to_decide_on():
    class Early(BaseStrategy):
        other = series(help="starts later")

        def generate_signal(self, now):
            return Signal("X2", 1.0) if now.row == 2 else None

    late = bars_of([50.0, 51, 52, 999.0], instrument_id=2, start=START + 5 * MINUTE)
    inputs = (a_bound_input("main", 1), a_bound_input("other", 2))
    [decision] = a_run(
        Early, {"main": bars_of([100.0] * 12), "other": late}, inputs=inputs
    ).record.decisions
    assert (decision.outcome, decision.reason) == (Outcome.NOTHING, "no price is known")
