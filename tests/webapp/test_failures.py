"""When a server is away the console says so, and comes back by itself."""

from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from tests.webapp.markup import read
from webapp import auth, create_app
from webapp.db import db

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def without_postgresql(settings):
    console = create_app(replace(settings, database_url=f"postgresql://u@{NOWHERE}/x"))
    yield console.test_client()
    with console.app_context():
        db.engine.dispose()


@pytest.fixture
def without_redis(settings, users, world):
    console = create_app(replace(settings, redis_url=f"redis://{NOWHERE}/0"))
    console.config["WTF_CSRF_ENABLED"] = False
    client = console.test_client()
    client.post("/login", data={"username": "admin", "password": "correct horse"})
    yield client
    with console.app_context():
        db.engine.dispose()


def logged_in(client):
    with client.session_transaction() as session:
        session["_user_id"] = "1.1"
    return client


def test_without_postgresql_a_calm_page_says_what_it_means_and_tries_again(without_postgresql):
    answer = logged_in(without_postgresql).get("/books/fills?side=buy")
    assert answer.status_code == 503
    assert "PostgreSQL does not answer" in answer.text
    assert "sends no order that is not recorded first" in answer.text
    assert '<meta http-equiv="refresh" content="3;url=/books/fills?side=buy">' in answer.text
    assert read(answer.text).wrong == []


def test_without_postgresql_a_fragment_fails_as_a_fragment(without_postgresql):
    answer = logged_in(without_postgresql).get("/frame", headers={"HX-Request": "true"})
    assert answer.status_code == 503
    assert "html" not in read(answer.text).tags


def test_a_form_sent_while_postgresql_is_away_is_not_sent_again_by_itself(without_postgresql):
    client = logged_in(without_postgresql)
    client.application.config["WTF_CSRF_ENABLED"] = False
    answer = client.post("/stop/", data={"account": "1"})
    assert answer.status_code == 503
    assert 'content="3;url=/"' in answer.text


def test_health_tells_machines_which_server_is_away(without_postgresql):
    answer = without_postgresql.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json == {"postgresql": "does not answer", "redis": "answers"}
    assert without_postgresql.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/markets/", "/strategies/", "/books/positions", "/risk/", "/stop/", "/system/"]
)
def test_without_redis_every_page_still_stands_on_the_database(without_redis, path):
    assert without_redis.get(path).status_code == 200


def test_without_redis_nobody_is_told_that_trading_runs(without_redis):
    page = without_redis.get("/").text
    assert "Redis is away" in page
    assert "<span data-n>Unknown</span>" in page
    assert "whether the engine trades is not known" in page
    assert "does not answer" in without_redis.get("/system/").text


def test_a_fault_of_the_console_is_told_without_its_innards(app, viewer, monkeypatch):
    def broken():
        raise RuntimeError("secret innards")

    app.testing = False
    monkeypatch.setitem(app.view_functions, "components.page", auth.viewer(broken))
    answer = viewer.get("/components")
    assert answer.status_code == 500
    assert "The console made a mistake" in answer.text
    assert "innards" not in answer.text


def test_a_database_fault_in_the_middle_of_a_page_is_the_databases(app, viewer, monkeypatch):
    def broken():
        raise OperationalError("SELECT 1", {}, Exception("server closed the connection"))

    monkeypatch.setitem(app.view_functions, "components.page", auth.viewer(broken))
    assert viewer.get("/components").status_code == 503
