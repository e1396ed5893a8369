"""Users, what they ask of the engine, and what they did."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Json, Recorded, Serial, one_of


class UserRow(Base):
    """Someone who may log in. Written by the console and `seraphim user`."""

    __tablename__ = "users"
    __table_args__ = (one_of("role", "viewer", "trader", "admin"),)

    id: Mapped[Serial]
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str]
    timezone: Mapped[str] = mapped_column(default="UTC", server_default="UTC")
    theme: Mapped[str] = mapped_column(default="auto", server_default="auto")
    is_active: Mapped[bool] = mapped_column(default=True, server_default=sa.true())
    session_version: Mapped[int] = mapped_column(default=1, server_default="1")
    failed_logins: Mapped[int] = mapped_column(default=0, server_default="0")
    locked_until: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    created_at: Mapped[Recorded]


class CommandRow(Base):
    """What the console or CLI asks of the engine. Inserted by them; settled by the engine.

    Older than `expires_at` by the database's clock it is refused, never executed late. `result` is
    {"text": what happened, "link": path of the row}.
    """

    __tablename__ = "commands"
    __table_args__ = (
        one_of("state", "asked", "accepted", "done", "denied", "expired"),
        sa.Index(
            "ix_commands_unsettled", "created_at", postgresql_where="state IN ('asked', 'accepted')"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    arguments: Mapped[Json]
    actor: Mapped[str]
    engine_group: Mapped[str] = mapped_column(default="main", server_default="main")
    state: Mapped[str] = mapped_column(default="asked", server_default="asked")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[Recorded]
    expires_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class AuditRow(Base):
    """Who did what. Append-only: a trigger refuses change. Written by the console and CLI."""

    __tablename__ = "audit"

    id: Mapped[Serial]
    at: Mapped[Recorded]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(default="", server_default="")
    data: Mapped[Json]
    address: Mapped[str] = mapped_column(default="", server_default="")
