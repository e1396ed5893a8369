"""Doing a job in this process instead of leaving it to a worker; it is a row like any other."""

from __future__ import annotations

import getpass
import sys
from contextlib import suppress

import redis
from sqlalchemy.orm import Session, sessionmaker

from shared import bus, logs
from shared.db.backtests import JobRow
from shared.db.sessions import make_sessions
from shared.jobs import JobRequest
from shared.queueing import ask
from shared.settings import Settings


def do(settings: Settings, request: JobRequest, title: str, *, quiet: bool) -> JobRow:
    """Ask for the job, run it here with a line of progress, and give its row as it ended.

    If this process dies on the way, `clock` has a worker begin the job anew.
    """
    from engine.jobs import perform

    logs.configure("warning", settings.log_format, sys.stderr)
    sessions = make_sessions(settings.database_url or "")
    client = bus.connect(settings.redis_url or "")
    line = Line(on=not quiet and sys.stderr.isatty())
    try:
        with sessions() as session:
            job = ask(session, None, request, title=title, actor=actor())
        perform(sessions, client, settings, job.id, 1, worker="command line", listener=line.show)
        return _ended(sessions, job)
    finally:
        line.clear()
        sessions.kw["bind"].dispose()
        with suppress(redis.RedisError):
            client.close()


def actor() -> str:
    """Who sits at this terminal, for the record."""
    with suppress(OSError, KeyError):
        return f"{getpass.getuser()} (command line)"
    return "command line"


def _ended(sessions: sessionmaker[Session], job: JobRow) -> JobRow:
    with sessions() as session:
        return session.get_one(JobRow, job.id)


class Line:
    """One line on the terminal, written over and over."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def show(self, fraction: float, text: str) -> None:
        if self._on:
            print(f"\r\033[K{fraction:>4.0%}  {text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
