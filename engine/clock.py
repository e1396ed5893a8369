"""The clock process: once a second it looks for jobs that nobody runs any more, and gives them a worker.

One clock is active, by a lease in the database; others wait for it to expire.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Final
from uuid import UUID, uuid4

import redis
import sqlalchemy as sa
import structlog
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from engine import lists_due, lot_keeping, quality_due
from engine.jobs import lose
from engine.sweeping.due import keep_going as keep_sweeps_going
from shared import bus, queueing
from shared.db.backtests import JobAttemptRow, JobRow
from shared.db.sessions import make_sessions
from shared.db.trading import EngineLeaseRow
from shared.jobs import SILENT_AFTER_SECONDS
from shared.settings import Settings

LEASE: Final = "clock"
LEASE_SECONDS: Final = 10
EVERY_SECONDS: Final = 1.0
UNQUEUED_AFTER_SECONDS: Final = 3
"""A queued job that RQ still does not know after this long was lost with Redis."""

UPLOADS_KEPT: Final = timedelta(days=7)
TIDY_EVERY: Final = timedelta(hours=1)
LOOK_OVER_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)


def main(settings: Settings) -> int:
    """Tick once a second until told to stop. PostgreSQL and Redis may come and go meanwhile."""
    if settings.database_url is None or settings.redis_url is None:
        raise ValueError("the clock needs the URLs of PostgreSQL and Redis")
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    sessions = make_sessions(settings.database_url, pool_size=1)
    client = bus.connect(settings.redis_url)
    clock = Clock(sessions, client, settings.home / "uploads")
    said = ""
    while not over.is_set():
        try:
            clock.tick()
            said = ""
        except (SQLAlchemyError, RedisError, OSError) as error:
            if said != (said := _first_line(error)):
                log.warning("clock.waiting", error=said)
        over.wait(EVERY_SECONDS)
    clock.step_down()
    sessions.kw["bind"].dispose()
    client.close()
    return 0


class Clock:
    """What one tick does, and who holds the lease."""

    def __init__(self, sessions: sessionmaker[Session], client: redis.Redis, uploads: Path) -> None:
        self._sessions = sessions
        self._client = client
        self._uploads = uploads
        self._token = uuid4()
        self._holder = f"{socket.gethostname()}-{os.getpid()}"
        self._tidied_at = datetime.min.replace(tzinfo=UTC)
        self._looked_at = 0.0

    def tick(self) -> None:
        with self._sessions() as session:
            active = self._hold_lease(session)
            if active:
                give_up_silent(session, self._client)
                wake_forgotten(session, self._client)
                keep_sweeps_going(session, self._client)
                self._tidy(session)
                lot_keeping.keep(session)
                self._look_over(session)
        process = "clock" if active else f"clock:{self._holder}"
        now = datetime.now(UTC).isoformat()
        bus.beat(self._client, process, at=now, state="active" if active else "standby")

    def _look_over(self, session: Session) -> None:
        """Bars that changed are looked over soon after, and pair lists get the days that came."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_OVER_SECONDS:
            self._looked_at = now
            quality_due.ask_when_due(session, self._client)
            lists_due.ask_when_due(session, self._client)

    def step_down(self) -> None:
        """Let another clock take over at once."""
        try:
            with self._sessions() as session:
                session.execute(
                    sa.delete(EngineLeaseRow).where(
                        EngineLeaseRow.engine_group == LEASE, EngineLeaseRow.token == self._token
                    )
                )
                session.commit()
        except DBAPIError as error:
            log.warning("clock.lease_left_to_expire", error=_first_line(error))

    def _hold_lease(self, session: Session) -> bool:
        """Take or renew the lease, by the database's clock."""
        until = sa.func.clock_timestamp() + timedelta(seconds=LEASE_SECONDS)
        mine = {"token": self._token, "holder": self._holder, "pid": os.getpid()}
        taken = session.execute(
            insert(EngineLeaseRow)
            .values(engine_group=LEASE, expires_at=until, **mine)
            .on_conflict_do_update(
                index_elements=[EngineLeaseRow.engine_group],
                set_={"expires_at": until, **mine},
                where=sa.or_(
                    EngineLeaseRow.token == self._token,
                    EngineLeaseRow.expires_at < sa.func.clock_timestamp(),
                ),
            )
            .returning(EngineLeaseRow.token)
        ).scalar()
        session.commit()
        return taken is not None

    def _tidy(self, session: Session) -> None:
        now = datetime.now(UTC)
        if now - self._tidied_at >= TIDY_EVERY:
            self._tidied_at = now
            remove_old_uploads(session, self._uploads, now - UPLOADS_KEPT)


def give_up_silent(session: Session, client: redis.Redis) -> None:
    """Running attempts without a heartbeat for too long: tried again, or failed."""
    limit = sa.func.clock_timestamp() - timedelta(seconds=SILENT_AFTER_SECONDS)
    silent = session.execute(
        sa.select(JobRow.id, JobRow.attempt)
        .join(
            JobAttemptRow,
            sa.and_(JobAttemptRow.job_id == JobRow.id, JobAttemptRow.number == JobRow.attempt),
        )
        .where(JobRow.state == "running", JobAttemptRow.heartbeat_at < limit)
    ).all()
    session.rollback()
    for job_id, attempt in silent:
        why = f"no sign of life from its worker for {SILENT_AFTER_SECONDS} s"
        following = lose(session, job_id, attempt, why)
        if following:
            queueing.wake_worker(client, job_id, following)
        queueing.announce(client, job_id)


def wake_forgotten(session: Session, client: redis.Redis) -> None:
    """Queued jobs that RQ does not know (Redis was flushed or away): queued there again."""
    limit = sa.func.clock_timestamp() - timedelta(seconds=UNQUEUED_AFTER_SECONDS)
    waiting = session.execute(
        sa.select(JobRow.id, JobRow.attempt)
        .join(
            JobAttemptRow,
            sa.and_(JobAttemptRow.job_id == JobRow.id, JobAttemptRow.number == JobRow.attempt),
        )
        .where(JobRow.state == "queued", JobAttemptRow.enqueued_at < limit)
        .order_by(JobRow.created_at)
    ).all()
    session.rollback()
    if not waiting:
        return
    known = queueing.queued_ids(client)
    for job_id, attempt in waiting:
        if queueing.rq_id(job_id, attempt) not in known:
            _wake_again(session, client, job_id, attempt)


def _wake_again(session: Session, client: redis.Redis, job_id: UUID, attempt: int) -> None:
    """A worker that has just taken it is not disturbed: an attempt starts only once."""
    session.execute(
        sa.update(JobAttemptRow)
        .where(JobAttemptRow.job_id == job_id, JobAttemptRow.number == attempt)
        .values(enqueued_at=sa.func.clock_timestamp())
    )
    session.commit()
    if queueing.wake_worker(client, job_id, attempt):
        log.info("clock.job_queued_again", job=str(job_id), attempt=attempt)


def remove_old_uploads(session: Session, uploads: Path, before: datetime) -> None:
    """Files nobody imported, and those whose import failed, go after a week."""
    if not uploads.is_dir():
        return
    wanted = {
        path
        for arguments in session.scalars(
            sa.select(JobRow.arguments).where(JobRow.state.in_(["queued", "running"]))
        )
        if (path := arguments.get("path"))
    }
    session.rollback()
    for file in uploads.iterdir():
        if file.name not in wanted and file.stat().st_mtime < before.timestamp():
            file.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
