"""Running jobs: one attempt from its start to its end, and what becomes of one whose worker died.

queued -> running -> done | failed | cancelled, and from running back to queued with the next attempt's
number when a worker died or was told to stop. Only the attempt whose number the row carries may write.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final
from uuid import UUID

import redis
import sqlalchemy as sa
import structlog
from rq.timeouts import JobTimeoutException
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from engine import bar_cache
from engine.work import (
    QUIET_KINDS,
    AttemptSuperseded,
    JobCancelled,
    JobRefused,
    Work,
    happened,
)
from shared import bus, queueing
from shared.db.backtests import JobAttemptRow, JobRow
from shared.db.sessions import make_sessions
from shared.jobs import HEARTBEAT_SECONDS, decode
from shared.settings import Settings

__all__ = [
    "BODIES",
    "AttemptSuperseded",
    "JobCancelled",
    "JobRefused",
    "Work",
    "body",
    "lose",
    "perform",
    "run_attempt",
    "work_with",
]

Body = Callable[[Any, Work], dict[str, Any]]

BODIES: Final[dict[str, str]] = {
    "backtest": "engine.backtest.job:run",
    "import": "engine.importing.job:run",
    "inspect": "engine.importing.job:inspect",
    "sample_data": "engine.importing.sample:run",
    "why": "engine.inquiry.job:run",
    "quality": "engine.quality_job:run",
    "pair_list": "engine.universe:run",
    "sweep": "engine.sweeping.planning:run",
    "sweep_chunk": "engine.sweeping.chunks:run",
}

SETTLE_FOR_SECONDS: Final = 30
TRACEBACK_CHARACTERS: Final = 4000

log = structlog.get_logger(__name__)


class _Workshop:
    """What RQ cannot carry in a JSON message: set once by each worker process."""

    settings: Settings | None = None
    worker: str = ""


def work_with(settings: Settings, worker: str) -> None:
    """Let this process run attempts."""
    _Workshop.settings, _Workshop.worker = settings, worker


def run_attempt(job_id: str, attempt: int) -> None:
    """What RQ calls. An attempt that is not the row's current, queued one is left alone."""
    settings = _Workshop.settings
    if settings is None or settings.database_url is None or settings.redis_url is None:
        raise RuntimeError("this process is no worker: call work_with(settings) first")
    # A connection made before the fork belongs to the parent: this process opens its own.
    sessions = make_sessions(settings.database_url, pool_size=3)
    client = bus.connect(settings.redis_url)
    try:
        perform(sessions, client, settings, UUID(job_id), attempt, worker=_Workshop.worker)
    finally:
        sessions.kw["bind"].dispose()
        client.close()


def body(kind: str) -> Body:
    """The function that does jobs of this kind: (request, work) -> result."""
    module, _, name = BODIES[kind].partition(":")
    found: Body = getattr(import_module(module), name)
    return found


def perform(
    sessions: sessionmaker[Session],
    client: redis.Redis | None,
    settings: Settings,
    job_id: UUID,
    attempt: int,
    *,
    worker: str,
    listener: Callable[[float, str], None] | None = None,
) -> None:
    """Run one attempt to its end, whatever that is; the row says which."""
    job = _start(sessions, job_id, attempt, worker)
    if job is None:
        log.info("job.attempt_not_current", job=str(job_id), attempt=attempt)
        return
    log.info("job.started", job=str(job_id), attempt=attempt, kind=job.kind, title=job.title)
    queueing.announce(client, job_id)
    bar_cache.use(sessions, settings)
    work = Work(sessions, settings, job, listener)
    with _heartbeat(sessions, job_id, attempt):
        outcome = _run_body(work, job)
        _settle_patiently(sessions, client, work, outcome)
    queueing.announce(client, job_id)
    log.info("job.ended", job=str(job_id), attempt=attempt, outcome=outcome.state)


