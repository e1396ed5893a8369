"""Is every process alive, does every server answer, and which versions are these?"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, render_template
from redis.exceptions import RedisError

from shared.db.trading import AccountRow, EngineLeaseRow
from webapp import accounts, auth, live
from webapp.db import db
from webapp.formats import instant
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("system", __name__, url_prefix="/system")

EXPECTED: Final = ("engine", "worker", "clock", "web")
MEANINGS: Final = {
    "engine": "decides and sends orders",
    "worker": "runs backtests and imports",
    "clock": "starts scheduled work, tries lost jobs again",
    "web": "this console",
}


@bp.get("/")
@auth.viewer
def page() -> str:
    return render_template("system/page.html", now_=state(), versions=versions())


@dataclass(frozen=True, slots=True)
class Process:
    """One that beats, or one that should and does not."""

    name: str
    what: str
    at: datetime | None
    note: str


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    answers: bool
    note: str


@dataclass(frozen=True, slots=True)
class AccountClock:
    """An account with its market's time and feed, as the engine last said."""

    account: AccountRow
    market_time: datetime | None
    feed_at: datetime | None


@dataclass(frozen=True, slots=True)
class State:
    processes: list[Process]
    servers: list[Server]
    accounts: list[AccountClock]
    leases: list[EngineLeaseRow]
    version: str


def state() -> State:
    beats = live.heartbeats()
    processes = _processes(beats)
    servers = [_postgresql(), _redis(beats)]
    clocks = [_clock(account, beats) for account in accounts.accounts()]
    leases = list(db.session.scalars(sa.select(EngineLeaseRow)))
    seen = [(c.account.id, c.market_time, c.feed_at) for c in clocks]
    held = [(lease.engine_group, lease.holder) for lease in leases]
    return State(processes, servers, clocks, leases, stamp(processes, servers, seen, held))


def _processes(beats: live.Heartbeats) -> list[Process]:
    """Those alive by name, and a line for each kind that is not."""
    found = [
        Process(
            name,
            MEANINGS.get(name.partition(":")[0], ""),
            instant(said.get("at")),
            _said(name, said),
        )
        for name, said in beats.by_process.items()
    ]
    alive = {process.name.partition(":")[0] for process in found}
    silent = [
        Process(kind, MEANINGS[kind], None, "no heartbeat")
        for kind in EXPECTED
        if kind not in alive and beats.answers and kind != "web"
    ]
    return sorted([*found, *silent], key=lambda process: (_rank(process.name), process.name))


def _rank(name: str) -> int:
    kind = name.partition(":")[0]
    return EXPECTED.index(kind) if kind in EXPECTED else len(EXPECTED)


def _said(name: str, said: dict[str, Any]) -> str:
    if name.startswith("engine"):
        loop = said.get("loop_ms")
        return f"{said.get('state', '')}{f' · one turn {loop} ms' if loop is not None else ''}"
    return str(said.get("state") or said.get("job") or "")


def _postgresql() -> Server:
    text = db.session.scalar(sa.text("SHOW server_version")) or ""
    size = db.session.scalar(sa.text("SELECT pg_size_pretty(pg_database_size(current_database()))"))
    return Server("PostgreSQL", answers=True, note=f"{text} · {size}")


def _redis(beats: live.Heartbeats) -> Server:
    if not beats.answers:
        return Server(
            "Redis", answers=False, note="does not answer: live numbers and new jobs wait"
        )
    try:
        info = live.client().info("server")
    except RedisError:
        return Server("Redis", answers=True, note="")
    return Server("Redis", answers=True, note=str(info.get("redis_version", "")))


def _clock(account: AccountRow, beats: live.Heartbeats) -> AccountClock:
    said = beats.account(account.id)
    market_time = instant(said.get("market_time")) or account.market_time
    return AccountClock(account, market_time, instant(said.get("feed_at")))


def versions() -> list[tuple[str, str]]:
    """What is running here."""
    return [
        ("Seraphim", _version("seraphim")),
        (
            "Schema",
            str(db.session.scalar(sa.text("SELECT version_num FROM alembic_version")) or ""),
        ),
        ("Python", platform.python_version()),
        ("Flask", _version("flask")),
        ("SQLAlchemy", _version("sqlalchemy")),
        ("htmx", "4.0.1"),
        ("Charts", "Lightweight Charts 5.2.1, uPlot 1.6.32"),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a checkout"


@bp.get("/state")
@auth.viewer
def part() -> Response:
    now = state()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("system/_state.html", now_=now))
