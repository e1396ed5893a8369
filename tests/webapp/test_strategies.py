"""The strategy pages: lists, forms made from the catalogue, and what they send."""

from decimal import Decimal

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.messages import CreateStrategy, EditStrategy, decode
from tests.webapp.test_commands import a_form
from tests.webapp.world import NOON, a_filled_order, a_strategy, a_type, an_account, an_instrument
from webapp import fields


def only_command(rows):
    rows.rollback()
    row = rows.scalars(sa.select(CommandRow)).one()
    return decode(row.kind, row.arguments)


def test_the_list_shows_what_each_strategy_earned_after_fees(trader, world):
    page = trader.get("/strategies/").text
    assert "BTC dips" in page
    assert "BTC/USD 1m" in page
    assert "+4.95" in page  # bought 0.5 at 100, marked at 110, fee 0.05


def test_strategies_of_other_accounts_are_not_mixed_in(trader, world, rows):
    other = an_account(rows, "other")
    a_strategy(rows, other, world.btc, "Somewhere else")
    rows.commit()
    assert "Somewhere else" not in trader.get("/strategies/").text
    trader.post("/account", data={"account": other.id})
    assert "Somewhere else" in trader.get("/strategies/").text


def test_a_broken_file_is_shown_with_its_traceback_and_cannot_be_used(trader, world, rows):
    a_type(rows, "my_idea", error="Traceback (most recent call last)\nNameError: name 'x'")
    rows.commit()
    page = trader.get("/strategies/").text
    assert "NameError: name &#39;x&#39;" in page
    assert "Traceback (most recent call last)" in page
    assert "/strategies/new?type=my_idea" not in page
    assert "Which type?" in trader.get("/strategies/new?type=my_idea").text


def test_the_form_offers_the_accounts_own_instruments_and_the_schemas_bounds(trader, world, rows):
    an_instrument(rows, "AAPL", venue="replay")
    rows.commit()
    page = trader.get("/strategies/new?type=rsi_reversion").text
    assert "BTC/USD</option>" in page
    assert "AAPL" not in page
    assert "Bars looked at (2 or more, up to 200)." in page
    assert '<option value="cutler">cutler</option>' in page
    assert 'value="BTC/USD rsi reversion"' in page


def test_a_suggested_name_is_never_taken(trader, world, rows):
    a_strategy(rows, world.account, world.btc, "BTC/USD rsi reversion")
    rows.commit()
    page = trader.get("/strategies/new?type=rsi_reversion").text
    assert 'value="BTC/USD rsi reversion 2"' in page


def test_the_form_asks_for_exactly_what_was_typed(trader, world, rows):
    trader.post(
        "/strategies/new",
        data=a_form(world, **{"p.window": "20", "p.both_sides": "yes", "sizing.band": "5"}),
    )
    assert only_command(rows) == CreateStrategy(
        name="ETH dips",
        type="rsi_reversion",
        account_id=world.account.id,
        parameters={"window": 20, "threshold": 30.0, "average": "wilder", "both_sides": True},
        inputs={"main": {"instrument_id": world.eth.id, "interval": 60, "trades": True}},
        allocation="45",
        sizing={"method": "fraction", "fraction": 1.0, "band": 0.05},
        start=True,
    )


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "   ", "nothing is not a name"),
        ("allocation", "-5", "-5 is not above 0"),
        ("allocation", "plenty", "plenty is not an amount"),
        ("p.window", "1", "1 is out of bounds: enter at least 2"),
        ("p.window", "3.5", "3.5 is not a whole number"),
        ("p.threshold", "100", "100 is out of bounds: enter less than 100"),
        ("p.threshold", "nan", "nan is not a finite number"),
        ("p.average", "other", "other is no choice: wilder, cutler"),
        ("in.main.instrument", "", "choose an instrument"),
        ("sizing.fraction", "120", "120 is not a share: more than 0, up to 100 %"),
        ("sizing.method", "guess", "guess is no way to size"),
        ("sizing.band", "x", "x is not a number"),
    ],
)
def test_what_cannot_be_is_refused_with_field_value_and_remedy_and_nothing_is_asked(
    trader, world, rows, field, value, sentence
):
    answer = trader.post("/strategies/new", data=a_form(world, **{field: value}))
    assert answer.status_code == 400
    assert sentence in answer.text.replace("&#39;", "'")
    assert rows.scalar(sa.select(sa.func.count()).select_from(CommandRow)) == 0
    if value.strip() and not field.startswith(("in.", "p.average", "sizing.method")):
        assert f'value="{value}"' in answer.text


