"""Jobs: one partial in three states, found again, called off."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.db.backtests import JobAttemptRow, JobRow
from shared.jobs import BacktestRequest, encode
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses

PARTIAL = {"HX-Request": "true"}


def a_job(rows, **changed):
    given = {
        "id": uuid4(), "kind": "backtest", "title": "Backtest moving average cross · ACME 1d",
        "arguments": {"strategy_type": "moving_average_cross", "parameters": {"short_window": 3}, "inputs": {}},
        "state": "queued", "attempt": 1, "requested_by": "trader",
    }  # fmt: skip
    job = JobRow(**{**given, **changed})
    rows.add(job)
    rows.flush()
    rows.add(JobAttemptRow(job_id=job.id, number=1, started_at=job.started_at))
    rows.commit()
    return job


def running(rows, **changed):
    return a_job(rows, **{"state": "running", "progress": 0.37, "progress_text": "37,000 of 100,000 bars · 4 s left",
                          "started_at": datetime.now(UTC), **changed})  # fmt: skip


def test_a_running_job_asks_again_and_shows_how_far_and_how_long(trader, rows):
    job = running(rows)
    page = trader.get(f"/jobs/{job.id}").text
    assert f'hx-get="/jobs/{job.id}/state?v=' in page
    assert "37\N{NO-BREAK SPACE}%" in page
    assert "4 s left" in page


def test_what_was_asked_leaves_out_what_says_nothing(trader, rows):
    plain = encode(BacktestRequest("moving_average_cross", {"short_window": 3}, {}))
    page = trader.get(f"/jobs/{a_job(rows, arguments=plain).id}").text
    for name in ("strategy type", "parameters", "capital", "data policy", "gate"):
        assert f"<dt>{name}</dt>" in page
    for name in ("data findings", "universe id", "repeats", "trials", "sweep id"):
        assert f"<dt>{name}</dt>" not in page
    chosen = {**plain, "trials": 400, "sweep_id": 7, "data_findings": ["gaps", "splits"]}
    page = trader.get(f"/jobs/{a_job(rows, arguments=chosen).id}").text
    assert "<dt>trials</dt><dd>400</dd>" in page
    assert "<dt>data findings</dt><dd>gaps, splits</dd>" in page


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_a_job_that_is_over_asks_for_nothing_more(trader, rows, state):
    job = a_job(rows, state=state, finished_at=datetime.now(UTC))
    for path in (f"/jobs/{job.id}", f"/jobs/{job.id}/state"):
        assert (
            "hx-trigger"
            not in trader.get(path, headers=PARTIAL).text.split('id="job-state"')[1].split(">")[0]
        )


def test_an_unchanged_job_costs_nothing(trader, rows):
    job = running(rows)
    fragment = trader.get(f"/jobs/{job.id}/state", headers=PARTIAL).text
    version = fragment.split("?v=")[1].split('"')[0]
    assert trader.get(f"/jobs/{job.id}/state?v={version}", headers=PARTIAL).status_code == 204


def test_following_a_job_ends_at_what_it_made(trader, rows):
    job = a_job(
        rows,
        state="done",
        result={"link": "/research/runs/7", "run_id": 7},
        finished_at=datetime.now(UTC),
    )
    answer = trader.get(f"/jobs/{job.id}/state?follow=1", headers=PARTIAL)
    assert answer.headers["HX-Redirect"] == "/research/runs/7"
    assert "HX-Redirect" not in trader.get(f"/jobs/{job.id}/state", headers=PARTIAL).headers


@pytest.mark.parametrize(
    ("follow", "seconds", "leads"),
    [("?follow=1", 0, True), ("?follow=1", 60, False), ("", 0, False)],
)
def test_a_job_that_ended_while_its_page_was_on_the_way_is_followed_too(
    trader, rows, follow, seconds, leads
):
    ended = datetime.now(UTC) - timedelta(seconds=seconds)
    job = a_job(rows, state="done", result={"link": "/research/runs/7"}, finished_at=ended)
    answer = trader.get(f"/jobs/{job.id}{follow}")
    assert (answer.status_code, answer.location) == (
        (303, "/research/runs/7") if leads else (200, None)
    )


def test_a_link_that_leads_off_this_site_is_not_followed(trader, rows):
    job = a_job(
        rows,
        state="done",
        result={"link": "https://elsewhere.example/"},
        finished_at=datetime.now(UTC),
    )
    assert (
        "HX-Redirect" not in trader.get(f"/jobs/{job.id}/state?follow=1", headers=PARTIAL).headers
    )
    assert "elsewhere" not in trader.get(f"/jobs/{job.id}").text


def test_a_refused_job_says_why_and_offers_its_form_again(trader, rows):
    job = a_job(
        rows,
        state="failed",
        progress_text="Refused",
        error="short_window: 30 must be less than long_window 30",
    )
    page = trader.get(f"/jobs/{job.id}").text
    assert "must be less than long_window" in page
    assert f"/research/new?job={job.id}" in page
    assert "<pre" not in page


def test_a_job_that_broke_shows_its_traceback(trader, rows):
    job = a_job(
        rows,
        state="failed",
        progress_text="Failed: ZeroDivisionError",
        error="Traceback\n  <b>boom</b>",
    )
    page = trader.get(f"/jobs/{job.id}").text
    assert "It broke" in page
    assert "&lt;b&gt;boom&lt;/b&gt;" in page


def test_cancelling_a_queued_job_ends_it_at_once(trader, rows):
    job = a_job(rows)
    answer = trader.post(f"/jobs/{job.id}/cancel", headers=PARTIAL)
    assert answer.headers["HX-Trigger"] == "refresh"
    rows.refresh(job)
    assert job.state == "cancelled"


def test_cancelling_a_running_job_asks_its_worker(trader, rows):
    job = running(rows)
    assert trader.post(f"/jobs/{job.id}/cancel").status_code == 303
    rows.refresh(job)
    assert (job.state, job.cancel_requested_at is not None) == ("running", True)
    assert "Cancelling…" in trader.get("/jobs").text


def test_a_viewer_sees_jobs_and_cannot_cancel_them(viewer, rows):
    job = running(rows)
    assert "Cancel" not in viewer.get(f"/jobs/{job.id}").text
    assert viewer.post(f"/jobs/{job.id}/cancel").status_code == 403


def test_the_list_is_filtered_and_leaves_out_files_somebody_only_looked_at(trader, rows):
    a_job(rows, title="Alpha", state="failed")
    a_job(rows, title="Beta")
    a_job(
        rows,
        title="Look at x.csv",
        kind="inspect",
        state="done",
        arguments={"path": "x.csv", "file_name": "x.csv"},
    )
    everything = trader.get("/jobs").text
    assert "Alpha" in everything
    assert "Beta" in everything
    assert "Look at x.csv" not in everything
    assert "Beta" not in trader.get("/jobs?state=failed").text
    assert "Alpha" not in trader.get("/jobs?state=open").text


def test_older_pages_of_the_list_are_pages_even_when_the_fragment_asks(trader, rows):
    for number in range(45):
        a_job(rows, title=f"Job {number}")
    fragment = read(trader.get("/jobs/rows", headers=PARTIAL).text)
    older = [url for name, url in fragment.urls if "before=" in url]
    assert older
    assert all(url.startswith("/jobs?") for url in older)
    page = trader.get(older[0]).text
    assert "Job 0" in page
    assert "Job 44" not in page
    assert "hx-trigger" not in page.split('id="job-rows"')[1].split(">")[0]


def test_pages_of_jobs_are_sound(app, trader, rows, settings):
    some_stocks(rows, settings)
    jobs = [
        a_job(rows), running(rows), a_job(rows, state="failed", progress_text="Failed: X", error="Traceback"),
        a_job(rows, state="failed", progress_text="Refused", error="a: b\nc: d"), a_job(rows, state="cancelled"),
    ]  # fmt: skip
    for path in ["/jobs", "/jobs?state=open", *(f"/jobs/{job.id}" for job in jobs)]:
        page = read(trader.get(path).text)
        assert page.wrong + lost_addresses(app, page) == [], path
    for job in jobs:
        fragment = read(trader.get(f"/jobs/{job.id}/state", headers=PARTIAL).text)
        assert fragment.wrong + lost_addresses(app, fragment) == []
        assert "html" not in fragment.tags


def test_a_job_done_by_a_worker_is_told_with_its_result(trader, rows, app, settings):
    app.config["JOB_WAIT_SECONDS"] = 0
    answer = trader.post("/data/sample", data={"command_id": str(uuid4())})
    job = newest_job(rows, "sample_data")
    assert answer.location == f"/jobs/{job.id}?follow=1"
    do_job(settings, job.id)
    page = trader.get(f"/jobs/{job.id}").text
    assert "12,154 daily bars" in page
    assert 'href="/data"' in page


def test_a_job_nobody_has_is_said_calmly(trader):
    assert trader.get(f"/jobs/{uuid4()}").status_code == 404


def test_waiting_without_a_worker_is_explained(trader, rows):
    job = a_job(rows)
    assert "No worker is alive" in trader.get(f"/jobs/{job.id}").text


def test_the_same_press_twice_asks_once(app, trader, rows, settings):
    app.config["JOB_WAIT_SECONDS"] = 0
    token = str(uuid4())
    first = trader.post("/data/sample", data={"command_id": token})
    second = trader.post("/data/sample", data={"command_id": token})
    assert first.location == second.location
    # Another tab has a token of its own: while the job is under way, it is the same job.
    third = trader.post("/data/sample", data={"command_id": str(uuid4())})
    assert third.location == first.location
