"""Stopping, resuming, and the limits."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import OrderRow, PositionRow, TradingStateRow
from shared.messages import EditRiskPolicy, ResumeTrading, StopTrading, decode
from tests.webapp.world import an_account
from webapp import risk_policy


def only_command(rows):
    rows.rollback()
    row = rows.scalars(sa.select(CommandRow)).one()
    return decode(row.kind, row.arguments)


def test_stop_stands_on_every_page(viewer, world):
    for path in ("/", "/markets/", "/books/orders", "/profile/", "/components", "/stop/"):
        assert '<a class="stop" href="/stop/">' in viewer.get(path).text


def test_the_page_says_first_what_stopping_will_do(trader, world):
    page = trader.get("/stop/").text
    assert "cancel <b>1 working order</b>" in page
    assert "Also close 1 position at the market" in page
    assert "BTC/USD 0.5" in page


def test_stopping_works_without_javascript_and_sends_what_was_ticked(trader, world, rows):
    answer = trader.post(
        "/stop/", data={"account": world.account.id, "flatten": "yes", "reason": "reading the news"}
    )
    assert answer.location == "/stop/"
    assert only_command(rows) == StopTrading(world.account.id, True, "reading the news")


def test_all_accounts_are_stopped_only_when_that_button_is_pressed(trader, world, rows):
    an_account(rows, "other")
    rows.commit()
    trader.post("/stop/", data={"account": "all"})
    assert only_command(rows) == StopTrading(None, False, "stopped from the console")


@pytest.mark.parametrize("account", ["", "99", "x"])
def test_a_stop_without_a_known_account_is_refused_rather_than_guessed(
    trader, world, rows, account
):
    assert trader.post("/stop/", data={"account": account}).status_code == 400
    assert rows.scalar(sa.select(sa.func.count()).select_from(CommandRow)) == 0


def test_resuming_lifts_on_one_account(trader, world, rows):
    trader.post("/stop/resume", data={"account": world.account.id})
    assert only_command(rows) == ResumeTrading(world.account.id, "resumed from the console")


def stopped(rows, world, **changed):
    given = {"state": "accepted", "result": None}
    rows.add(
        CommandRow(
            id=uuid4(), kind="StopTrading", actor="trader", expires_at=datetime.now(UTC),
            arguments={"account_id": world.account.id, "flatten": True, "reason": ""},
            **{**given, **changed},
        )
    )  # fmt: skip
    rows.commit()


def test_the_steps_show_what_is_done_and_what_is_still_waited_for(trader, world, rows):
    stopped(rows, world)
    rows.add(
        TradingStateRow(
            scope="account",
            scope_id=str(world.account.id),
            state="halted",
            actor="trader",
            reason="x",
        )
    )
    rows.commit()
    page = trader.get("/stop/situation").text
    assert "1 order still working" in page
    assert "still held: BTC/USD" in page
    assert page.count("✓") == 3
    rows.execute(sa.update(OrderRow).values(state="cancelled"))
    rows.execute(sa.update(PositionRow).values(quantity=0, cost=0))
    rows.commit()
    done = trader.get("/stop/situation").text
    assert done.count("✓") == 5
    assert "none is working" in done
    assert "flat" in done


def test_a_stop_that_no_engine_took_says_so(trader, world, rows):
    stopped(rows, world, state="expired")
    assert "did not answer in time" in trader.get("/stop/situation").text


# Risk --------------------------------------------------------------------------------------------


def policy_form(**changed):
    return {**risk_policy.shown({}).entered, **changed}


def test_the_rules_show_what_is_used_of_them_now(viewer, world):
    page = viewer.get("/risk/usage").text
    assert "5.5\N{NO-BREAK SPACE}%" in page  # BTC/USD of equity
    assert "0.5\N{NO-BREAK SPACE}%" in page  # 1004.95 below the peak of 1010
    assert "of 20.0\N{NO-BREAK SPACE}%" in page


def test_saving_limits_asks_for_all_rules(trader, world, rows):
    form = policy_form(**{"rule.position_size.limit": "7.5", "rule.liquidity.enabled": ""})
    trader.post("/risk/policy", data={**form, "account": world.account.id})
    command = only_command(rows)
    assert isinstance(command, EditRiskPolicy)
    assert command.account_id == world.account.id
    assert command.policy == {
        "position_size": {"enabled": True, "max_fraction": 0.075},
        "max_drawdown": {"enabled": True, "max_fraction": 0.1},
        "concentration": {"enabled": True, "max_fraction": 0.2},
        "volatility": {"enabled": True, "max_annual": 1.5, "window": 20},
        "liquidity": {"enabled": False, "max_fraction": 0.05, "window": 20},
        "max_positions": {"enabled": False, "most": 10},
    }


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("rule.position_size.limit", "0", "0 is not a limit"),
        ("rule.max_drawdown.limit", "101", "101 is not a limit: more than 0, up to 100 %"),
        ("rule.concentration.limit", "many", "many is not a limit"),
        ("rule.max_positions.limit", "2.5", "2.5 is not a limit: a count from 1 to 500"),
        ("rule.volatility.window", "1", "1 is not a count of bars from 2 to 500"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_beside_its_field_and_kept(
    trader, world, rows, field, value, sentence
):
    answer = trader.post(
        "/risk/policy", data={**policy_form(**{field: value}), "account": world.account.id}
    )
    assert answer.status_code == 400
    assert sentence in answer.text
    assert f'value="{value}"' in answer.text
    assert rows.scalar(sa.select(sa.func.count()).select_from(CommandRow)) == 0


def test_recent_denials_lead_to_their_decisions(viewer, world):
    assert f"/decisions/{world.denied}" in viewer.get("/risk/").text


def test_stops_and_resumptions_stay_on_record(viewer, world, rows):
    halted = TradingStateRow(scope="all", state="halted", actor="trader", reason="a storm")
    rows.add(halted)
    rows.commit()
    assert "stands" in viewer.get("/risk/").text
    rows.add(
        TradingStateRow(scope="all", state="running", actor="admin", reason="over", lifts=halted.id)
    )
    rows.commit()
    page = viewer.get("/risk/").text
    assert "a storm" in page
    assert "lifted" in page
    assert "resumed" in page
