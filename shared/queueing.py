"""Asking for a job, and calling it off. The row is the truth; RQ only wakes a worker for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import redis
import sqlalchemy as sa
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, scoped_session

from shared import bus
from shared.db.backtests import JobAttemptRow, JobRow
from shared.jobs import BULK_QUEUE, QUEUE, RUN_JOB, JobRequest, encode, kind_of

LIMIT_SECONDS: Final = 3600
"""No attempt runs longer than this; RQ ends it and the job fails with that as its reason."""

KEEP_RESULT_SECONDS: Final = 60
"""How long RQ remembers an attempt that ended. Nothing reads it: the row says how it went."""

MAX_ATTEMPTS: Final = 2

AnySession = Session | scoped_session[Any]


def ask(
    session: AnySession,
    client: redis.Redis | None,
    request: JobRequest,
    *,
    title: str,
    actor: str,
    request_key: str | None = None,
    max_attempts: int = MAX_ATTEMPTS,
) -> JobRow:
    """The job row for `request`, committed and queued.

    The same `request_key` again gives the row of the first time. With Redis away (or `client` of None)
    the row stays queued, and `clock` wakes a worker for it later.
    """
    job_id = uuid4()
    inserted = session.execute(
        insert(JobRow)
        .values(
            id=job_id,
            kind=kind_of(request),
            title=title,
            arguments=encode(request),
            request_key=request_key,
            attempt=1,
            max_attempts=max_attempts,
            requested_by=actor,
        )
        .on_conflict_do_nothing(index_elements=[JobRow.request_key])
        .returning(JobRow.id)
    ).scalar()
    if inserted is None:
        session.commit()
        return session.scalars(sa.select(JobRow).where(JobRow.request_key == request_key)).one()
    session.add(JobAttemptRow(job_id=job_id, number=1))
    session.commit()
    wake_worker(client, job_id, 1)
    return session.get_one(JobRow, job_id)


def cancel(session: AnySession, client: redis.Redis | None, job_id: UUID) -> str | None:
    """Call a job off; its state afterwards, or None for no such job.

    A queued job is cancelled at once, a running one as soon as its worker looks up: it stays "running"
    with `cancel_requested_at` set until then. A job that is over stays as it is.
    """
    now = datetime.now(UTC)
    cancelled = session.execute(
        sa.update(JobRow)
        .where(JobRow.id == job_id, JobRow.state == "queued")
        .values(
            state="cancelled",
            cancel_requested_at=now,
            finished_at=now,
            progress_text="Cancelled before it started",
        )
        .returning(JobRow.attempt)
    ).scalar()
    if cancelled is None:
        session.execute(
            sa.update(JobRow)
            .where(JobRow.id == job_id, JobRow.state == "running")
            .values(cancel_requested_at=sa.func.coalesce(JobRow.cancel_requested_at, now))
        )
    else:
        session.execute(
            sa.update(JobAttemptRow)
            .where(JobAttemptRow.job_id == job_id, JobAttemptRow.number == cancelled)
            .values(finished_at=now, outcome="cancelled")
        )
    session.commit()
    announce(client, job_id)
    return session.scalar(sa.select(JobRow.state).where(JobRow.id == job_id))


def rq_id(job_id: UUID, attempt: int) -> str:
    """How RQ knows one attempt. (RQ 3 takes no dot in an id.)"""
    return f"{job_id}_{attempt}"


def from_rq_id(text: str) -> tuple[UUID, int]:
    """(job, attempt) again."""
    job_id, _, attempt = text.partition("_")
    return UUID(job_id), int(attempt)


def wake_worker(client: redis.Redis | None, job_id: UUID, attempt: int, queue: str = QUEUE) -> bool:
    """Put one attempt on the queue; False when Redis does not take it."""
    if client is None:
        return False
    try:
        with plain_client(client) as plain:
            job_queue(plain, queue).enqueue_call(
                RUN_JOB,
                args=(str(job_id), attempt),
                job_id=rq_id(job_id, attempt),
                timeout=LIMIT_SECONDS,
                result_ttl=KEEP_RESULT_SECONDS,
                failure_ttl=KEEP_RESULT_SECONDS,
                description=f"attempt {attempt} at job {job_id}",
            )
    except (RedisError, OSError):
        return False
    announce(client, job_id)
    return True


def announce(client: redis.Redis | None, job_id: UUID) -> None:
    """Tell open pages that a job changed. May be lost."""
    if client is None:
        return
    try:
        bus.publish(client, "job", id=str(job_id))
    except (RedisError, OSError):
        return


def job_queue(client: redis.Redis, name: str = QUEUE) -> Queue:
    """A queue; JSON only, so nothing but text crosses and nobody unpickles."""
    return Queue(name, connection=client, serializer=JSONSerializer)


def queued_ids(client: redis.Redis) -> set[str]:
    """Every attempt that RQ has in line, as `rq_id` tells it."""
    with plain_client(client) as plain:
        return {one for name in (QUEUE, BULK_QUEUE) for one in job_queue(plain, name).get_job_ids()}


def plain_client(client: redis.Redis) -> redis.Redis:
    """A client of the same server that leaves bytes as they are, as RQ needs it."""
    pool = client.connection_pool
    options: dict[str, Any] = {**pool.connection_kwargs, "decode_responses": False}
    plain = redis.ConnectionPool(connection_class=pool.connection_class, **options)
    return redis.Redis.from_pool(plain)
