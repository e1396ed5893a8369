"""Asking the engine: once, durably, and answered where it was asked."""

import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from shared import bus
from shared.db.console import AuditRow, CommandRow
from shared.db.sessions import make_engine
from shared.messages import StartStrategy, decode
from webapp import create_app


def commands_in(rows):
    rows.rollback()
    return list(rows.scalars(sa.select(CommandRow).order_by(CommandRow.created_at)))


def settle(rows, command, state, **result):
    command.state, command.result, command.settled_at = state, result, datetime.now(UTC)
    rows.commit()


@contextmanager
def an_engine_that_answers(settings, state, **result):
    """Settles the next command it finds, as an engine would, from another connection."""
    engine = make_engine(settings.database_url, poolclass=sa.NullPool)
    is_over = threading.Event()

    def work():
        settled = sa.update(CommandRow).where(CommandRow.state == "asked")
        while not is_over.is_set():
            with engine.begin() as connection:
                connection.execute(settled.values(state=state, result=result))
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_pressing_start_writes_a_command_the_engine_can_read_and_wakes_it(
    trader, world, rows, settings
):
    trader.post(f"/strategies/{world.strategy.id}/start")
    [command] = commands_in(rows)
    assert decode(command.kind, command.arguments) == StartStrategy(world.strategy.id)
    assert (command.actor, command.state, command.engine_group) == ("trader", "asked", "main")
    assert 50 < (command.expires_at - command.created_at).total_seconds() < 70
    with bus.connect(settings.redis_url) as client:
        [(_, fields)] = client.xrange(bus.COMMANDS)
    assert fields == {"id": str(command.id)}


def test_every_command_is_on_record_with_who_asked_and_from_where(trader, world, rows):
    trader.post(f"/strategies/{world.strategy.id}/start")
    row = rows.scalars(sa.select(AuditRow).where(AuditRow.action == "command.StartStrategy")).one()
    assert (row.actor, row.address) == ("trader", "127.0.0.1")
    assert row.data["arguments"] == {"strategy_id": world.strategy.id}


def test_sending_one_form_twice_asks_once(trader, world, rows, settings):
    form = {"command_id": str(uuid4())}
    for _ in range(2):
        trader.post(f"/strategies/{world.strategy.id}/stop", data=form)
    [command] = commands_in(rows)
    assert command.id == UUID(form["command_id"])
    with bus.connect(settings.redis_url) as client:
        assert client.xlen(bus.COMMANDS) == 1


def test_two_presses_on_two_pages_ask_twice(trader, world, rows):
    for _ in range(2):
        trader.post(f"/strategies/{world.strategy.id}/stop", data={"command_id": str(uuid4())})
    assert len(commands_in(rows)) == 2


def test_a_forms_id_cannot_be_used_for_something_else_or_by_someone_else(
    trader, admin, world, rows
):
    form = {"command_id": str(uuid4())}
    trader.post(f"/strategies/{world.strategy.id}/stop", data=form)
    assert trader.post(f"/strategies/{world.strategy.id}/start", data=form).status_code == 409
    assert admin.post(f"/strategies/{world.strategy.id}/stop", data=form).status_code == 409
    assert len(commands_in(rows)) == 1


def test_each_form_of_a_page_has_an_id_of_its_own(trader, world):
    page = trader.get("/strategies/").text
    ids = re.findall(r'name="command_id" value="([^"]+)"', page)
    assert len(ids) >= 2
    assert len(set(ids)) == len(ids)


def test_with_redis_away_the_command_is_written_all_the_same(settings, users, world, rows):
    console = create_app(replace(settings, redis_url="redis://127.0.0.1:1/0"))
    console.config["WTF_CSRF_ENABLED"] = False
    client = console.test_client()
    client.post("/login", data={"username": "trader", "password": "correct horse"})
    answer = client.post(f"/strategies/{world.strategy.id}/start")
    assert answer.status_code == 303
    [command] = commands_in(rows)
    assert command.state == "asked"
    from webapp.db import db

    with console.app_context():
        db.engine.dispose()