class _Outcome:
    """How an attempt ended: `state` of the job, or "lost" to try it again, or "superseded"."""

    def __init__(
        self, state: str, text: str = "", error: str = "", result: dict[str, Any] | None = None
    ) -> None:
        self.state, self.text, self.error, self.result = state, text, error, result


def _start(
    sessions: sessionmaker[Session], job_id: UUID, attempt: int, worker: str
) -> JobRow | None:
    """Take the attempt, if it is still there to be taken: two workers given it get it once."""
    now = datetime.now(UTC)
    with sessions() as session:
        job = session.scalars(
            sa.update(JobRow)
            .where(JobRow.id == job_id, JobRow.attempt == attempt, JobRow.state == "queued")
            .values(
                state="running",
                started_at=sa.func.coalesce(JobRow.started_at, now),
                progress=0.0,
                progress_text="Starting",
            )
            .returning(JobRow)
        ).one_or_none()
        if job is not None:
            session.execute(
                sa.update(JobAttemptRow)
                .where(JobAttemptRow.job_id == job_id, JobAttemptRow.number == attempt)
                .values(worker=worker, started_at=now, heartbeat_at=sa.func.clock_timestamp())
            )
        session.commit()
        return job


def _run_body(work: Work, job: JobRow) -> _Outcome:
    """Everything a body can do, as an outcome. This is the one place around a job that catches all."""
    try:
        result = body(job.kind)(decode(job.kind, job.arguments), work)
    except JobCancelled:
        return _Outcome("cancelled", "Cancelled; nothing was stored")
    except AttemptSuperseded:
        return _Outcome("superseded")
    except JobRefused as refusal:
        return _Outcome("failed", "Refused", str(refusal))
    except JobTimeoutException:
        minutes = queueing.LIMIT_SECONDS // 60
        return _Outcome(
            "failed", "Took too long", f"Ended after {minutes} minutes, the longest a job may take."
        )
    except DBAPIError as error:
        if error.connection_invalidated:
            return _Outcome("lost", "PostgreSQL went away", str(error.orig))
        return _failure(error)
    except Exception as error:
        return _failure(error)
    except BaseException:
        # Ctrl-C at the command line: end the job as if it had been cancelled, then go on ending.
        _settle(work.sessions, work, _Outcome("cancelled", "Interrupted; nothing was stored"))
        raise
    return _Outcome("done", str(result.get("text") or "Done"), result=result)


def _failure(error: Exception) -> _Outcome:
    log.exception("job.failed")
    tail = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    return _Outcome("failed", f"Failed: {type(error).__name__}", tail)


def _settle_patiently(
    sessions: sessionmaker[Session], client: redis.Redis | None, work: Work, outcome: _Outcome
) -> None:
    """Write the outcome down, waiting for PostgreSQL if it is away.

    If it stays away the attempt falls silent, and `clock` tries the job again.
    """
    until = time.monotonic() + SETTLE_FOR_SECONDS
    while True:
        try:
            following = _settle(sessions, work, outcome)
        except DBAPIError as error:
            if not error.connection_invalidated or time.monotonic() > until:
                raise
            time.sleep(0.5)
        else:
            if following:
                queueing.wake_worker(client, work.job_id, following)
            return


def _settle(sessions: sessionmaker[Session], work: Work, outcome: _Outcome) -> int | None:
    """Write down how the attempt ended; the number of the next attempt if there is to be one."""
    if outcome.state == "superseded" or (outcome.state == "done" and work.finished):
        return None
    if outcome.state == "lost":
        with sessions() as session:
            return lose(session, work.job_id, work.attempt, outcome.text)
    if outcome.state == "done":
        with sessions() as session:
            try:
                work.finish(session, outcome.result or {})
            except (JobCancelled, AttemptSuperseded):
                session.rollback()
            else:
                session.commit()
                return None
        outcome = _Outcome("cancelled", "Cancelled")
    with sessions() as session:
        _end(session, work.job_id, work.attempt, outcome)
        session.commit()
    return None


