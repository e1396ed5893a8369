"""The page that says why: a form, a permalink, a worker's answer, and links to it from everywhere."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from engine import catalogue
from shared.db.backtests import JobRow
from shared.db.trading import OrderEventRow, StrategyRow, StrategyTypeRow
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.world import NOON, bars


@pytest.fixture
def app(app):
    app.config["JOB_WAIT_SECONDS"] = 0.0
    return app


@pytest.fixture
def world(world, rows, settings):
    """The small world with a strategy whose code there is."""
    catalogue.sync(rows.connection(), settings.strategies_folder)
    code = rows.scalar(
        sa.select(StrategyTypeRow.code_hash).where(StrategyTypeRow.name == "moving_average_cross")
    )
    rows.execute(
        sa.update(StrategyRow).values(
            type="moving_average_cross", code_hash=code, parameters={"short_window": 2, "long_window": 5},
            last_moment_at=NOON,
        )
    )  # fmt: skip
    bars(rows, world.eth, count=90)
    rows.commit()
    return world


def address(world, at=NOON, instrument=None):
    moment = at.isoformat().replace("+", "%2B")
    return (
        f"/why?strategy={world.strategy.id}&instrument={(instrument or world.btc).id}&at={moment}"
    )


def answered(client, rows, settings, url):
    """The page once a worker has done its job."""
    assert "Looking at the record" in client.get(url).text
    do_job(settings, newest_job(rows, "why").id)
    page = client.get(url)
    assert page.status_code == 200
    return page.text


def test_the_form_offers_strategies_and_says_what_it_is_for(viewer, world):
    page = viewer.get("/why").text
    assert "Ask about any moment" in page
    assert f'value="strategy:{world.strategy.id}"' in page


def test_an_installation_with_nothing_to_ask_about_says_so(viewer):
    assert "Nothing to ask about yet" in viewer.get("/why").text


def test_without_a_time_it_asks_about_now_and_makes_a_permalink(viewer, world):
    answer = viewer.get(f"/why?strategy={world.strategy.id}")
    assert answer.status_code == 302
    asked = parse_qs(urlsplit(answer.location).query)
    assert asked == {
        "strategy": [str(world.strategy.id)], "instrument": [str(world.btc.id)], "at": [NOON.isoformat()],
    }  # fmt: skip


def test_a_time_typed_in_the_form_is_in_the_users_zone(viewer, world):
    typed = (
        f"/why?subject=strategy:{world.strategy.id}&instrument={world.btc.id}&at=2026-09-12T13:58"
    )
    asked = parse_qs(urlsplit(viewer.get(typed).location).query)
    assert asked["at"] == [(NOON - timedelta(minutes=2)).isoformat()]
    assert "subject" not in asked


@pytest.mark.parametrize("at", ["soon", "0001-01-01", "9999-12-31T23:59"])
def test_what_is_no_time_is_said_to_be_none(viewer, world, at):
    answer = viewer.get(f"/why?strategy={world.strategy.id}&instrument={world.btc.id}&at={at}")
    assert answer.status_code == 400
    assert "at: " in answer.text


def test_the_answer_is_a_sentence_and_the_whole_record(viewer, world, rows, settings):
    page = answered(viewer, rows, settings, address(world))
    assert "Moment before" in page
    assert "It bought 0.5 BTC/USD at 100, decided at 14:00: RSI 24.1 below 30." in page
    for title in ("The bar", "What it read", "Features and signal", "The decision", "Sizing", "Risk checks",
                  "The release and its orders", "Trading states then", "Engine, feed and strategy"):  # fmt: skip
        assert f"<h2>{title}</h2>" in page
    assert "computed again" in page
    assert f"/books/orders/{world.order}" in page


def test_an_instrument_it_does_not_trade_is_answered_too(viewer, world, rows, settings):
    page = answered(viewer, rows, settings, address(world, instrument=world.eth))
    assert "BTC dips does not read it (it trades BTC/USD)." in page


def test_the_same_question_is_asked_once_until_something_happens(viewer, world, rows, settings):
    count = sa.select(sa.func.count()).select_from(JobRow)
    answered(viewer, rows, settings, address(world))
    viewer.get(address(world))
    assert rows.scalar(count) == 1
    rows.add(
        OrderEventRow(
            client_order_id=world.order, kind="acknowledged", key="a", happened_at=NOON, data={}
        )
    )
    rows.commit()
    viewer.get(address(world))
    rows.rollback()
    assert rows.scalar(count) == 2


def test_the_page_waits_for_its_worker_and_then_shows_the_answer(viewer, world, rows, settings):
    page = viewer.get(address(world)).text
    part = re.search(r'hx-get="(/why/[^"]+/answer\?v=[^"]+)"', page)[1]
    assert viewer.get(part).status_code == 204
    do_job(settings, newest_job(rows, "why").id)
    fragment = viewer.get(part)
    assert "It bought 0.5 BTC/USD" in fragment.text
    assert "data-part" not in fragment.text


def test_the_chart_marks_the_bar_and_draws_features_that_are_prices(viewer, world, rows, settings):
    answered(viewer, rows, settings, address(world))
    job = newest_job(rows, "why")
    drawn = json.loads(viewer.get(f"/why/{job.id}/chart.json").text)
    assert drawn["bar"] == (NOON - timedelta(minutes=1)).timestamp()
    assert {feature["name"] for feature in drawn["features"]} == {"short", "long"}
    assert len(drawn["candles"]) > 30


def test_prev_and_next_are_the_moments_beside(viewer, world, rows, settings):
    page = answered(viewer, rows, settings, address(world))
    before = (NOON - timedelta(minutes=1)).isoformat().replace("+", "%2B")
    assert f"at={before}" in page.replace("&amp;", "&")


def test_a_question_that_cannot_be_answered_says_why_and_can_be_asked_again(
    viewer, world, rows, settings
):
    viewer.get(address(world))
    job = newest_job(rows, "why")
    rows.execute(
        sa.update(JobRow).values(state="failed", progress_text="Refused", error="no such thing")
    )
    rows.commit()
    page = viewer.get(address(world)).text
    assert "no such thing" in page
    again = re.search(r'href="([^"]*again=[^"]+)"', page)[1].replace("&amp;", "&")
    viewer.get(again)
    assert newest_job(rows, "why").id != job.id


def test_what_is_not_there_is_not_found(viewer, world):
    nobody = "00000000-0000-0000-0000-000000000000"
    for url in ("/why?strategy=99", "/why?run=99", f"/why/{nobody}/answer", f"/why/{nobody}/chart.json",
                f"/why?strategy={world.strategy.id}&instrument=99&at=2026-09-12"):  # fmt: skip
        assert viewer.get(url).status_code == 404


def test_strategy_decision_market_and_order_lead_to_it(viewer, world):
    for url in (
        f"/strategies/{world.strategy.id}",
        f"/decisions/{world.decision}",
        f"/markets/{world.btc.id}",
        f"/books/orders/{world.order}",
    ):
        assert f"/why?strategy={world.strategy.id}" in viewer.get(url).text, url


def test_a_day_is_asked_about_as_a_day(viewer, rows, settings, world):
    stocks = some_stocks(rows, settings)
    rows.execute(
        sa.update(StrategyRow).values(
            inputs={"main": {"instrument_id": stocks.acme.id, "interval": 86_400, "trades": True}}
        )
    )
    rows.commit()
    url = f"/why?strategy={world.strategy.id}&instrument={stocks.acme.id}"
    page = viewer.get(viewer.get(f"{url}&at=2020-02-03").location).text
    assert 'type="date" value="2020-02-0' in page
    do_job(settings, newest_job(rows, "why").id)
    assert newest_job(rows, "why").result["why"]["moment"].startswith("2020-02-03")
