"""Selling short, owing money, and what becomes of those who owe too much."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from engine.backtest.simulation import fills_of
from engine.backtest.specification import run
from engine.backtest.trades import round_trips
from engine.costs import Costs
from engine.margin import BadMargin, Margin
from engine.portfolio import Portfolio, decimal_number
from engine.risk.rules import OFF, MaxPositions
from engine.sizing import Facts, Sizing, size
from shared.domain.decisions import Check
from shared.domain.orders import Fill, Side
from shared.domain.positions import Position
from shared.domain.signals import Signal, StopLoss, TakeProfit
from tests.builders import START, a_bound_input, a_market, an_instrument, bars_of
from tests.engine.scripts import (
    MINUTE,
    RESEARCH_STRATEGY,
    Played,
    a_run,
    a_specification,
    fills,
    held,
    outcomes,
    scripted,
    told,
)

MARGIN = Margin(enabled=True, leverage=2.0)
NAN = np.nan


def test_a_short_gains_when_the_price_falls():
    outcome = a_run(
        scripted([-1, NAN, NAN, 0, NAN]), bars_of([100, 100, 90, 80, 80]), margin=MARGIN
    )
    assert fills(outcome) == [
        ("sell", 1.0, 100.0, 1, "entry"),
        ("buy", 1.0, 80.0, 4, "exit"),
    ]
    assert outcome.core.portfolio.cash == 100_020.0
    assert outcome.record.equity[-1] == 100_020.0
    assert outcome.record.equity[2] == 100_010.0, "marked while it is held"


def test_without_margin_a_short_target_is_flat():
    outcome = a_run(scripted([-1, NAN]), bars_of([100, 100]))
    assert fills(outcome) == []
    assert "trades long only" in outcome.record.decisions[0].steps[0].text


def test_on_the_way_to_the_other_side_one_order_closes_and_one_opens():
    bars = bars_of([100, 100, 110, 105])
    outcome = a_run(scripted([1, -1, 1, NAN]), bars, margin=MARGIN)
    assert fills(outcome) == [
        ("buy", 1.0, 100.0, 1, "entry"),
        ("sell", 1.0, 100.0, 2, "exit"),
        ("sell", 1.0, 100.0, 2, "entry"),
        ("buy", 1.0, 110.0, 3, "exit"),
        ("buy", 1.0, 110.0, 3, "entry"),
    ]
    assert held(outcome) == 1.0
    trips = round_trips(fills_of(outcome.record), {1: bars})
    assert [trips.side[:2].tolist(), trips.pnl[:2].tolist()] == [[1, -1], [0.0, -10.0]]


def test_a_turn_that_a_halt_refused_is_asked_again_when_trading_resumes():
    script = {0: Signal("X1", 1.0), **{row: Signal("X1", -1.0) for row in range(3, 8)}}
    played = Played(told(script), bars_of([100.0] * 8), 3, margin=MARGIN)
    [decide] = played.row(3)
    assert len(decide.decision.requests) == 2
    played.core.refused(decide.decision, "halted")
    assert played.standing.target == 1.0
    assert played.row(4) == []
    played.core.ask_exits_again()
    [decide] = played.row(5)
    assert [request.leg.value for request in decide.decision.requests] == ["exit", "entry"]


def test_after_a_crash_beside_a_refusal_a_short_is_left_as_one():
    played = Played(told({0: Signal("X1", -1.0)}), bars_of([100.0] * 8), 3, margin=MARGIN)
    played.standing.target = 0.0  # what was saved before the refusal
    played.core.agree(played.run)
    assert played.standing.target == -1.0


def test_the_stop_of_a_short_lies_above_and_its_target_below():
    exits = (StopLoss(fraction=0.05), TakeProfit(fraction=0.1))
    up = a_run(
        told({0: Signal("X1", -1.0, exits=exits)}), bars_of([100, 100, 106, 100]), margin=MARGIN
    )
    assert fills(up)[1] == ("buy", 1.0, 105.0, 3, "stop_loss")
    down = a_run(
        told({0: Signal("X1", -1.0, exits=exits)}), bars_of([100, 100, 88, 100]), margin=MARGIN
    )
    assert fills(down)[1] == ("buy", 1.0, 90.0, 3, "take_profit")
    for outcome in (up, down):
        assert held(outcome) == 0
        assert outcome.core.runs[RESEARCH_STRATEGY].standings[1].target == 0


def test_a_flip_ends_the_old_protection_and_brings_the_new():
    outcome = a_run(
        told({
            0: Signal("X1", 1.0, exits=(StopLoss(fraction=0.1),)),
            2: Signal("X1", -1.0, exits=(StopLoss(fraction=0.1),)),
        }),
        bars_of([100, 100, 100, 100, 112, 100]),
        margin=MARGIN,
    )  # fmt: skip
    assert [f[0] + " " + f[4] for f in fills(outcome)] == [
        "buy entry", "sell exit", "sell entry", "buy stop_loss",
    ]  # fmt: skip
    assert outcome.record.broken == []
    assert outcome.core.orders == {}


def test_leverage_limits_what_is_held_long_and_short():
    for target in (1.0, -1.0):
        outcome = a_run(
            scripted([target, NAN]), bars_of([100, 100]),
            sizing=Sizing("quantity", quantity=5_000.0), margin=MARGIN,
        )  # fmt: skip
        assert held(outcome) == pytest.approx(target * 2_000), "twice 100,000 at 100"


def test_all_in_short_spends_free_margin():
    outcome = a_run(
        scripted([-1, NAN]), bars_of([100, 100]), sizing=Sizing("cash"), margin=Margin(enabled=True)
    )
    assert held(outcome) == pytest.approx(-1000)


def test_borrow_is_charged_for_every_day_and_lowers_the_position_s_gain():
    day = bars_of([100.0] * 5, interval=86_400)
    margin = Margin(enabled=True, borrow_rate=0.365)
    outcome = a_run(
        scripted([-1, NAN, NAN, NAN, NAN]),
        day,
        margin=margin,
        sizing=Sizing("quantity", quantity=10.0),
    )
    charged = [entry for entry in outcome.record.ledger if entry.kind == "borrow"]
    # 10 units at 100, 0.1 % a day, for each of the four days it was held
    assert [round(entry.amount, 10) for entry in charged] == [1.0, 1.0, 1.0, 1.0]
    assert outcome.record.equity[-1] == pytest.approx(99_996.0)
    assert outcome.core.portfolio.position(RESEARCH_STRATEGY, 1).fees == pytest.approx(4.0)


def test_owed_money_bears_interest():
    day = bars_of([100.0] * 3, interval=86_400)
    margin = Margin(enabled=True, leverage=2.0, borrow_rate=0.365)
    outcome = a_run(
        scripted([1, NAN, NAN]), day, margin=margin, sizing=Sizing("quantity", quantity=1500.0)
    )
    charged = [entry.amount for entry in outcome.record.ledger if entry.kind == "interest"]
    assert charged == pytest.approx([50.0, 50.05]), "50,000 owed, 0.1 % a day, and on that too"


def test_a_margin_call_is_told_once_and_then_positions_are_closed():
    # short 2,000 at 100: 100,000 of equity are twice used; at 130 equity is 40,000 of 130,000 used
    closes = [100, 100, 111, 112, 130, 130, 130]
    outcome = a_run(
        scripted([-1] + [NAN] * 6), bars_of(closes), margin=MARGIN,
        sizing=Sizing("quantity", quantity=2_000.0),
    )  # fmt: skip
    assert [noted.kind for noted in outcome.record.noted] == ["margin.call"]
    assert "equity is" in outcome.record.noted[0].text
    liquidation = outcome.record.decisions[-1]
    assert liquidation.kind == "liquidation"
    assert liquidation.because == "equity fell to 31% of used margin"
    assert fills(outcome)[-1] == ("buy", 2000.0, 130.0, 5, "liquidation")
    assert held(outcome) == 0


def test_a_called_account_may_not_add():
    outcome = a_run(
        scripted([-1, NAN, NAN, -1.2, NAN]), bars_of([100, 100, 115, 115, 115]),
        margin=MARGIN, sizing=Sizing("quantity", quantity=1_900.0),
    )  # fmt: skip
    assert outcomes(outcome) == ["ordered", "nothing"]
    assert held(outcome) == -1_900


def test_used_margin_is_a_check_no_policy_switches_off():
    outcome = a_run(scripted([-1, NAN]), bars_of([100, 100]), margin=MARGIN)
    [check] = outcome.record.decisions[0].checks
    assert (check.rule, check.allowed) == ("margin", True)
    assert check.value == pytest.approx(100 / 2 / 100_000)


def test_shorts_and_longs_keep_the_books_exact_whatever_is_traded():
    random = np.random.Generator(np.random.PCG64(3))
    bars = a_market(400, seed=5)
    targets = random.choice([-1.0, -0.5, 0.0, 0.5, 1.0, NAN], 400)
    outcome = a_run(
        scripted(targets), bars, margin=Margin(enabled=True, leverage=1.5), costs=Costs(0.001),
        sizing=Sizing("fraction", fraction=0.9),
    )  # fmt: skip
    cash, quantity = 100_000.0, 0.0
    for side, amount, price, _, _ in fills(outcome):
        sign = 1 if side == "buy" else -1
        cash -= sign * amount * price + amount * price * 0.001
        quantity += sign * amount
    assert outcome.record.fills
    assert quantity == pytest.approx(held(outcome), abs=1e-9)
    assert cash + quantity * bars.close[-1] == pytest.approx(outcome.record.equity[-1], rel=1e-9)
    assert outcome.record.broken == []


def test_at_most_so_many_instruments_are_held():
    inputs = (a_bound_input(), a_bound_input("second", 2))
    strategy = told({0: [Signal("X1", 1.0)], 2: [Signal("X2", 1.0)]})
    bars = {"main": bars_of([100] * 5), "second": bars_of([50] * 5, instrument_id=2)}
    policy = replace(OFF, max_positions=MaxPositions(enabled=True, most=1))
    from engine.strategies.base import series

    class Two(strategy):
        second = series()

    outcome = run(a_specification(Two, bars, inputs=inputs, policy=policy))
    assert outcomes(outcome) == ["ordered", "denied"]
    [check] = outcome.record.decisions[1].checks
    assert check.text == "2 instruments held, over the limit 1"


def test_an_instrument_that_is_not_admitted_is_not_entered_and_can_always_be_left():
    def admits(instrument_id, at):
        allowed = at < START + 3 * MINUTE
        return Check("universe", allowed, float(allowed), 1.0, "", "asked")

    outcome = a_run(scripted([1, NAN, 0, NAN, 1, NAN]), bars_of([100] * 6), admits=admits)
    assert outcomes(outcome) == ["ordered", "ordered", "denied"]
    assert outcome.record.decisions[2].reason == "universe: asked"


def facts(**changed):
    given = {
        "price": 100.0, "equity": 1000.0, "cash": 1000.0, "held": 0.0, "volatility": None,
        "cost_rate": 0.0, "allow_short": True,
    }  # fmt: skip
    return Facts(**{**given, **changed})


@pytest.mark.parametrize(
    ("target", "held_", "lot", "change"),
    [
        (-1.0, 0.0, None, -10.0),
        (-1.0, 10.0, None, -20.0),
        (1.0, -10.0, None, 20.0),
        (-0.5, -10.0, None, 5.0),
        (0.0, -10.0, None, 10.0),
        (-1.0, 10.0, 3.0, -19.0),  # all of the 10 held, and three whole lots
        (-0.1, 10.0, 3.0, -10.0),  # too little for a lot on the other side
    ],
)
def test_sizing_to_either_side(target, held_, lot, change):
    instrument = an_instrument(lot_size=None if lot is None else Decimal(str(lot)))
    sized = size(target, Sizing(), facts(held=held_), instrument)
    assert sized.change == pytest.approx(change)


# Several currencies -----------------------------------------------------------------------


def a_portfolio():
    instruments = {
        1: an_instrument(1, base_asset="SAP", quote_asset="EUR"),
        2: an_instrument(2, base_asset="EUR", quote_asset="USD"),
        3: an_instrument(3, base_asset="USD", quote_asset="JPY"),
        4: an_instrument(4, base_asset="XYZ", quote_asset="QQQ"),
    }
    portfolio = Portfolio("USD", instruments, decimal_number, Decimal(1000))
    for instrument_id, mark in ((1, 200.0), (2, 1.25), (3, 160.0), (4, 5.0)):
        portfolio.mark(instrument_id, mark)
    return portfolio


@pytest.mark.parametrize(
    ("asset", "rate"),
    [("USD", "1"), ("EUR", "1.25"), ("SAP", "250"), ("JPY", "0.00625"), ("XYZ", None)],
)
def test_an_asset_is_worth_what_a_chain_of_prices_says(asset, rate):
    assert a_portfolio().rate(asset) == (None if rate is None else Decimal(rate))


def test_equity_holds_every_balance_at_its_rate():
    portfolio = a_portfolio()
    portfolio.balances |= {"EUR": Decimal(100), "JPY": Decimal(-1600), "SAP": Decimal(2)}
    assert portfolio.equity() == 1000 + 125 - 10 + 500
    portfolio.balances["XYZ"] = Decimal(1)
    assert portfolio.equity() is None, "no price leads from XYZ to USD"


def a_fill(**changed):
    given = {
        "client_order_id": None, "venue_fill_id": "a", "account_id": 1, "strategy_id": 1,
        "instrument_id": 1, "side": Side.BUY, "quantity": Decimal(2), "price": Decimal(200),
        "fee": Decimal(1), "fee_asset": "EUR", "at": START,
    }  # fmt: skip
    return Fill(**{**given, **changed})


@pytest.mark.parametrize(
    ("fee", "asset", "in_quote"),
    [("1", "EUR", "1"), ("0.01", "SAP", "2"), ("1.25", "USD", "1"), ("3", "XYZ", "0")],
)
def test_a_fee_in_any_asset_leaves_that_asset_and_counts_in_the_quote_asset(fee, asset, in_quote):
    portfolio = a_portfolio()
    portfolio.balances["EUR"] = Decimal(1000)
    before = portfolio.balance(asset)
    _, position, _ = portfolio.book(a_fill(fee=Decimal(fee), fee_asset=asset))
    assert position.fees == Decimal(in_quote)
    moved = {"EUR": -400, "SAP": 2}.get(asset, 0)
    assert portfolio.balance(asset) == before + moved - Decimal(fee)


def test_what_a_position_gains_in_another_currency_counts_at_its_rate():
    portfolio = a_portfolio()
    portfolio.restore(1, 1, Position(Decimal(2), Decimal(300)))
    assert portfolio.strategy_equity(1, Decimal(1000)) == 1000 + 100 * Decimal("1.25")
    assert portfolio.gross() == pytest.approx(500.0)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"leverage": "0.5"}, "leverage: '0.5' must be from 1 to 20"),
        ({"borrow_rate": "x"}, "borrow_rate: 'x' is not a number"),
        ({"enabled": "yes"}, "enabled: 'yes' is not true or false"),
        ({"call_level": 0.3}, "liquidation_level: 0.4 must be below the call level of 0.3"),
        ({"credit": 1}, "credit is no setting"),
    ],
)
def test_margin_that_cannot_be_is_refused(given, text):
    with pytest.raises(BadMargin, match=text):
        Margin.from_json(given)