def _end(session: Session, job_id: UUID, attempt: int, outcome: _Outcome) -> None:
    """failed or cancelled, if this attempt still has the say."""
    now = datetime.now(UTC)
    job = session.scalars(
        sa.update(JobRow)
        .where(JobRow.id == job_id, JobRow.attempt == attempt, JobRow.state == "running")
        .values(
            state=outcome.state,
            progress_text=outcome.text,
            error=outcome.error or None,
            finished_at=now,
        )
        .returning(JobRow)
    ).one_or_none()
    session.execute(
        sa.update(JobAttemptRow)
        .where(
            JobAttemptRow.job_id == job_id,
            JobAttemptRow.number == attempt,
            JobAttemptRow.finished_at.is_(None),
        )
        .values(outcome=outcome.state, error=outcome.error or None, finished_at=now)
    )
    if job is not None and job.kind not in QUIET_KINDS:
        said = f"{job.title}: {_first_line(outcome)}"
        severity = "bad" if outcome.state == "failed" else "info"
        session.add(happened(job_id, severity, said, None, job.requested_by))


def _first_line(outcome: _Outcome) -> str:
    """A refusal's own first line; of a traceback only that it failed, since the job's page shows it."""
    lines = outcome.error.strip().splitlines()
    if not lines or lines[0].startswith("Traceback"):
        return outcome.text
    return lines[0]


def lose(
    session: Session, job_id: UUID, attempt: int, why: str, *, stopped: bool = False
) -> int | None:
    """Give up a running attempt whose worker is gone; the number of the next attempt, if any.

    A worker that was told to stop (`stopped`) does not count against the job. Commits.
    """
    now = datetime.now(UTC)
    job = session.scalars(
        sa.select(JobRow)
        .where(JobRow.id == job_id, JobRow.attempt == attempt, JobRow.state == "running")
        .with_for_update(key_share=True, skip_locked=True)
    ).one_or_none()
    if job is None:
        # It ended after all, or is in the middle of committing its result.
        session.rollback()
        return None
    if job.cancel_requested_at is not None:
        _end(session, job_id, attempt, _Outcome("cancelled", "Cancelled; nothing was stored"))
        session.commit()
        return None
    outcome = "stopped" if stopped else "lost"
    session.execute(
        sa.update(JobAttemptRow)
        .where(JobAttemptRow.job_id == job_id, JobAttemptRow.number == attempt)
        .values(outcome=outcome, error=why, finished_at=now)
    )
    if _times_lost(session, job_id) >= job.max_attempts:
        error = f"Given up after {job.max_attempts} attempts, each of which lost its worker. Last: {why}."
        _end(session, job_id, attempt, _Outcome("failed", "Given up", error))
        session.commit()
        return None
    job.attempt = following = attempt + 1
    job.state = "queued"
    job.progress, job.progress_text = 0.0, f"Waiting to be tried again: {why}"
    session.add(JobAttemptRow(job_id=job_id, number=following))
    session.commit()
    log.warning("job.attempt_lost", job=str(job_id), attempt=attempt, why=why)
    return following


def _times_lost(session: Session, job_id: UUID) -> int:
    count = session.scalar(
        sa.select(sa.func.count()).where(
            JobAttemptRow.job_id == job_id, JobAttemptRow.outcome == "lost"
        )
    )
    return count or 0


@contextmanager
def _heartbeat(sessions: sessionmaker[Session], job_id: UUID, attempt: int) -> Iterator[None]:
    """Say every two seconds, from a thread of its own, that this attempt lives."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            try:
                with sessions() as session:
                    session.execute(
                        sa.update(JobAttemptRow)
                        .where(JobAttemptRow.job_id == job_id, JobAttemptRow.number == attempt)
                        .values(heartbeat_at=sa.func.clock_timestamp())
                    )
                    session.commit()
            except DBAPIError as error:
                # PostgreSQL is away: the next beat tries again, and `clock` waits longer than that.
                log.warning("job.heartbeat_missed", job=str(job_id), error=str(error.orig))

    thread = threading.Thread(target=beat, name=f"heartbeat {job_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=10)
