"""The backtest form and longer bars made of stored ones."""

import pytest

from shared.jobs import BacktestRequest
from tests.webapp.forms import confirmed
from tests.webapp.history import do_job, newest_job, some_stocks


@pytest.fixture
def stocks(rows, settings, app):
    app.config["JOB_WAIT_SECONDS"] = 0
    return some_stocks(rows, settings)


@pytest.fixture
def form(trader, stocks):
    offered = confirmed(trader.get(f"/research/new?series={stocks.tiny_series}").text)
    return {**offered, "rules": "off", "p.short_window": "2", "p.long_window": "3"}


def test_longer_bars_are_asked_for_named_and_kept_for_the_next_run(
    trader, rows, settings, stocks, form
):
    assert form["in.main.interval"] == ""
    trader.post("/research/new", data={**form, "in.main.interval": "900"})
    job = newest_job(rows, "backtest")
    given = {"series_id": stocks.tiny_series, "trades": True, "interval": 900}
    assert BacktestRequest(**job.arguments).inputs == {"main": given}
    assert job.title.endswith("TINY/USD 15m")
    do_job(settings, job.id)
    rows.refresh(job)
    assert job.state == "done", job.error
    run = job.result["run_id"]
    assert "TINY/USD 15m" in trader.get("/research").text
    again = confirmed(trader.get(f"/research/new?run={run}").text)
    assert (again["in.main.series"], again["in.main.interval"]) == (str(stocks.tiny_series), "900")
    assert trader.get(f"/research/runs/{run}").status_code == 200


def test_bars_that_cannot_be_made_of_the_series_are_said_beside_the_field(trader, stocks, form):
    asked = {**form, "in.main.series": str(stocks.acme_series), "in.main.interval": "900"}
    answer = trader.post("/research/new", data=asked)
    assert answer.status_code == 422
    assert "Bars of 1d cannot be made into these: choose as stored" in answer.text
    for nonsense in ("60.5", "-900", "901", "soon"):
        answer = trader.post("/research/new", data={**form, "in.main.interval": nonsense})
        assert answer.status_code == 422, nonsense


def test_the_stored_interval_itself_is_no_other_bars(trader, rows, stocks, form):
    trader.post("/research/new", data={**form, "in.main.interval": "60"})
    inputs = newest_job(rows, "backtest").arguments["inputs"]
    assert inputs == {"main": {"series_id": stocks.tiny_series, "trades": True}}
