"""From a target to a quantity: every method, every rounding, every reason for nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sizing import BadSizing, Facts, Sizing, lots, size
from tests.builders import an_instrument

X = an_instrument()
LOTS = an_instrument(lot_size=Decimal("0.001"), min_value=Decimal(5))


def facts(**changed):
    given_ = {
        "price": 100.0,
        "equity": 10_000.0,
        "cash": 10_000.0,
        "held": 0.0,
        "volatility": 0.4,
        "cost_rate": 0.0,
    }
    return Facts(**{**given_, **changed})


@pytest.mark.parametrize(
    ("sizing", "target", "change"),
    [
        (Sizing("fraction", 0.5), 1.0, 50.0),
        (Sizing("fraction", 1.0), 0.25, 25.0),
        (Sizing("quantity", quantity=3.0), 1.0, 3.0),
        (Sizing("value", value=700.0), 1.0, 7.0),
        (Sizing("volatility", annual_volatility=0.2), 1.0, 50.0),
        (Sizing("volatility", annual_volatility=0.9), 1.0, 100.0),
    ],
)
def test_each_method_wants_what_it_says(sizing, target, change):
    assert size(target, sizing, facts(), X).change == pytest.approx(change)


def test_cash_sizing_is_a_value_to_spend_so_that_costs_fit_in():
    sized = size(1.0, Sizing("cash", 1.0), facts(cash=9000.0), X)
    assert (sized.change, sized.value) == (0.0, 9000.0)


def test_a_position_is_changed_by_the_difference():
    assert size(1.0, Sizing(), facts(held=40.0), X).change == pytest.approx(60.0)
    assert size(0.2, Sizing(), facts(held=40.0), X).change == pytest.approx(-20.0)


def test_a_target_of_zero_sells_exactly_what_is_held():
    held = 12.345678901234567
    assert size(0.0, Sizing(), facts(held=held), LOTS).change == -held


def test_what_cash_does_not_cover_is_cut_with_costs_counted():
    sized = size(1.0, Sizing(), facts(cash=5000.0, cost_rate=0.25), X)
    assert sized.change == pytest.approx(40.0)
    assert [step.name for step in sized.steps] == ["target", "change", "cash"]


def test_short_targets_are_cut_to_flat_and_say_so():
    sized = size(-1.0, Sizing(), facts(held=5.0), X)
    assert sized.change == -5.0
    assert sized.steps[0].name == "short"


@pytest.mark.parametrize(
    ("instrument", "given_", "reason"),
    [
        (LOTS, {"price": 20_000_000.0}, "nothing is left after rounding to lots"),
        (LOTS, {"equity": 4.0}, "under the venue's minimum value 5"),
        (an_instrument(min_quantity=Decimal(200)), {}, "under the venue's minimum quantity 200"),
        (X, {"volatility": None}, "volatility is not known yet"),
    ],
)
def test_too_little_is_nothing_with_a_reason(instrument, given_, reason):
    sizing = Sizing("volatility") if "volatility" in given_ else Sizing()
    sized = size(1.0, sizing, facts(**given_), instrument)
    assert (sized.change, sized.value) == (0.0, 0.0)
    assert reason in sized.reason


@pytest.mark.parametrize(("method", "held"), [("cash", 0.0), ("fraction", 99.0)])
def test_what_rounding_left_of_money_that_was_all_spent_buys_nothing(method, held):
    spent = size(1.0, Sizing(method), facts(cash=1e-12, held=held), X)
    assert (spent.change, spent.value) == (0.0, 0.0)
    left = size(1.0, Sizing(method), facts(cash=1e-2, held=held), X)
    assert left.change * 100 + left.value == pytest.approx(1e-2)


def test_what_rounding_makes_of_a_target_that_is_met_is_no_order():
    """The change would be some 1e-14 units, and cost the least fee."""
    sizing = Sizing("quantity", quantity=9.6)
    met = size(1.0, sizing, facts(price=105.98, held=9.6 * (1 - 1e-15)), X)
    assert (met.change, met.value, met.is_met) == (0.0, 0.0, True)
    more = size(1.0, sizing, facts(price=105.98, held=9.6 * (1 - 1e-6)), X)
    assert more.change == pytest.approx(9.6e-6, rel=1e-3)


def test_float_noise_loses_no_lot():
    assert lots(0.3, 0.1) == 3
    assert lots(0.29999, 0.1) == 2


@given(
    st.floats(0.01, 1.0), st.floats(0.01, 1e6), st.floats(1.0, 1e9), st.floats(0.0, 1e9),
    st.sampled_from(["fraction", "value", "volatility", "cash"]),
)  # fmt: skip
def test_a_buy_never_costs_more_than_the_cash(target, price, equity, cash, method):
    sizing = Sizing(method, value=equity)
    sized = size(
        target, sizing, facts(price=price, equity=equity, cash=cash, cost_rate=0.002), LOTS
    )
    cost = sized.change * price * 1.002 + sized.value
    assert cost <= cash * (1 + 1e-9) + 1e-9 * price


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"method": "luck"}, "method: 'luck' is not one of"),
        ({"method": "value"}, "value: give a number above 0"),
        ({"method": "quantity", "quantity": "-1"}, "quantity: '-1' must be above 0"),
        ({"fraction": "1.5"}, "fraction: '1.5' must be above 0 and at most 1"),
        ({"fraction": "much"}, "fraction: 'much' is not a number"),
        ({"fraction": "nan"}, "fraction: 'nan' must be above 0"),
        ({"window": 1, "method": "volatility"}, "window: 1 bars; give 2 to 500"),
        ({"amount": 1}, "amount is no setting"),
    ],
)
def test_a_wrong_setting_names_field_value_and_remedy(given_, message):
    with pytest.raises(BadSizing, match=message.replace("(", r"\(")):
        Sizing.from_json(given_)
