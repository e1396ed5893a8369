"""A command's row through its life: asked, accepted, done or denied. The caller's transaction decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from shared.db.console import CommandRow


def claim(connection: sa.Connection, command_id: UUID) -> bool:
    """Take a command that is asked and in time; False when it is not any more."""
    claimed = connection.execute(
        sa.update(CommandRow)
        .where(
            CommandRow.id == command_id,
            CommandRow.state == "asked",
            CommandRow.expires_at > sa.func.clock_timestamp(),
        )
        .values(state="accepted")
    )
    return claimed.rowcount == 1


def settle(
    connection: sa.Connection, command_id: UUID, state: str, result: Mapping[str, Any]
) -> None:
    values: dict[str, Any] = {"state": state, "result": dict(result)}
    if state != "accepted":
        values["settled_at"] = sa.func.clock_timestamp()
    connection.execute(sa.update(CommandRow).where(CommandRow.id == command_id).values(values))


def settled(db: sa.Engine, command_id: UUID, state: str, result: Mapping[str, Any]) -> None:
    """`settle` in a transaction of its own."""
    with db.begin() as connection:
        settle(connection, command_id, state, result)
