"""A sweep done by processes of this command: they take its chunks as any worker would, beside any worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.orm import Session, sessionmaker

from engine import clock, warming
from engine.jobs import perform
from engine.sweeping import advancing
from engine.worker import die_with
from shared import bus, queueing
from shared.db.backtests import JobRow
from shared.db.sessions import make_sessions
from shared.db.sweeps import SweepChunkRow, SweepRow
from shared.settings import Settings

REST_SECONDS: Final = 0.1
KEEP_EVERY_SECONDS: Final = 1.0
OVER: Final = ("done", "cancelled", "failed")
MOST_BIRTHS: Final = 3
"""Processes started for each one wanted, before they are taken to be unable to live."""


class Crew:
    """`workers` processes at one sweep, and what `clock` would do for it while there is none."""

    def __init__(self, settings: Settings, sweep_id: int, workers: int) -> None:
        self._settings = settings
        self._sweep_id = sweep_id
        self._workers = max(workers, 1)
        self._sessions = make_sessions(settings.database_url or "", pool_size=1)
        self._began = time.monotonic()
        self._kept = 0.0
        self._done_before = self._done()
        if workers:
            warming.make_ready()
            warming.load()  # here, once: every fork takes it over
        self._fork = multiprocessing.get_context("fork")
        self._births = 0
        self._children = [self._child() for _ in range(workers)]

    def is_over(self) -> bool:
        """Whether the sweep has ended; takes it on where nobody else does."""
        if time.monotonic() - self._kept >= KEEP_EVERY_SECONDS:
            self._kept = time.monotonic()
            self._keep_going()
        with self._sessions() as session:
            state = session.scalar(sa.select(SweepRow.state).where(SweepRow.id == self._sweep_id))
        return state in OVER

    def is_lost(self) -> bool:
        """Whether its processes keep ending; one that died is replaced meanwhile."""
        dead = [child for child in self._children if not child.is_alive()]
        if not dead or self._births >= MOST_BIRTHS * self._workers:
            return bool(dead) and len(dead) == len(self._children)
        for child in dead:
            self._children.remove(child)
            self._children.append(self._child())
        return False

    def _child(self) -> BaseProcess:
        self._births += 1
        self._sessions.kw["bind"].dispose()  # a fork must not inherit an open connection
        of = (self._settings, self._sweep_id, os.getpid())
        child = self._fork.Process(target=_take_chunks, args=of, daemon=True)
        child.start()
        return child

    def progress(self) -> tuple[float, str]:
        """(share, "120 of 400 combinations · 85 a second · 3 s left")."""
        done, total = self._done(), self._total()
        rate = (done - self._done_before) / max(time.monotonic() - self._began, 1e-9)
        text = f"{done:,} of {total:,} combinations · {rate:,.1f} a second"
        left = f" · {(total - done) / rate:,.0f} s left" if rate else ""
        return done / max(total, 1), text + left

    def call_off(self) -> None:
        """Stop within a moment; what was found is kept."""
        with self._sessions() as session:
            session.execute(
                sa.update(SweepRow).where(SweepRow.id == self._sweep_id).values(wanted="stopped")
            )
            session.commit()
            for job_id in _open_jobs(session, self._sweep_id):
                queueing.cancel(session, None, job_id)
        until = time.monotonic() + 10
        while not self.is_over() and time.monotonic() < until:
            time.sleep(REST_SECONDS)

    def end(self) -> str:
        """Let every process go; the state the sweep is in."""
        for child in self._children:
            child.join(timeout=5)
            if child.is_alive():
                child.terminate()
        with self._sessions() as session:
            state = session.scalar(sa.select(SweepRow.state).where(SweepRow.id == self._sweep_id))
        self._sessions.kw["bind"].dispose()
        return str(state)

    def _keep_going(self) -> None:
        with self._sessions() as session:
            advancing.advance(session, self._sweep_id, self._workers)
            session.commit()
            try:
                with bus.connect(self._settings.redis_url or "") as client:
                    clock.give_up_silent(session, client)
            except (RedisError, OSError):
                return

    def _done(self) -> int:
        query = sa.select(sa.func.coalesce(sa.func.sum(SweepChunkRow.points), 0)).where(
            SweepChunkRow.sweep_id == self._sweep_id, SweepChunkRow.done_at.is_not(None)
        )
        with self._sessions() as session:
            return int(session.scalar(query) or 0)

    def _total(self) -> int:
        with self._sessions() as session:
            return session.get_one(SweepRow, self._sweep_id).total


def _open_jobs(session: Session, sweep_id: int, *states: str) -> Sequence[UUID]:
    query = (
        sa.select(JobRow.id)
        .join(SweepChunkRow, SweepChunkRow.job_id == JobRow.id)
        .where(SweepChunkRow.sweep_id == sweep_id, JobRow.state.in_(states or advancing.UNFINISHED))
        .order_by(SweepChunkRow.number)
    )
    return session.scalars(query).all()


def _take_chunks(settings: Settings, sweep_id: int, parent: int) -> None:
    """One process: chunks in line, one after the other, until the sweep is over."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command hears Ctrl-C and calls the sweep off
    sessions = make_sessions(settings.database_url or "", pool_size=3)
    try:
        while _take_one(sessions, settings, sweep_id):
            pass
    finally:
        sessions.kw["bind"].dispose()


def _take_one(sessions: sessionmaker[Session], settings: Settings, sweep_id: int) -> bool:
    """Do one chunk, or rest a moment; False once the sweep is over."""
    with sessions() as session:
        state = session.scalar(sa.select(SweepRow.state).where(SweepRow.id == sweep_id))
        waiting = _open_jobs(session, sweep_id, "queued")
        found = session.execute(sa.select(JobRow.id, JobRow.attempt).where(JobRow.id.in_(waiting)))
        attempts = dict(found.all())
    if state in OVER:
        return False
    if not waiting:
        time.sleep(REST_SECONDS)
        return True
    # Another process may take it first: an attempt starts only once, and this one looks again.
    job_id = waiting[os.getpid() % min(len(waiting), 4)]
    perform(
        sessions, None, settings, job_id, attempts[job_id], worker=f"command line {os.getpid()}"
    )
    return True
