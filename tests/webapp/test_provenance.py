"""A run's page says where its numbers come from, what has changed since, and runs it again."""

import zlib
from uuid import uuid4

import pytest
import sqlalchemy as sa

from engine import series_content
from engine.history import add_bars
from shared.db.backtests import InstallationDiffRow, RunRow
from shared.db.market import SeriesRow
from shared.db.trading import StrategyCodeRow, StrategyTypeRow
from tests.webapp.history import acme_bars, do_job, newest_job, some_stocks
from tests.webapp.made_runs import a_run
from webapp import provenance


@pytest.fixture
def stocks(rows, settings, app):
    app.config["JOB_WAIT_SECONDS"] = 0
    return some_stocks(rows, settings)


@pytest.fixture
def run(rows, settings, stocks):
    return a_run(rows, settings, stocks.acme_series)


def done(answer, rows, settings):
    """The run that the job behind an answer made."""
    assert answer.status_code == 303, answer.text
    job = newest_job(rows, "backtest")
    do_job(settings, job.id)
    rows.refresh(job)
    assert job.state == "done", job.error
    return rows.get_one(RunRow, job.result["run_id"])


def page(client, run):
    return client.get(f"/research/runs/{run.id}").text


def states(app, run):
    """{name of the part: how it stands}."""
    with app.test_request_context():
        fresh = provenance.db.session.get(RunRow, run.id)
        return {part.name: part.state for part in provenance.parts(fresh)}


def run_again(client, run):
    return client.post(f"/research/runs/{run.id}/again", data={"command_id": str(uuid4())})


def test_a_fresh_run_is_of_what_there_is(app, trader, run):
    assert set(states(app, run).values()) == {"same"}
    html = page(trader, run)
    assert "changed since" not in html
    assert run.digest[:32] in html
    assert "Run again" in html


def test_running_it_again_gives_the_same_and_both_pages_say_so(trader, rows, settings, run):
    again = done(run_again(trader, run), rows, settings)
    assert (again.repeats, again.digest) == (run.id, run.digest)
    assert f"Run #{run.id} again: the same trades and numbers." in page(trader, again)
    assert f'href="/research/runs/{again.id}"' in page(trader, run)
    assert "the same</span>" in page(trader, run)
    assert newest_job(rows, "backtest").title == f"Run {run.id} again"


def test_two_presses_run_it_once(trader, rows, run):
    asked = {"command_id": str(uuid4())}
    first = trader.post(f"/research/runs/{run.id}/again", data=asked)
    second = trader.post(f"/research/runs/{run.id}/again", data=asked)
    assert first.location == second.location


def test_a_repeat_that_comes_out_otherwise_names_what_was_not_the_same(trader, rows, settings, run):
    again = done(run_again(trader, run), rows, settings)
    again.digest = "0" * 64
    again.provenance = {
        **again.provenance,
        "sources": "other",
        "versions": {**again.provenance["versions"], "numpy": "9.9"},
    }
    inputs = {"main": {**again.inputs["main"], "used_hash": "other"}}
    again.inputs = inputs
    rows.commit()
    html = page(trader, again)
    assert "other trades or numbers" in html
    for what in ("bars of ACME", "Seraphim&#39;s code", "now 9.9"):
        assert what in html, what
    assert "not the same" in page(trader, run)


def test_a_repeat_that_differs_for_no_recorded_reason_says_that(trader, rows, settings, run):
    again = done(run_again(trader, run), rows, settings)
    again.digest = "0" * 64
    rows.commit()
    assert "the strategy answers differently" in page(trader, again)


def test_changed_bars_are_named_once_it_is_known_that_they_changed(app, trader, rows, stocks, run):
    name = "ACME 1d"
    add_bars(rows.connection(), stocks.acme_series, acme_bars(3))  # the same bars again
    rows.commit()
    assert states(app, run)[name] == "unsure"
    assert "data changed since" in page(trader, run)
    series_content.content_hash(rows, stocks.acme_series)
    assert states(app, run)[name] == "same"
    changed = [type(bar)(*(getattr(bar, f) for f in bar.__slots__)) for bar in acme_bars(1)]
    add_bars(
        rows.connection(),
        stocks.acme_series,
        [type(b)(b.opened_at, b.closed_at, b.open, b.high, b.low, b.open, "1") for b in changed],
    )
    rows.commit()
    series_content.content_hash(rows, stocks.acme_series)
    assert states(app, run)[name] == "changed"
    assert "bars of ACME 1d have changed" in page(trader, run)


