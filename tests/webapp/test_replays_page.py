"""Replays: stored bars on an account of their own, opened, started, watched to their end."""

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.messages import decode
from tests.webapp.forms import confirmed
from tests.webapp.history import FIRST, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses
from tests.webapp.world import a_strategy, an_account, equity

PARTIAL = {"HX-Request": "true"}


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


def a_replay(rows, stocks, state="waiting", **changed):
    feed = {
        "series_ids": [stocks.acme_series],
        "speed": 86400.0,
        "starts_at": "",
        "ends_at": "",
        "state": state,
    }
    account = an_account(
        rows, "Replay ACME", venue="replay", clock="replay", feed=feed, market_started_at=FIRST,
        **{"market_time": FIRST, **changed},
    )  # fmt: skip
    rows.commit()
    return account


def asked(rows):
    rows.rollback()
    return rows.scalars(sa.select(CommandRow).order_by(CommandRow.created_at)).all()


def test_no_replay_says_what_one_is_and_offers_it(trader, viewer):
    assert "/replays/new" in trader.get("/replays").text
    assert "/replays/new" not in viewer.get("/replays").text


def test_opening_one_asks_the_engine_for_exactly_that(trader, rows, stocks):
    form = confirmed(trader.get(f"/replays/new?series={stocks.acme_series}").text)
    assert form["name"] == "Replay ACME 1d"
    form = {
        **form, "series": [str(stocks.acme_series), str(stocks.tiny_series)], "starts": "2020-02-01",
        "capital": "5 000", "fee": "0.2", "slippage": "0", "speed": "3600",
    }  # fmt: skip
    form.pop("rule.liquidity.enabled")
    assert trader.post("/replays/new", data=form).status_code == 303
    [row] = asked(rows)
    command = decode(row.kind, row.arguments)
    assert sorted(command.series_ids) == sorted([stocks.acme_series, stocks.tiny_series])
    assert (command.speed, command.capital) == (3600.0, "5000")
    assert (command.starts_at, command.ends_at) == ("2020-02-01T00:00:00+00:00", "")
    assert command.costs == {"fee_rate": "0.002", "slippage": "0"}
    assert not command.risk_policy["liquidity"]["enabled"]
    assert command.risk_policy["position_size"] == {"enabled": True, "max_fraction": 0.05}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("series", [], "choose at least one series"),
        ("name", "", "is not a name"),
        ("speed", "7", "7 is no speed"),
        ("capital", "nothing", "nothing is not an amount"),
        ("starts", "soon", "soon is not a day"),
        ("fee", "99", "99 is not a cost"),
        ("rule.volatility.limit", "-1", "-1 is not a limit"),
    ],
)
def test_a_wrong_value_is_refused_beside_its_field(trader, rows, stocks, field, value, said):
    form = {**confirmed(trader.get("/replays/new").text), "series": [str(stocks.acme_series)]}
    answer = trader.post("/replays/new", data={**form, field: value})
    assert answer.status_code == 422
    assert said in answer.text
    assert asked(rows) == []


def test_what_the_engine_objects_to_comes_back_with_the_form(trader, rows, stocks):
    form = {**confirmed(trader.get("/replays/new").text), "series": [str(stocks.acme_series)]}
    form["command_id"] = str(uuid4())
    trader.post("/replays/new", data=form)
    [row] = asked(rows)
    row.state = "denied"
    row.result = {"text": "starts_at: there are no bars in that range", "field": "starts_at"}
    rows.commit()
    answer = trader.post("/replays/new", data=form)
    assert answer.status_code == 422
    assert "there are no bars in that range" in answer.text.split('id="f-starts-error"')[1][:90]


def test_a_waiting_replay_is_started_by_a_press(trader, viewer, rows, stocks):
    replay = a_replay(rows, stocks)
    assert "Start without one" in trader.get(f"/replays/{replay.id}").text
    assert "waits for a trader" in viewer.get(f"/replays/{replay.id}").text
    trader.post(f"/replays/{replay.id}/start", data={"command_id": str(uuid4())})
    [row] = asked(rows)
    assert (row.kind, row.arguments) == ("StartReplay", {"account_id": replay.id})


def test_a_playing_replay_shows_how_far_it_is(trader, rows, stocks):
    from webapp.series import stored

    replay = a_replay(rows, stocks, "playing")
    with trader.application.test_request_context():
        last = stored(stocks.acme_series).row.last_closed_at
    replay.market_time = FIRST + (last - FIRST) / 4
    equity(rows, replay, {FIRST: "1000", replay.market_time: "1100"})
    rows.commit()
    page = trader.get(f"/replays/{replay.id}").text
    assert "25\N{NO-BREAK SPACE}%" in page
    assert "+10.00\N{NO-BREAK SPACE}%" in page
    version = (
        trader.get(f"/replays/{replay.id}/state", headers=PARTIAL).text.split("v=")[1].split('"')[0]
    )
    assert trader.get(f"/replays/{replay.id}/state?v={version}", headers=PARTIAL).status_code == 204
    curve = trader.get(f"/replays/{replay.id}/equity.json").json
    assert curve["equity"] == [1000, 1100]


def test_a_strategy_is_added_to_the_replay_and_not_to_the_account_looked_at(
    trader, rows, world, stocks
):
    replay = a_replay(rows, stocks)
    answer = trader.post(f"/replays/{replay.id}/strategy")
    assert answer.location == "/strategies/new"
    page = trader.get("/strategies/new?type=moving_average_cross").text
    assert f'name="account" value="{replay.id}"' in page
    assert "ACME" in page


def test_pages_of_replays_are_sound(app, trader, rows, world, stocks):
    replay = a_replay(rows, stocks)
    a_strategy(rows, replay, stocks.acme, "ACME dips", status="stopped", allocation=Decimal(50))
    rows.commit()
    for state in ("waiting", "playing", "finished"):
        replay.feed = {**replay.feed, "state": state}
        replay.market_time = FIRST + timedelta(days=30)
        rows.commit()
        for path in ("/replays", f"/replays/{replay.id}", "/replays/new"):
            page = read(trader.get(path).text)
            assert page.wrong + lost_addresses(app, page) == [], (path, state)
        fragment = read(trader.get(f"/replays/{replay.id}/state", headers=PARTIAL).text)
        assert fragment.wrong + lost_addresses(app, fragment) == []


def test_an_account_that_is_no_replay_has_no_page_here(trader, world):
    assert trader.get(f"/replays/{world.account.id}").status_code == 404