@pytest.mark.parametrize(
    ("given", "sizing"),
    [
        ({"sizing.method": "cash", "sizing.fraction": "50"}, {"method": "cash", "fraction": 0.5}),
        ({"sizing.method": "quantity", "sizing.quantity": "0.5"}, {"method": "quantity", "quantity": "0.5"}),
        ({"sizing.method": "value", "sizing.value": "1 000"}, {"method": "value", "value": "1000"}),
        (
            {"sizing.method": "volatility", "sizing.annual_volatility": "20", "sizing.window": "30"},
            {"method": "volatility", "annual_volatility": 0.2, "window": 30},
        ),
    ],
)  # fmt: skip
def test_each_way_to_size_sends_its_own_settings_only(given, sizing):
    form = fields.read_sizing(given)
    assert form.problems == {}
    assert form.values == sizing


@pytest.mark.parametrize(
    ("allocation", "sentence"),
    [
        ("40.20", "= 4.0\N{NO-BREAK SPACE}% of equity; the rule allows 5.0\N{NO-BREAK SPACE}%"),
        ("500", "so a full entry would be denied"),
        ("x", "x is not an amount"),
    ],
)
def test_the_allocation_says_what_it_means_while_it_is_typed(trader, world, allocation, sentence):
    assert sentence in trader.get(f"/strategies/preview?allocation={allocation}").text


def test_the_page_of_a_strategy_shows_its_position_settings_and_reasons(trader, world):
    page = trader.get(f"/strategies/{world.strategy.id}").text
    assert "RSI 24.1 below 30" in page
    assert "concentration: instrument of equity 20.80%" in page
    assert f'data-url="/charts/candles/{world.btc.id}.json' in page
    assert "Stop and close" in page


def test_a_viewer_sees_everything_and_no_button_that_acts(viewer, world):
    page = viewer.get(f"/strategies/{world.strategy.id}").text
    assert "RSI 24.1 below 30" in page
    assert "Stop and close" not in page
    assert "/edit" not in page


def test_stopping_and_closing_says_so_to_the_engine(trader, world, rows):
    trader.post(f"/strategies/{world.strategy.id}/stop", data={"flatten": "yes"})
    assert only_command(rows).flatten is True


def test_editing_starts_from_what_is_set_and_sends_all_of_it(trader, world, rows):
    page = trader.get(f"/strategies/{world.strategy.id}/edit").text
    assert 'name="p.window" type="text" value="14"' in page
    assert "Changes take effect when it is stopped and started again" in page
    trader.post(
        f"/strategies/{world.strategy.id}/edit",
        data={
            "p.window": "21", "p.threshold": "25", "p.average": "cutler", "allocation": "150",
            "sizing.method": "fraction", "sizing.fraction": "100",
        },
    )  # fmt: skip
    assert only_command(rows) == EditStrategy(
        strategy_id=world.strategy.id,
        parameters={"window": 21, "threshold": 25.0, "average": "cutler", "both_sides": False},
        allocation="150",
        sizing={"method": "fraction", "fraction": 1.0},
    )


def test_a_changed_file_is_pointed_out_until_its_code_is_taken(trader, world, rows):
    world.strategy.code_hash = a_type(rows, "older").code_hash
    rows.commit()
    assert "Its file has changed" in trader.get(f"/strategies/{world.strategy.id}").text


def test_what_a_strategy_earned_counts_realised_unrealised_and_fees(trader, world, rows):
    a_filled_order(
        rows, world.account, world.strategy, world.btc, at=NOON, side="sell", realised="7"
    )
    rows.commit()
    expected = Decimal(7) + 5 - Decimal("0.10")
    assert f"+{expected:.2f}" in trader.get(f"/strategies/{world.strategy.id}/numbers").text
