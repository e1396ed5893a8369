"""Worker processes: they take attempts off the queue and run each in a fork of its own.

A fork rather than a thread or the worker itself: a job that crashes, leaks or is killed takes nothing
with it, user code is loaded fresh, and the parent sees at once how its child ended. Whatever is slow to
import is imported once, before the first fork, so a fork costs milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Final

import redis
import structlog
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from engine import jobs
from shared import bus, queueing
from shared.db.sessions import make_sessions
from shared.jobs import BULK_QUEUE, QUEUE
from shared.settings import Settings

WORKER_TTL: Final = 18
"""Seconds; RQ waits for work 15 less than this at a time, and gives a dead socket 10 more."""

MONITOR_EVERY: Final = 2
RETRY_SECONDS: Final = 1
PR_SET_PDEATHSIG: Final = 1

log = structlog.get_logger(__name__)


def main(settings: Settings) -> int:
    """Work until told to stop: `settings.workers` processes, one of them this one if it is one."""
    preload()
    if settings.workers == 1:
        return serve(settings, _name(os.getpid()), _StopFlag())
    return _serve_many(settings)


def preload() -> None:
    """Import the bodies of all jobs now, so that no job waits for it.

    One that cannot be imported fails its own jobs, with the traceback in their rows, and no others.
    Compiled functions are loaded too where they are made: `seraphim compile` does that.
    """
    for kind in jobs.BODIES:
        try:
            jobs.body(kind)
        except ImportError as error:
            log.error("worker.body_missing", kind=kind, error=str(error))
    try:
        from engine import warming
    except ImportError as error:
        log.error("worker.not_warm", error=str(error))
        return
    warming.load()


def serve(settings: Settings, name: str, stop: _StopFlag) -> int:
    """One worker: takes jobs until SIGTERM or SIGINT, and finds Redis again whenever it comes back."""
    if settings.redis_url is None or settings.database_url is None:
        raise ValueError("a worker needs the URLs of PostgreSQL and Redis")
    jobs.work_with(settings, name)
    births = 0
    while not stop.asked:
        stop.listen()
        births += 1
        try:
            connection = queueing.plain_client(bus.connect(settings.redis_url))
            worker = _QueueWorker(connection, settings, name, births, stop)
            worker.work(logging_level="WARNING")
        except (RedisError, OSError) as error:
            log.warning("worker.redis_away", error=str(error))
        if not stop.asked:
            time.sleep(RETRY_SECONDS)
    return 0


class _StopFlag:
    """Remembers that a signal asked this process to end, whoever was listening at the time."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


class _QueueWorker(Worker):
    """RQ's forking worker, made to outlive Redis and to give its job back when told to stop."""

    max_connection_wait_time = 2.0

    def __init__(
        self,
        connection: redis.Redis,
        settings: Settings,
        name: str,
        birth: int,
        stop: _StopFlag,
    ) -> None:
        super().__init__(
            [QUEUE, BULK_QUEUE],  # in this order: a sweep waits for whatever else there is
            name=f"{name}-{birth}",  # a name that RQ could not unregister is taken for a minute
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL,
            job_monitoring_interval=MONITOR_EVERY,
            log_job_description=False,
        )
        self.log_result_lifespan = False
        self._settings = settings
        self._process = f"worker:{name}"
        self._stop = stop
        self._beats = bus.connect(str(settings.redis_url))

    def subscribe(self) -> None:
        """RQ's remote commands are not used, and without their thread a fork is safe."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        super().heartbeat(timeout, pipeline)
        bus.beat(
            self._beats,
            self._process,
            at=datetime.now(UTC).isoformat(),
            state="busy" if self.horse_pid else "idle",
        )

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Redis may go while a job runs; the job does not need it."""
        try:
            super().maintain_heartbeats(job, execution)
        except RedisError as error:
            log.warning("worker.redis_away", error=str(error))

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stop.asked = True
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def handle_warm_shutdown_request(self) -> None:
        """End the running job at once: its transaction rolls back and another worker begins it anew."""
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        die_with(self.pid)
        super().main_work_horse(job, queue)

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """The fork is gone without a word: give its attempt back now instead of waiting for silence."""
        job_id, attempt = queueing.from_rq_id(job.id)
        why = "the worker was stopped" if self._stop.asked else f"the worker died ({_how(ret_val)})"
        sessions = make_sessions(str(self._settings.database_url))
        try:
            with sessions() as session:
                following = jobs.lose(session, job_id, attempt, why, stopped=self._stop.asked)
        except SQLAlchemyError as error:
            log.warning("worker.attempt_left_to_clock", job=job.id, error=str(error))
            return
        finally:
            sessions.kw["bind"].dispose()
        if following:
            queueing.wake_worker(self._beats, job_id, following)
        queueing.announce(self._beats, job_id)


def _how(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "nobody saw how"
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def die_with(parent: int | None) -> None:
    """Have Linux kill this process when `parent`, which forked it, ends: a killed worker leaves no orphan."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)


def _name(number: int) -> str:
    return f"{socket.gethostname()}-{number}"


def _serve_many(settings: Settings) -> int:
    """Several workers as children of this process; one that dies is replaced."""
    stop = _StopFlag()
    stop.listen()
    children = {_child(settings, stop) for _ in range(settings.workers)}
    told = False
    while children:
        if stop.asked and not told:
            told = True
            for child in children:
                os.kill(child, signal.SIGTERM)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            time.sleep(0.1)
            continue
        children.discard(pid)
        if not stop.asked:
            log.warning("worker.replaced", pid=pid, how=_how(status))
            time.sleep(RETRY_SECONDS)
            children.add(_child(settings, stop))
    return 0


def _child(settings: Settings, stop: _StopFlag) -> int:
    """A forked worker; its process id. It goes on listening with our flag: no signal falls in between."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with(parent)
        code = serve(settings, _name(os.getpid()), stop)
    finally:
        # Never back into the parent's code, whatever happened; its exit handlers are not ours either.
        os._exit(code)
