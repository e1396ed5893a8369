"""The lease: one engine trades for a group, by the database's clock.

On one host a newcomer may end the holder: a holder whose process is gone is taken over at once, and
one that lives but let its lease expire is killed by pid first. Across hosts the newcomer waits for
the expiry and the longest order deadline after it.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy.dialects.postgresql import insert

from engine.journal import LEASE_SECONDS
from engine.trading_state import frozen_lets_go
from shared.db.trading import EngineLeaseRow

log = structlog.get_logger()

LONGEST_ORDER_DEADLINE: Final = 60
"""Seconds an order sent by the old holder may still take effect at a venue."""


def this_holder() -> str:
    """Host, boot and start time of this process: a pid alone may be used again."""
    return f"{socket.gethostname()}|{_boot_id()}|{_started(os.getpid())}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rsplit(")", 1)[1].split()
    return "" if fields[0] == "Z" else fields[19]


def try_acquire(engine: sa.Engine, group: str) -> UUID | None:
    """A token when the group is ours now; None while another engine holds it."""
    seen = _read(engine, group)
    # Before anything is locked: a frozen holder may be inside a transaction that locks the row.
    if seen is not None and not _may_take(seen.holder, seen.pid, float(seen.over)):
        return None
    try:
        return _take(engine, group, None if seen is None else seen.token)
    except sa.exc.OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            return None  # somebody else is about to have it
        raise


def _read(engine: sa.Engine, group: str) -> Any:
    """The lease as it was last committed, and by how many seconds it is over."""
    query = sa.select(
        EngineLeaseRow.token,
        EngineLeaseRow.holder,
        EngineLeaseRow.pid,
        sa.extract("epoch", sa.func.clock_timestamp() - EngineLeaseRow.expires_at).label("over"),
    ).where(EngineLeaseRow.engine_group == group)
    with engine.connect() as connection:
        return connection.execute(query).one_or_none()


def _take(engine: sa.Engine, group: str, seen: UUID | None) -> UUID | None:
    """A new token, unless the lease is not the one that was seen any more."""
    token = uuid4()
    values = {
        "token": token,
        "holder": this_holder(),
        "pid": os.getpid(),
        "acquired_at": sa.func.clock_timestamp(),
        "expires_at": sa.func.clock_timestamp() + sa.text(f"interval '{LEASE_SECONDS} seconds'"),
        "last_batch": None,
    }
    with engine.begin() as connection:
        connection.execute(
            sa.select(frozen_lets_go(), sa.func.set_config("lock_timeout", "3000", sa.true()))
        )
        if seen is None:
            first = insert(EngineLeaseRow).values(engine_group=group, **values)
            first = first.on_conflict_do_nothing()
            taken = connection.scalar(first.returning(EngineLeaseRow.token))
        else:
            same = (EngineLeaseRow.engine_group == group, EngineLeaseRow.token == seen)
            change = sa.update(EngineLeaseRow).where(*same).values(values)
            taken = connection.scalar(change.returning(EngineLeaseRow.token))
    return token if taken is not None else None


def _may_take(holder: str, pid: int, seconds_over: float) -> bool:
    """Whether the holder is gone, or its time is."""
    host, boot, started = (*holder.split("|"), "", "")[:3]
    if host != socket.gethostname():
        return seconds_over > LONGEST_ORDER_DEADLINE
    alive = boot == _boot_id() and started != "" and _started(pid) == started
    if not alive or pid == os.getpid():  # we ourselves: the answer to an earlier try was lost
        return True
    if seconds_over <= 0:
        return False
    log.warning("lease.ending_holder", pid=pid)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while _started(pid) == started and time.monotonic() < deadline:
        time.sleep(0.05)
    return _started(pid) != started


def release(engine: sa.Engine, group: str, token: UUID) -> None:
    """Give the lease back, so that the next engine need not wait."""
    with engine.begin() as connection:
        connection.execute(
            sa.delete(EngineLeaseRow).where(
                EngineLeaseRow.engine_group == group, EngineLeaseRow.token == token
            )
        )
