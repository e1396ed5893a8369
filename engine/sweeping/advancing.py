"""What a sweep does next: ask for more chunks, ask again for lost ones, rank what was found, or end.

`advance` is called by whoever finished a chunk and, once a second, by `clock`. It works under the sweep's row
lock and inside its caller's transaction, so a chunk's results, "done" and what follows from it are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.orm import Session, undefer

from engine import catalogue
from engine.sweeping import plans, proposing
from shared import bus, queueing
from shared.db.backtests import JobAttemptRow, JobRow
from shared.db.sweeps import SweepChunkRow, SweepPointRow, SweepRow
from shared.db.trading import EventRow
from shared.domain.objectives import METRICS, objectives_from
from shared.domain.space import space_from
from shared.jobs import BULK_QUEUE, SweepChunkRequest, encode
from shared.settings import Settings

SECONDS: Final = 1.2
"""How long a chunk should compute: short enough to lose, long enough to be worth a job of its own."""

MOST_SECONDS: Final = 8.0
WORTH: Final = 3.0
"""A chunk computes at least this many times as long as it takes to begin and to store, up to MOST_SECONDS."""

PROBE: Final = 4
"""Combinations of a chunk while nobody knows how long one takes."""

MOST_AT_ONCE: Final = 2_000
FEWEST_IN_LINE: Final = 4
MOST_IN_LINE: Final = 128
MOST_FAILED: Final = 3
"""Chunks that may fail before no new ones are asked for."""

LATELY: Final = 6
UNFINISHED: Final = ("queued", "running")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk that is not done, and how its job stands."""

    number: int
    first: int
    points: int
    resumed: int
    job_state: str
    error: str

    @property
    def is_lost(self) -> bool:
        return self.job_state not in UNFINISHED


def advance(session: Session, sweep_id: int, workers: int) -> list[UUID]:
    """Bring a sweep on as far as it can go now; the new jobs, to be woken after the caller's commit.

    `workers` is how many there are to share the work.
    """
    sweep = _locked(session, sweep_id)
    if sweep is None or sweep.state == "done":
        return []
    if sweep.state in ("cancelled", "failed"):
        if sweep.wanted != "running":
            return []
        sweep.state, sweep.text, sweep.finished_at = "running", "", None
    chunks = _open_chunks(session, sweep)
    if sweep.wanted == "stopped":
        _stop(session, sweep, chunks)
        return []
    asked = [
        _ask(session, sweep, chunk.number)
        for chunk in chunks
        if chunk.is_lost and chunk.resumed < sweep.resumed
    ]
    failed = [chunk for chunk in chunks if chunk.is_lost and chunk.resumed >= sweep.resumed]
    in_line = len(chunks) - len(failed)
    if len(failed) < MOST_FAILED:
        asked += _carve(session, sweep, in_line, workers)
    if in_line or asked:
        return asked
    if failed:
        _fail(session, sweep, failed)
        return []
    return _go_on(session, sweep, workers)


