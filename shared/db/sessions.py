"""Connections to PostgreSQL that work behind a pooler: no prepared statements, no session state."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker


def driver_url(url: str) -> str:
    """The URL as SQLAlchemy wants it, whatever spelling a platform hands out."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def plain_url(url: str) -> str:
    """The URL as psycopg wants it."""
    return driver_url(url).replace("postgresql+psycopg://", "postgresql://", 1)


def make_engine(url: str, **options: Any) -> sa.Engine:
    """An engine whose connections are checked before use, so that a restarted server is met with a new one."""
    return sa.create_engine(
        driver_url(url),
        pool_pre_ping=True,
        connect_args={"prepare_threshold": None, "connect_timeout": 5},
        **options,
    )


def make_sessions(url: str, **options: Any) -> sessionmaker[Session]:
    return sessionmaker(make_engine(url, **options), expire_on_commit=False)
