"""What the console says of the engine, without importing it, and what the engine says of the console."""

import re
from pathlib import Path
from uuid import uuid4

import pytest

from engine.risk.rules import RiskPolicy, policy_from
from engine.sizing import METHODS, Sizing
from engine.strategies.registry import built_in_files
from shared.messages import COMMANDS
from webapp import commands, create_app, fields, frame, risk_policy
from webapp.db import db

ENGINE = Path(__file__).parents[2] / "engine"


@pytest.fixture
def console(settings):
    app = create_app(settings)
    yield app
    with app.app_context():
        db.engine.dispose()
    app.extensions["seraphim-redis"].close()


def test_the_limits_the_console_shows_by_default_are_the_engines():
    shown = risk_policy.policy_of(risk_policy.rules_of({}))
    assert policy_from(shown) == RiskPolicy()
    assert shown == RiskPolicy().as_json()


def test_every_limit_the_console_accepts_is_one_the_engine_takes():
    highest = {
        f"rule.{rule.name}.limit": str(rule.highest * rule.scale) for rule in risk_policy.DEFAULTS
    }
    form = risk_policy.read({**risk_policy.shown({}).entered, **highest})
    assert form.problems == {}
    policy_from(risk_policy.policy_of(form.rules))


def test_the_console_offers_the_ways_to_size_that_the_engine_knows():
    assert {name for name, _ in fields.METHODS} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_what_the_sizing_form_sends_is_what_the_engine_takes(method):
    entered = {
        "sizing.method": method, "sizing.fraction": "50", "sizing.quantity": "2", "sizing.value": "9",
        "sizing.annual_volatility": "20", "sizing.window": "30", "sizing.band": "5",
    }  # fmt: skip
    form = fields.read_sizing(entered)
    assert form.problems == {}
    assert Sizing.from_json(form.values).method == method
    assert fields.read_sizing(fields.shown_sizing(form.values).entered).values == form.values


@pytest.mark.parametrize("file", built_in_files(), ids=lambda file: file.file_name)
def test_the_form_of_a_built_in_type_sent_unchanged_is_its_defaults(file):
    for cls in file.types.values():
        schema = cls.schema()
        shown = fields.shown_parameters(schema)
        read = fields.read_parameters(schema, shown.entered)
        assert read.problems == {}
        assert read.values == {name: param.default for name, param in cls.params().items()}


def test_the_console_has_a_sentence_for_every_command():
    assert set(commands.SENTENCES) == set(COMMANDS)


def test_every_page_of_the_rail_exists(console):
    assert [entry.name for entry in frame.RAIL] == [
        entry.name for entry in console.extensions["seraphim-rail"]
    ]


def test_every_link_the_engine_writes_opens_a_page(console):
    """Links stand in results of commands and in events, as f-strings of the engine's code."""
    written = set()
    for file in ENGINE.rglob("*.py"):
        written |= set(re.findall(r'f?"(/(?!proc|dev|sys)[a-z]+(?:/[^"\s]*)?)"', file.read_text()))
    paths = {re.sub(r"\{[^}]+\}", "ID", link) for link in written}
    assert len(paths) >= 6
    adapter = console.url_map.bind("localhost")
    lost = [path for path in paths if not any(_opens(adapter, path, id_) for id_ in ("1", uuid4()))]
    assert lost == []


def _opens(adapter, path, id_):
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import RequestRedirect

    try:
        adapter.match(path.replace("ID", str(id_)), method="GET")
    except RequestRedirect:
        return True
    except HTTPException:
        return False
    return True
