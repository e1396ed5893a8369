"""A run that looks ahead: told on its page and in the list, and its strategy does not start."""

import re
from types import SimpleNamespace
from uuid import uuid4

import pytest
import sqlalchemy as sa

from engine import catalogue
from engine.desk import Denied, Desk
from shared.db.backtests import JobRow, RunRow
from shared.db.market import InstrumentRow
from shared.db.trading import AccountRow, StrategyRow
from shared.jobs import BacktestRequest, encode
from shared.messages import CreateStrategy, EditStrategy, StartStrategy
from tests.webapp.history import do_job, some_stocks
from webapp import gate

TOMORROW = """
import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("{name}")
class Tomorrow(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        return {{"close": close, "next": {next}}}

    def generate_signals(self, f):
        return Signals(np.where(f["next"] > f["close"], 1.0, 0.0))
"""
LEAKS = TOMORROW.format(name="tomorrow", next="np.append(close[1:], np.nan)")
HONEST = TOMORROW.format(name="tomorrow", next="np.append(np.nan, close)[:-1]")


@pytest.fixture
def stocks(rows, settings):
    settings.strategies_folder.mkdir(parents=True, exist_ok=True)
    file = settings.strategies_folder / "tomorrow.py"
    file.write_text(LEAKS)
    yield some_stocks(rows, settings)
    file.unlink()


def a_run(rows, settings, stocks, **changed):
    request = BacktestRequest(
        strategy_type="tomorrow",
        parameters={},
        inputs={"main": {"series_id": stocks.acme_series, "trades": True}},
        **changed,
    )
    job = JobRow(id=uuid4(), kind="backtest", title="a run", attempt=1, arguments=encode(request))
    rows.add(job)
    rows.commit()
    do_job(settings, job.id)
    rows.refresh(job)
    assert job.state == "done", job.error
    return rows.get_one(RunRow, job.result["run_id"])


def words(html):
    """The text of a page, blanks folded."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture
def leaking(rows, settings, stocks):
    return a_run(rows, settings, stocks)


def test_a_leaking_run_keeps_what_was_found(leaking):
    found = leaking.gate
    assert found["verdict"] == "leaks"
    assert found["findings"][0]["what"] == "next"
    assert found["findings"][0]["ahead"] == 1
    assert found["findings"][0]["picture"]["cut"][-1] is None
    assert found["budget_seconds"] == 0.5


def test_its_page_says_so_first_and_shows_the_feature_with_and_without_the_future(viewer, leaking):
    page = viewer.get(f"/research/runs/{leaking.id}").text
    told = words(page)
    assert "This run looks ahead" in told
    assert "it looks at least 1 bar ahead" in told
    assert page.index("This run looks ahead") < page.index('class="stats six tiles"')
    assert page.count('<polyline class="whole"') >= 1
    assert page.count('<polyline class="cut"') >= 1
    assert "looks ahead" in words(viewer.get("/research").text)


def test_its_verdict_can_be_had_as_json(viewer, leaking):
    assert viewer.get(f"/research/runs/{leaking.id}/look-ahead.json").json == leaking.gate
    assert viewer.get("/research/runs/999/look-ahead.json").status_code == 404


def test_a_run_without_the_gate_says_that_it_was_not_examined(viewer, rows, settings, stocks):
    run = a_run(rows, settings, stocks, gate=False)
    assert run.gate is None
    page = words(viewer.get(f"/research/runs/{run.id}").text)
    assert "not examined" in page
    assert "looks ahead:" not in page
    assert viewer.get(f"/research/runs/{run.id}/look-ahead.json").status_code == 404


def test_a_clean_run_says_how_much_was_looked_at(viewer, rows, settings, stocks):
    (settings.strategies_folder / "tomorrow.py").write_text(HONEST)
    catalogue.sync(rows.connection(), settings.strategies_folder)
    rows.commit()
    run = a_run(rows, settings, stocks)
    assert run.gate["verdict"] == "clean"
    assert run.gate["examined"] == run.gate["deciding"] > 3
    page = words(viewer.get(f"/research/runs/{run.id}").text)
    assert "no look-ahead" in page
    assert "Deciding bars examined" in page


# --- starting -----------------------------------------------------------------------------------------


@pytest.fixture
def account(rows, world):
    return rows.scalars(sa.select(AccountRow).where(AccountRow.clock != "replay")).first()


def creating(rows, account, **changed):
    instrument = rows.scalars(
        sa.select(InstrumentRow).where(InstrumentRow.venue == account.venue)
    ).first()
    given = {
        "account_id": account.id,
        "name": "ahead",
        "type": "tomorrow",
        "parameters": {},
        "inputs": {"main": {"instrument_id": instrument.id, "interval": 60}},
        "allocation": "1000",
        "sizing": {},
    }
    return CreateStrategy(**{**given, **changed})


def test_a_strategy_with_a_leaking_run_starts_neither_when_made_nor_later(rows, account, leaking):
    desk = Desk(account.engine_group)
    with pytest.raises(Denied, match=f"cannot start: its code looks ahead. Run #{leaking.id} "):
        desk.create_strategy(rows.connection(), creating(rows, account, start=True), "tina")
    desk.create_strategy(rows.connection(), creating(rows, account, start=False), "tina")
    made = rows.scalars(sa.select(StrategyRow).where(StrategyRow.name == "ahead")).one()
    with pytest.raises(Denied, match="'next'"):
        desk.start_strategy(rows.connection(), StartStrategy(made.id), "tina")
    rows.refresh(made)
    assert made.desired == "stopped"


def test_other_code_of_the_same_type_may_start(rows, settings, account, leaking):
    (settings.strategies_folder / "tomorrow.py").write_text(HONEST)
    catalogue.sync(rows.connection(), settings.strategies_folder)
    desk = Desk(account.engine_group)
    desk.create_strategy(rows.connection(), creating(rows, account, start=True), "tina")
    made = rows.scalars(sa.select(StrategyRow).where(StrategyRow.name == "ahead")).one()
    assert made.desired == "running"
    (settings.strategies_folder / "tomorrow.py").write_text(LEAKS)
    catalogue.sync(rows.connection(), settings.strategies_folder)
    edit = EditStrategy(made.id, parameters={}, allocation="1000", sizing={}, reload=True)
    with pytest.raises(Denied, match="looks ahead"):
        desk.edit_strategy(rows.connection(), edit, "tina")


def test_a_replay_may_play_it(rows, leaking):
    may_start = Desk("main")._sees_no_future
    asked = (rows.connection(), "ahead", leaking.strategy_type, leaking.code_hash)
    may_start(*asked, SimpleNamespace(clock="replay"))
    with pytest.raises(Denied, match="cannot start"):
        may_start(*asked, SimpleNamespace(clock="market"))


def test_lines_of_a_picture_end_where_values_are_missing():
    lines = gate._lines([1.0, 2.0, None, 4.0, None], 1.0, 4.0, 10.0)
    assert len(lines) == 2
    assert lines[0] == "0.0,114.0 10.0,78.0"
    assert lines[1] == "26.7,6.0 33.3,6.0"