def _locked(session: Session, sweep_id: int) -> SweepRow | None:
    session.flush()
    return session.scalars(
        sa.select(SweepRow)
        .where(SweepRow.id == sweep_id)
        .options(undefer(SweepRow.plan))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _open_chunks(session: Session, sweep: SweepRow) -> list[_Chunk]:
    query = (
        sa.select(
            SweepChunkRow.number,
            SweepChunkRow.first,
            SweepChunkRow.points,
            SweepChunkRow.resumed,
            JobRow.state,
            sa.func.coalesce(JobRow.error, JobRow.progress_text),
        )
        .join(JobRow, JobRow.id == SweepChunkRow.job_id)
        .where(SweepChunkRow.sweep_id == sweep.id, SweepChunkRow.done_at.is_(None))
        .order_by(SweepChunkRow.number)
    )
    return [_Chunk(*row) for row in session.execute(query)]


# --- asking for chunks ------------------------------------------------------------------------------


def _carve(session: Session, sweep: SweepRow, in_line: int, workers: int) -> list[UUID]:
    """Chunks of what is planned and not yet in one, until enough are in line."""
    asked: list[UUID] = []
    wanted = min(max(2 * workers, FEWEST_IN_LINE), MOST_IN_LINE)
    if sweep.carved >= sweep.planned or in_line >= wanted:
        return asked
    number = _next_number(session, sweep)
    beside = _beside(session, sweep)
    seconds = min(max(SECONDS, WORTH * beside), MOST_SECONDS)
    while sweep.carved < sweep.planned and in_line + len(asked) < wanted:
        points = _points(sweep, workers, seconds, beside)
        asked.append(_insert(session, sweep, number, sweep.carved, points))
        sweep.carved += points
        number += 1
    return asked


def _points(sweep: SweepRow, workers: int, seconds: float = SECONDS, beside: float = 0.0) -> int:
    """How many combinations the next chunk takes: what a worker does in so long.

    At the end a fair share, but none so small that its beginning takes longer than its work.
    """
    left = sweep.planned - sweep.carved
    if sweep.rate is None:
        return min(PROBE, left)
    share = max(math.ceil(left / max(workers, 1)), int(sweep.rate * beside))
    return max(1, min(int(sweep.rate * seconds), MOST_AT_ONCE, share, left))


def _beside(session: Session, sweep: SweepRow) -> float:
    """Seconds a chunk takes lately beside its combinations: starting, reading bars, storing."""
    if sweep.rate is None:
        return 0.0
    newest = (
        sa.select(SweepChunkRow.seconds, SweepChunkRow.points)
        .where(SweepChunkRow.sweep_id == sweep.id, SweepChunkRow.done_at.is_not(None))
        .order_by(SweepChunkRow.done_at.desc())
        .limit(LATELY)
        .subquery()
    )
    mean = sa.func.avg
    query = sa.select(mean(newest.c.seconds), mean(newest.c.points))
    seconds, points = session.execute(query).one()
    return max(0.0, float(seconds or 0) - float(points or 0) / sweep.rate)


def _next_number(session: Session, sweep: SweepRow) -> int:
    newest = sa.select(sa.func.max(SweepChunkRow.number)).where(SweepChunkRow.sweep_id == sweep.id)
    return (session.scalar(newest) or 0) + 1


def _insert(session: Session, sweep: SweepRow, number: int, first: int, points: int) -> UUID:
    job_id = _job(session, sweep, number)
    session.execute(
        sa.insert(SweepChunkRow).values(
            sweep_id=sweep.id,
            number=number,
            first=first,
            points=points,
            job_id=job_id,
            resumed=sweep.resumed,
        )
    )
    return job_id


def _ask(session: Session, sweep: SweepRow, number: int) -> UUID:
    """A new job for a chunk whose last one was lost."""
    job_id = _job(session, sweep, number)
    session.execute(
        sa.update(SweepChunkRow)
        .where(SweepChunkRow.sweep_id == sweep.id, SweepChunkRow.number == number)
        .values(job_id=job_id, resumed=sweep.resumed)
    )
    return job_id


def _job(session: Session, sweep: SweepRow, number: int) -> UUID:
    request = SweepChunkRequest(sweep.id, number)
    job_id = uuid4()
    session.execute(
        sa.insert(JobRow).values(
            id=job_id,
            kind="sweep_chunk",
            title=f"{sweep.title} · chunk {number}",
            arguments=encode(request),
            attempt=1,
            max_attempts=queueing.MAX_ATTEMPTS + 1,
            requested_by=sweep.requested_by,
        )
    )
    session.execute(sa.insert(JobAttemptRow).values(job_id=job_id, number=1))
    return job_id


# --- going on and ending ----------------------------------------------------------------------------


def _go_on(session: Session, sweep: SweepRow, workers: int) -> list[UUID]:
    """All that was planned is done: plan more, rank it, or end."""
    if sweep.method == "bayes" and sweep.planned < sweep.total:
        if _plan_more(session, sweep):
            return _carve(session, sweep, 0, workers)
        sweep.total = sweep.planned
    ranked = sa.select(sa.func.count()).where(
        SweepChunkRow.sweep_id == sweep.id, SweepChunkRow.points == 0
    )
    if not session.scalar(ranked):
        return [_insert(session, sweep, _next_number(session, sweep), sweep.planned, 0)]
    _end(session, sweep)
    return []


def _plan_more(session: Session, sweep: SweepRow) -> bool:
    """The next batch of a Bayesian search; False when there is nothing left to try."""
    from engine.sweeping.planning import Refusals  # it asks for chunks itself

    objectives = objectives_from(sweep.objectives)
    cls = catalogue.strategy_class(session.connection(), sweep.strategy_type, sweep.code_hash)
    query = sa.select(SweepPointRow.numbers).where(SweepPointRow.sweep_id == sweep.id)
    numbers = session.scalars(query.order_by(SweepPointRow.number)).all()
    tried = plans.unpack(sweep.plan)
    more = proposing.propose(
        space_from(sweep.space, sweep.constraints),
        objectives,
        tried,
        [found[: len(objectives)] for found in numbers],
        sweep.seed,
        min(proposing.BATCH, sweep.total - sweep.planned),
        Refusals(cls).keep,
    )
    sweep.plan = plans.pack([*tried, *more])
    sweep.planned += len(more)
    return bool(more)


def _stop(session: Session, sweep: SweepRow, chunks: Sequence[_Chunk]) -> None:
    """Somebody called it off: jobs in line go, running ones end by themselves, results stay."""
    numbers = [chunk.number for chunk in chunks if not chunk.is_lost]
    if not numbers:
        sweep.state = "cancelled"
        sweep.text = "Cancelled; what was found is kept"
        sweep.finished_at = datetime.now(UTC)
        _tell(session, sweep, "info", "cancelled, what was found is kept")
        return
    # One that is just being finished is locked, and is left to say so itself.
    jobs = session.scalars(
        sa.select(JobRow)
        .join(SweepChunkRow, SweepChunkRow.job_id == JobRow.id)
        .where(
            SweepChunkRow.sweep_id == sweep.id,
            SweepChunkRow.number.in_(numbers),
            JobRow.state.in_(UNFINISHED),
        )
        .with_for_update(of=JobRow, key_share=True, skip_locked=True)
        .execution_options(populate_existing=True)
    )
    now = datetime.now(UTC)
    for job in jobs:
        if job.state == "queued":
            job.state, job.finished_at = "cancelled", now
            job.progress_text = "Cancelled before it started"
        else:
            job.cancel_requested_at = job.cancel_requested_at or now


def _fail(session: Session, sweep: SweepRow, failed: Sequence[_Chunk]) -> None:
    reason = failed[0].error.strip().splitlines() or ["no reason was left"]
    told = reason[-1] if reason[0].startswith("Traceback") else reason[0]
    sweep.state, sweep.wanted, sweep.finished_at = "failed", "stopped", datetime.now(UTC)
    what = "1 chunk" if len(failed) == 1 else f"{len(failed)} chunks"
    sweep.text = f"{what} failed: {told}"
    _tell(session, sweep, "bad", sweep.text)


def _end(session: Session, sweep: SweepRow) -> None:
    sweep.state, sweep.finished_at = "done", datetime.now(UTC)
    sweep.text = _summary(session, sweep)
    _tell(session, sweep, "good", sweep.text)


def _summary(session: Session, sweep: SweepRow) -> str:
    """1,200 combinations, best Sharpe 1.42."""
    objective = objectives_from(sweep.objectives)[0]
    title, unit = METRICS[objective.metric]
    value = SweepPointRow.numbers[1]
    best = sa.func.max(value) if objective.sign > 0 else sa.func.min(value)
    found = session.scalar(sa.select(best).where(SweepPointRow.sweep_id == sweep.id))
    said = f"{sweep.planned:,} combinations"
    if found is None:
        return f"{said}, none with a {title.lower()}"
    return (
        f"{said}, best {title.lower()} {found:.2%}"
        if unit == "%"
        else f"{said}, best {title.lower()} {found:,.2f}"
    )


def _tell(session: Session, sweep: SweepRow, severity: str, text: str) -> None:
    session.add(
        EventRow(
            kind="job",
            severity=severity,
            text=f"{sweep.title}: {text}",
            link=f"/research/sweeps/{sweep.id}",
            actor=sweep.requested_by,
            happened_at=datetime.now(UTC),
        )
    )


# --- workers ----------------------------------------------------------------------------------------


def workers_alive(settings: Settings) -> int:
    """How many workers have said lately that they live; 1 where nobody knows."""
    if settings.redis_url is None:
        return 1
    try:
        with bus.connect(settings.redis_url) as client:
            return sum(name.startswith("worker:") for name, _ in bus.heartbeats(client)) or 1
    except (RedisError, OSError):
        return 1


def wake(settings: Settings, asked: Iterable[UUID]) -> None:
    """Have workers take these jobs when nothing else waits. What Redis loses, `clock` finds."""
    jobs = list(asked)
    if not jobs or settings.redis_url is None:
        return
    try:
        with bus.connect(settings.redis_url) as client:
            wake_over(client, jobs)
    except (RedisError, OSError):
        return


def wake_over(client: Any, jobs: Iterable[UUID]) -> None:
    for job_id in jobs:
        queueing.wake_worker(client, job_id, 1, BULK_QUEUE)
