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
from typing import Final
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

from engine.journal import LEASE_SECONDS
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
    token = uuid4()
    expiry = sa.func.clock_timestamp() + sa.text(f"interval '{LEASE_SECONDS} seconds'")
    values = {
        "token": token,
        "holder": this_holder(),
        "pid": os.getpid(),
        "acquired_at": sa.func.clock_timestamp(),
        "expires_at": expiry,
        "last_batch": None,
    }
    with engine.begin() as connection:
        row = connection.execute(
            sa.select(
                EngineLeaseRow.holder,
                EngineLeaseRow.pid,
                sa.extract("epoch", sa.func.clock_timestamp() - EngineLeaseRow.expires_at).label(
                    "over"
                ),
            )
            .where(EngineLeaseRow.engine_group == group)
            .with_for_update()
        ).one_or_none()
        if row is None:
            statement = insert(EngineLeaseRow).values(engine_group=group, **values)
            taken = statement.on_conflict_do_nothing().returning(EngineLeaseRow.token)
            return token if connection.scalar(taken) is not None else None
        if not _may_take(row.holder, row.pid, float(row.over)):
            return None
        connection.execute(
            sa.update(EngineLeaseRow).where(EngineLeaseRow.engine_group == group).values(values)
        )
    return token


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
