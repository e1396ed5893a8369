"""One attempt at one job, run in this process: what its row says at the end."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from engine import clock, jobs
from shared import bus, queueing
from shared.db.backtests import JobAttemptRow, JobRow
from shared.db.sessions import make_sessions
from shared.db.trading import EngineLeaseRow, EventRow
from shared.jobs import ImportRequest


@pytest.fixture
def sessions(settings):
    made = make_sessions(settings.database_url)
    yield made
    made.kw["bind"].dispose()


@pytest.fixture
def client(settings):
    with bus.connect(settings.redis_url) as made:
        yield made


@pytest.fixture(autouse=True)
def our_bodies(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(jobs.BODIES, "import", "job_bodies:run")


def a_request(does, path=""):
    return ImportRequest(path=path, file_name="", symbol=does, interval="1d")


def ask(sessions, does, client=None, **options):
    with sessions() as session:
        return queueing.ask(session, client, a_request(does), title="A test", actor="me", **options)


def done_here(sessions, settings, does, attempt=1, **options):
    """Ask for a job and run it in this process; its row afterwards."""
    job = ask(sessions, does, **options)
    jobs.perform(sessions, None, settings, job.id, attempt, worker="here")
    return row(sessions, job.id)


def row(sessions, job_id):
    with sessions() as session:
        return session.get_one(JobRow, job_id)


def attempts(sessions, job_id):
    with sessions() as session:
        query = sa.select(JobAttemptRow).where(JobAttemptRow.job_id == job_id)
        return list(session.scalars(query.order_by(JobAttemptRow.number)))


def told(sessions, kind="job"):
    with sessions() as session:
        query = sa.select(EventRow).where(EventRow.kind == kind).order_by(EventRow.id)
        return [(event.severity, event.text, event.link) for event in session.scalars(query)]


def age_heartbeat(sessions, job_id, seconds):
    with sessions() as session:
        session.execute(
            sa.update(JobAttemptRow)
            .where(JobAttemptRow.job_id == job_id)
            .values(
                heartbeat_at=JobAttemptRow.heartbeat_at - timedelta(seconds=seconds),
                enqueued_at=JobAttemptRow.enqueued_at - timedelta(seconds=seconds),
            )
        )
        session.commit()


def start(sessions, does, **options):
    """A job whose attempt has begun and whose worker is then not heard of again."""
    job = ask(sessions, does, **options)
    with sessions() as session:
        session.execute(sa.update(JobRow).where(JobRow.id == job.id).values(state="running"))
        session.execute(
            sa.update(JobAttemptRow)
            .where(JobAttemptRow.job_id == job.id)
            .values(heartbeat_at=sa.func.clock_timestamp())
        )
        session.commit()
    return job


def test_a_job_that_ends_well_says_so_with_its_result_and_is_told_as_an_event(sessions, settings):
    job = done_here(sessions, settings, "quick")
    assert (job.state, job.progress, job.progress_text) == ("done", 1.0, "Quick")
    assert job.result == {"text": "Quick", "link": "/somewhere"}
    assert job.started_at <= job.finished_at
    assert [one.outcome for one in attempts(sessions, job.id)] == ["done"]
    assert told(sessions) == [("good", "A test: Quick", "/somewhere")]


def test_a_body_can_store_its_rows_and_done_in_one_transaction(sessions, settings):
    job = done_here(sessions, settings, "stores")
    assert job.state == "done"
    assert len(told(sessions, "note")) == 1
    assert len(told(sessions)) == 1


def test_a_refusal_shows_its_message_and_is_not_tried_again(sessions, settings):
    job = done_here(sessions, settings, "refused")
    assert (job.state, job.error) == ("failed", "line 7, Close: is no number.")
    assert job.attempt == 1
    assert told(sessions) == [("bad", "A test: line 7, Close: is no number.", f"/jobs/{job.id}")]


def test_a_mistake_of_ours_fails_with_its_traceback_and_is_not_tried_again(sessions, settings):
    job = done_here(sessions, settings, "broken")
    assert job.state == "failed"
    assert job.error.startswith("Traceback")
    assert "RuntimeError: a mistake of ours" in job.error
    assert told(sessions) == [("bad", "A test: Failed: RuntimeError", f"/jobs/{job.id}")]


def test_an_attempt_taken_for_dead_writes_nothing(sessions, settings):
    job = done_here(sessions, settings, "superseded")
    assert (job.state, job.attempt, job.result) == ("queued", 2, None)
    assert told(sessions, "note") == []
    assert [one.outcome for one in attempts(sessions, job.id)] == ["lost", None]


def test_an_attempt_starts_only_once_however_often_it_is_queued(sessions, settings):
    job = done_here(sessions, settings, "quick")
    jobs.perform(sessions, None, settings, job.id, 1, worker="here too")
    assert len(told(sessions)) == 1


def test_an_attempt_of_an_unknown_job_is_left_alone(sessions, settings):
    jobs.perform(sessions, None, settings, uuid4(), 1, worker="here")
    assert told(sessions) == []


def test_pressing_the_button_twice_is_one_job(sessions, client):
    first = ask(sessions, "quick", client, request_key="form 1")
    second = ask(sessions, "quick", client, request_key="form 1")
    assert first.id == second.id
    assert queueing.job_queue(queueing.plain_client(client)).get_job_ids() == [f"{first.id}_1"]


def test_a_job_asked_for_while_redis_is_away_stays_queued(sessions):
    nobody = bus.connect("redis://127.0.0.1:1/0")
    job = ask(sessions, "quick", nobody)
    assert row(sessions, job.id).state == "queued"


def test_a_queued_job_is_cancelled_at_once(sessions, settings, client):
    job = ask(sessions, "quick", client)
    with sessions() as session:
        assert queueing.cancel(session, client, job.id) == "cancelled"
    jobs.perform(sessions, None, settings, job.id, 1, worker="here")
    assert row(sessions, job.id).state == "cancelled"
    assert [one.outcome for one in attempts(sessions, job.id)] == ["cancelled"]


def test_cancelling_what_is_over_changes_nothing(sessions, settings, client):
    job = done_here(sessions, settings, "quick")
    with sessions() as session:
        assert queueing.cancel(session, client, job.id) == "done"
        assert queueing.cancel(session, client, uuid4()) is None
    assert row(sessions, job.id).cancel_requested_at is None


def test_progress_says_how_many_how_fast_and_how_long_yet(sessions, settings):
    heard = []
    job = ask(sessions, "short")
    jobs.perform(
        sessions, None, settings, job.id, 1, worker="here",
        listener=lambda fraction, text: heard.append((fraction, text)),
    )  # fmt: skip
    assert 3 <= len(heard) <= 7  # a second's work, told at most five times a second
    fraction, text = heard[-1]
    assert 0.5 < fraction < 1
    assert "of 20 steps" in text
    assert "a second" in text


def test_the_clock_tries_a_silent_attempt_again(sessions, client):
    job = start(sessions, "quick")
    age_heartbeat(sessions, job.id, 14)
    with sessions() as session:
        clock.give_up_silent(session, client)
    assert row(sessions, job.id).attempt == 1
    age_heartbeat(sessions, job.id, 2)
    with sessions() as session:
        clock.give_up_silent(session, client)
    tried = row(sessions, job.id)
    assert (tried.state, tried.attempt) == ("queued", 2)
    assert "no sign of life" in tried.progress_text
    assert queueing.job_queue(queueing.plain_client(client)).get_job_ids() == [f"{job.id}_2"]


def test_a_job_that_loses_every_worker_fails_and_says_how_often(sessions, client):
    job = start(sessions, "quick", max_attempts=1)
    age_heartbeat(sessions, job.id, 16)
    with sessions() as session:
        clock.give_up_silent(session, client)
    failed = row(sessions, job.id)
    assert failed.state == "failed"
    assert "1 attempts" in failed.error
    assert "no sign of life" in failed.error
    assert [event[0] for event in told(sessions)] == ["bad"]


def test_a_silent_attempt_somebody_cancelled_is_cancelled_not_tried_again(sessions, client):
    job = start(sessions, "quick")
    age_heartbeat(sessions, job.id, 16)
    with sessions() as session:
        assert queueing.cancel(session, client, job.id) == "running"
        clock.give_up_silent(session, client)
    assert row(sessions, job.id).state == "cancelled"


def test_a_worker_told_to_stop_does_not_count_against_the_job(sessions):
    job = start(sessions, "quick", max_attempts=1)
    with sessions() as session:
        assert jobs.lose(session, job.id, 1, "the worker was stopped", stopped=True) == 2
    assert row(sessions, job.id).state == "queued"


def test_an_attempt_in_the_middle_of_committing_is_not_taken_for_dead(sessions, settings):
    job = start(sessions, "quick")
    work = jobs.Work(sessions, settings, row(sessions, job.id))
    with sessions() as committing, sessions() as other:
        work.finish(committing, {"text": "just so"})
        assert jobs.lose(other, job.id, 1, "taken for dead") is None
        committing.commit()
    assert row(sessions, job.id).state == "done"


def test_a_queued_job_that_redis_forgot_is_queued_there_again(sessions, client):
    job = ask(sessions, "quick", client)
    client.flushdb()
    with sessions() as session:
        clock.wake_forgotten(session, client)
    assert not client.exists("rq:queue:jobs")  # it may be on its way still
    age_heartbeat(sessions, job.id, 4)
    with sessions() as session:
        clock.wake_forgotten(session, client)
        clock.wake_forgotten(session, client)
    assert queueing.job_queue(queueing.plain_client(client)).get_job_ids() == [f"{job.id}_1"]


def test_one_clock_is_active_and_another_takes_over_when_it_steps_down(sessions, client, tmp_path):
    first, second = (clock.Clock(sessions, client, tmp_path) for _ in range(2))
    first.tick()
    second.tick()
    states = {name: said["state"] for name, said in bus.heartbeats(client)}
    assert sorted(states.values()) == ["active", "standby"]
    with sessions() as session:
        held = session.scalars(sa.select(EngineLeaseRow.token)).all()
    first.step_down()
    second.tick()
    with sessions() as session:
        assert session.scalars(sa.select(EngineLeaseRow.token)).all() != held


def test_a_clock_that_died_is_replaced_once_its_lease_is_over(sessions, client, tmp_path):
    clock.Clock(sessions, client, tmp_path).tick()
    with sessions() as session:
        session.execute(
            sa.update(EngineLeaseRow).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC))
        )
        session.commit()
    second = clock.Clock(sessions, client, tmp_path)
    second.tick()
    assert dict(bus.heartbeats(client))["clock"]["state"] == "active"


def test_uploads_nobody_needs_go_after_a_week(sessions, tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    for name in ("wanted.csv", "old.csv", "new.csv"):
        (uploads / name).write_text("x")
    with sessions() as session:
        queueing.ask(session, None, a_request("quick", "wanted.csv"), title="t", actor="me")
        a_week_ago = datetime.now(UTC) - clock.UPLOADS_KEPT
        for name in ("wanted.csv", "old.csv"):
            os.utime(uploads / name, (0, a_week_ago.timestamp() - 1))
        clock.remove_old_uploads(session, uploads, a_week_ago)
    assert sorted(file.name for file in uploads.iterdir()) == ["new.csv", "wanted.csv"]
