"""Workers and the clock as processes of their own: killed, stopped, cut off, and what becomes of jobs."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from shared import bus, queueing
from shared.db.backtests import JobAttemptRow, JobRow
from shared.db.sessions import make_sessions, plain_url
from shared.db.trading import EventRow
from shared.jobs import RUN_JOB, ImportRequest
from shared.settings import ROOT

HERE = Path(__file__).parent


class Installation:
    """Processes of one installation, all ended with the test."""

    def __init__(self, settings):
        self.settings = settings
        self.sessions = make_sessions(settings.database_url)
        self.client = bus.connect(settings.redis_url)
        self.started = []

    def start(self, process, workers=1):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE))),
            "SERAPHIM_HOME": str(self.settings.home),
            "DATABASE_URL": self.settings.database_url,
            "REDIS_URL": self.settings.redis_url,
            "SERAPHIM_WORKERS": str(workers),
        }
        command = [sys.executable, str(HERE / "job_bodies.py"), process]
        started = subprocess.Popen(command, env=environment, cwd=self.settings.home)
        self.started.append(started)
        wanted = "worker:" if process == "worker" else "clock"
        self.wait(
            lambda: (
                sum(name.startswith(wanted) for name, _ in bus.heartbeats(self.client)) >= workers
            )
        )
        return started

    def ask(self, does, **options):
        client = options.pop("client", self.client)
        request = ImportRequest(path="", file_name="", symbol=does, interval="1d")
        with self.sessions() as session:
            return queueing.ask(session, client, request, title="A test", actor="me", **options).id

    def row(self, job_id):
        with self.sessions() as session:
            return session.get_one(JobRow, job_id)

    def attempts(self, job_id):
        with self.sessions() as session:
            query = sa.select(JobAttemptRow).where(JobAttemptRow.job_id == job_id)
            return list(session.scalars(query.order_by(JobAttemptRow.number)))

    def wait_for(self, job_id, *states, seconds=10):
        self.wait(lambda: self.row(job_id).state in states, seconds)
        return self.row(job_id)

    def wait_until_busy(self, job_id):
        """The body is in the middle of its work."""
        self.wait(lambda: self.row(job_id).progress == 0.5)

    @staticmethod
    def wait(condition, seconds=10):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.02)

    def end(self):
        for process in self.started:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        self.client.close()
        self.sessions.kw["bind"].dispose()


@pytest.fixture
def installation(settings):
    made = Installation(settings)
    yield made
    made.end()


def children_of(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def is_alive(pid):
    with suppress(FileNotFoundError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_a_press_of_the_button_is_a_result_well_under_a_second_later(installation):
    installation.start("worker")
    installation.wait_for(installation.ask("quick"), "done")
    asked_at = time.monotonic()
    job = installation.wait_for(installation.ask("quick"), "done")
    assert time.monotonic() - asked_at < 1
    assert job.result["text"] == "Quick"


def test_a_job_whose_fork_is_killed_is_tried_again_at_once(installation):
    worker = installation.start("worker")
    job_id = installation.ask("first_dies")
    installation.wait_until_busy(job_id)
    [fork] = children_of(worker.pid)
    os.kill(fork, signal.SIGKILL)
    job = installation.wait_for(job_id, "done")
    assert job.result["text"] == "Attempt 2"
    first, second = installation.attempts(job_id)
    assert (first.outcome, first.error) == ("lost", "the worker died (signal SIGKILL)")
    assert second.outcome == "done"


def test_a_job_that_kills_every_worker_fails_and_the_worker_goes_on(installation):
    installation.start("worker")
    job = installation.wait_for(installation.ask("suicide"), "failed")
    assert "2 attempts" in job.error
    assert "SIGKILL" in job.error
    assert installation.wait_for(installation.ask("quick"), "done")


def test_a_job_whose_worker_is_killed_is_found_by_the_clock_and_done_by_another(installation):
    worker = installation.start("worker")
    job_id = installation.ask("first_dies")
    installation.wait_until_busy(job_id)
    [fork] = children_of(worker.pid)
    worker.kill()
    worker.wait()
    installation.wait(lambda: not is_alive(fork))  # no orphan goes on writing
    with installation.sessions() as session:  # fifteen seconds of silence, without waiting for them
        session.execute(sa.text("UPDATE job_attempts SET heartbeat_at = now() - interval '16 s'"))
        session.commit()
    installation.client.delete(*installation.client.keys("heartbeat:*"))
    installation.start("clock")
    installation.start("worker")
    job = installation.wait_for(job_id, "done")
    assert job.result["text"] == "Attempt 2"
    assert "no sign of life" in installation.attempts(job_id)[0].error


def test_a_worker_told_to_stop_gives_its_job_back_within_a_second(installation):
    worker = installation.start("worker")
    job_id = installation.ask("first_dies")
    installation.wait_until_busy(job_id)
    worker.terminate()
    assert worker.wait(timeout=3) == 0
    job = installation.row(job_id)
    assert (job.state, job.attempt) == ("queued", 2)
    assert installation.attempts(job_id)[0].outcome == "stopped"
    installation.client.delete(*installation.client.keys("heartbeat:*"))
    installation.start("worker")
    assert installation.wait_for(job_id, "done").result["text"] == "Attempt 2"


def test_a_running_job_is_cancelled_and_nothing_of_it_is_stored(installation):
    installation.start("worker")
    job_id = installation.ask("endless")
    installation.wait_until_busy(job_id)
    with installation.sessions() as session:
        assert queueing.cancel(session, installation.client, job_id) == "running"
    job = installation.wait_for(job_id, "cancelled", seconds=2)
    assert job.progress_text == "Cancelled; nothing was stored"
    with installation.sessions() as session:
        assert session.scalars(sa.select(EventRow).where(EventRow.kind == "note")).all() == []
    assert installation.wait_for(installation.ask("quick"), "done")


def test_an_attempt_that_takes_too_long_is_ended_and_says_so(installation):
    installation.start("worker")
    job_id = installation.ask("endless", client=None)
    queueing.job_queue(queueing.plain_client(installation.client)).enqueue_call(
        RUN_JOB, args=(str(job_id), 1), timeout=1
    )
    job = installation.wait_for(job_id, "failed")
    assert job.error == "Ended after 60 minutes, the longest a job may take."
    assert job.attempt == 1


def test_jobs_queued_when_redis_is_flushed_are_done_all_the_same(installation):
    asked = [installation.ask("quick") for _ in range(3)]
    installation.client.flushdb()
    installation.start("clock")
    installation.start("worker")
    for job_id in asked:
        assert installation.wait_for(job_id, "done").attempt == 1


def test_a_worker_cut_off_from_redis_finds_it_again(installation):
    installation.start("worker")
    installation.client.flushdb()
    installation.client.client_kill_filter(_type="normal", skipme=True)
    assert installation.wait_for(installation.ask("quick"), "done")


def test_a_job_lives_through_the_loss_of_every_database_connection(installation):
    installation.start("worker")
    installation.start("clock")
    job_id = installation.ask("short")
    installation.wait(lambda: installation.row(job_id).progress > 0)
    with psycopg.connect(plain_url(installation.settings.database_url)) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    job = installation.wait_for(job_id, "done")
    assert job.result["text"] == "Short"
    assert installation.wait_for(installation.ask("quick"), "done")


def test_several_workers_run_side_by_side_and_a_killed_one_is_replaced(installation):
    installation.start("clock")  # a job handed to a worker in its last moment is found again
    parent = installation.start("worker", workers=2)
    both = [installation.ask("endless") for _ in range(2)]
    for job_id in both:
        installation.wait_until_busy(job_id)
    for job_id in both:
        with installation.sessions() as session:
            queueing.cancel(session, installation.client, job_id)
        installation.wait_for(job_id, "cancelled")
    for child in children_of(parent.pid):
        os.kill(child, signal.SIGKILL)
    assert installation.wait_for(installation.ask("quick"), "done")
    parent.terminate()
    assert parent.wait(timeout=5) == 0


def test_the_clock_ends_when_told_and_frees_its_lease(installation):
    clock = installation.start("clock")
    clock.terminate()
    assert clock.wait(timeout=3) == 0
    with installation.sessions() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM engine_leases")) == 0