def test_without_javascript_the_next_page_shows_what_was_asked(trader, world, rows):
    answer = trader.post(f"/strategies/{world.strategy.id}/start", follow_redirects=True)
    [command] = commands_in(rows)
    assert answer.request.path == f"/strategies/{world.strategy.id}"
    assert f'id="command-{command.id}"' in answer.text
    assert f'id="command-{command.id}"' not in trader.get("/").text


def test_with_javascript_the_answer_is_a_toast_that_asks_how_it_went(trader, world, rows):
    answer = trader.post(f"/strategies/{world.strategy.id}/start", headers={"HX-Request": "true"})
    assert "Start strategy" in answer.text
    assert "Asked the engine." in answer.text
    assert f"/commands/{commands_in(rows)[0].id}/toast?v=asked" in answer.text


def test_a_toast_costs_nothing_while_its_command_is_where_it_was(trader, world, rows):
    trader.post(f"/strategies/{world.strategy.id}/start")
    [command] = commands_in(rows)
    assert trader.get(f"/commands/{command.id}/toast?v=asked").status_code == 204


@pytest.mark.parametrize(
    ("state", "text", "sentence"),
    [
        ("done", "BTC dips is running", "BTC dips is running"),
        ("denied", "the account is halted", "the account is halted"),
        ("expired", "", "did not answer in time"),
    ],
)
def test_a_settled_command_says_how_it_went_and_asks_no_more(
    trader, world, rows, state, text, sentence
):
    trader.post(f"/strategies/{world.strategy.id}/start")
    [command] = commands_in(rows)
    settle(rows, command, state, text=text, link=f"/strategies/{world.strategy.id}")
    toast = trader.get(f"/commands/{command.id}/toast?v=asked")
    assert sentence in toast.text
    assert "hx-get" not in toast.text
    assert f'href="/strategies/{world.strategy.id}"' in toast.text
    assert toast.headers["HX-Trigger"] == "refresh"


def test_a_link_that_leads_off_this_site_is_not_shown(trader, world, rows):
    trader.post(f"/strategies/{world.strategy.id}/start")
    [command] = commands_in(rows)
    settle(rows, command, "done", text="ok", link="https://evil.example/")
    assert "evil" not in trader.get(f"/commands/{command.id}/toast").text


def test_a_form_waits_for_the_engine_and_goes_where_the_answer_points(
    app, trader, world, rows, settings
):
    app.config["COMMAND_WAIT_SECONDS"] = 10
    form = a_form(world)
    with an_engine_that_answers(settings, "done", text="created", link="/strategies/77"):
        answer = trader.post("/strategies/new", data=form)
    assert answer.location == "/strategies/77"


def test_what_the_engine_denies_is_said_beside_the_field_and_what_was_typed_is_kept(
    app, trader, world, settings
):
    app.config["COMMAND_WAIT_SECONDS"] = 10
    denied = {"text": "window: 14 must be at least 20", "field": "window"}
    with an_engine_that_answers(settings, "denied", **denied):
        answer = trader.post("/strategies/new", data=a_form(world, name="My own name"))
    assert answer.status_code == 409
    assert 'id="f-p.window-error" role="alert">14 must be at least 20' in answer.text
    assert 'value="My own name"' in answer.text


def test_with_no_engine_answering_the_form_goes_on_with_a_toast(trader, world, rows):
    answer = trader.post("/strategies/new", data=a_form(world), follow_redirects=True)
    assert answer.request.path == "/strategies/"
    assert "Asked the engine." in answer.text
    [command] = commands_in(rows)
    assert command.arguments["parameters"] == {
        "window": 14,
        "threshold": 30.0,
        "average": "wilder",
        "both_sides": False,
    }


def a_form(world, **changed):
    """The form of a new strategy as the console shows it, sent unchanged."""
    return {
        "type": "rsi_reversion", "account": world.account.id, "name": "ETH dips", "start": "yes",
        "in.main.instrument": world.eth.id, "in.main.interval": "60", "allocation": "45",
        "p.window": "14", "p.threshold": "30", "p.average": "wilder", "sizing.method": "fraction",
        "sizing.fraction": "100", **changed,
    }  # fmt: skip
