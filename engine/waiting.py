"""Waiting for others: a database that must answer, and a Redis that may be away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
import sqlalchemy as sa
import structlog

from engine.journal import is_away

log = structlog.get_logger()
T = TypeVar("T")

LOOK_SECONDS: Final = 1.0
"""How often the engine looks at rows nobody told it about."""


async def answered(work: Callable[..., T], *args: Any) -> T:
    """Blocking database work in a thread, again and again while the database is away."""
    while True:
        try:
            return await asyncio.to_thread(work, *args)
        except sa.exc.DBAPIError as error:
            if not is_away(error):
                raise
            log.warning("engine.database_away", error=str(error.orig)[:200])
            await asyncio.sleep(0.5)


async def unless_away(work: Callable[..., Any], *args: Any, **named: Any) -> None:
    """Redis may be away: nothing depends on it."""
    try:
        await asyncio.to_thread(work, *args, **named)
    except redis.RedisError as error:
        log.warning("engine.redis_away", error=str(error)[:200])
        await asyncio.sleep(LOOK_SECONDS)
