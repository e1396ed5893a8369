"""Who may not start: a strategy whose code was found to look ahead in a run."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from engine.lookahead.verdict import Answer
from shared.db.backtests import RunRow


class LeakingRun(NamedTuple):
    """The newest run of some code that was found to look ahead, and what was found."""

    run_id: int
    text: str


def leaking_run(connection: sa.Connection, type_: str, code_hash: str) -> LeakingRun | None:
    """The newest leaking run of this code under this type; None if there is none."""
    query = (
        sa.select(RunRow.id, RunRow.gate["text"].astext)
        .where(
            RunRow.strategy_type == type_,
            RunRow.code_hash == code_hash,
            RunRow.gate["verdict"].astext == Answer.LEAKS.value,
        )
        .order_by(RunRow.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return LeakingRun(row[0], row[1]) if row is not None else None


def refusal(name: str, found: LeakingRun) -> str:
    """Why a strategy is not started, and what to do."""
    return (
        f"strategy {name} cannot start: its code looks ahead. Run #{found.run_id} found that {found.text}. "
        "Change its code, run it again, and take the newest code"
    )
