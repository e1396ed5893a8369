"""Sweeps that should go on and have nobody to take them on: looked for by `clock`, once a second."""

from __future__ import annotations

import redis
import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from engine.sweeping import advancing
from shared import bus
from shared.db.sweeps import SweepRow


def keep_going(session: Session, client: redis.Redis) -> None:
    """Take every unfinished sweep on: resumed ones, those called off, those whose last chunk was lost."""
    query = sa.select(SweepRow.id).where(
        sa.or_(SweepRow.state == "running", SweepRow.wanted == "running"), SweepRow.state != "done"
    )
    unfinished = session.scalars(query.order_by(SweepRow.id)).all()
    if not unfinished:
        session.rollback()
        return
    workers = _workers(client)
    for sweep_id in unfinished:
        asked = advancing.advance(session, sweep_id, workers)
        session.commit()
        advancing.wake_over(client, asked)


def _workers(client: redis.Redis) -> int:
    try:
        return sum(name.startswith("worker:") for name, _ in bus.heartbeats(client)) or 1
    except (RedisError, OSError):
        return 1