def test_a_series_that_only_grew_changes_nothing_about_the_run(app, trader, rows, stocks, run):
    rows.execute(
        sa.update(SeriesRow)
        .where(SeriesRow.id == stocks.acme_series)
        .values(appended=SeriesRow.appended + 1, bars=SeriesRow.bars + 1)
    )
    rows.commit()
    assert states(app, run)["ACME 1d"] == "grown"
    html = page(trader, run)
    assert "data changed since" not in html
    assert "those that the run read are the same" in html


def test_changed_code_packages_and_versions_are_named(app, trader, rows, run):
    rows.add(StrategyCodeRow(hash="other", file_name="x.py", source="", origin="user"))
    rows.flush()
    type_ = rows.get_one(StrategyTypeRow, run.strategy_type)
    type_.code_hash = "other"
    versions = {**run.provenance["versions"], "numpy": "0.1"}
    run.provenance = {**run.provenance, "sources": "earlier", "versions": versions}
    rows.commit()
    found = states(app, run)
    assert (found["moving_average_cross.py"], found["Packages"]) == ("changed", "changed")
    html = page(trader, run)
    assert "code changed since" in html
    for what in ("moving_average_cross.py has changed", "own code has changed", "numpy 0.1, now"):
        assert what in html, what
    run.provenance = {**run.provenance, "versions": {}, "lock": "earlier"}
    rows.commit()
    assert states(app, run)["Packages"] == "unknown"


def test_another_lock_alone_is_a_change_of_packages(app, rows, run):
    run.provenance = {**run.provenance, "lock": "earlier"}
    rows.commit()
    assert states(app, run)["Packages"] == "changed"


def test_what_is_gone_is_said(app, trader, rows, run):
    main = {**run.inputs["main"], "series_id": 999}
    run.inputs = {"main": main}
    run.strategy_type = "long_gone"
    rows.commit()
    found = states(app, run)
    assert (found["ACME 1d"], found["long_gone.py"]) == ("changed", "changed")


def test_a_run_of_before_says_what_it_does_not_know_and_is_not_run_again(app, trader, rows, run):
    run.provenance, run.request = {}, {}
    old = {k: v for k, v in run.inputs["main"].items() if k not in ("content", "appended")}
    run.inputs = {"main": old}
    rows.commit()
    found = states(app, run)
    assert (found["Seraphim"], found["Packages"], found["ACME 1d"]) == ("unknown",) * 2 + ("same",)
    html = page(trader, run)
    assert "not recorded" in html
    assert "cannot be run again as it was" in html
    answer = run_again(trader, run)
    assert answer.status_code == 409
    assert "made before requests were kept" in answer.text


def test_the_diff_and_the_request_can_be_had(trader, viewer, rows, run):
    git = {"commit": "c" * 40, "diff_hash": "d" * 64, "diff_bytes": 3_000_000, "cut": True}
    run.provenance = {**run.provenance, "git": git}
    rows.add(InstallationDiffRow(hash="d" * 64, diff=zlib.compress(b"+one = 2\n")))
    rows.commit()
    assert "cccccccccccc" in page(viewer, run)
    text = viewer.get(f"/research/runs/{run.id}/changes.diff")
    assert text.content_type.startswith("text/plain")
    assert "+one = 2" in text.text
    assert "3,000,000 bytes" in text.text
    told = viewer.get(f"/research/runs/{run.id}/request.json").json
    assert told["request"]["parameters"] == {"short_window": 5, "long_window": 15}
    assert (told["digest"], told["provenance"]["git"]) == (run.digest, git)
    run.provenance = {**run.provenance, "git": None}
    rows.commit()
    assert viewer.get(f"/research/runs/{run.id}/changes.diff").status_code == 404


def test_nobody_s_run_is_not_found(trader):
    for path in ("changes.diff", "request.json"):
        assert trader.get(f"/research/runs/99/{path}").status_code == 404
    assert trader.post("/research/runs/99/again", data={}).status_code == 404


def test_a_viewer_looks_and_does_not_run(viewer, run):
    assert "Run again" not in page(viewer, run)
    assert run_again(viewer, run).status_code == 403
