"""Which trading state rules: the most restrictive request that neither expired nor was lifted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from shared.db.trading import EngineLeaseRow, TradingStateRow
from shared.domain.decisions import Decision

ORDER: Final = ("running", "reduce_only", "halted")

FROZEN_SECONDS: Final = 10.0

ALWAYS_ALLOWED: Final = ("flatten",)
"""The kill procedure's own orders pass a halt: they are how it ends."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """One request in force."""

    id: int
    scope: str
    scope_id: str
    state: str
    actor: str
    reason: str


def rulings(connection: sa.Connection) -> list[Ruling]:
    """Every request in force now, by the database's clock."""
    lifted = sa.select(TradingStateRow.lifts).where(TradingStateRow.lifts.is_not(None))
    query = sa.select(TradingStateRow).where(
        TradingStateRow.state != "running",
        TradingStateRow.id.not_in(lifted),
        sa.or_(
            TradingStateRow.expires_at.is_(None),
            TradingStateRow.expires_at > sa.func.clock_timestamp(),
        ),
    )
    return [
        Ruling(row.id, row.scope, row.scope_id, row.state, row.actor, row.reason)
        for row in connection.execute(query)
    ]


def strictest(states: Iterable[str]) -> str:
    return max(states, key=ORDER.index, default="running")


def covering(states: Iterable[Ruling], scopes: Iterable[tuple[str, str]]) -> list[Ruling]:
    wanted = {("all", ""), *scopes}
    return [ruling for ruling in states if (ruling.scope, ruling.scope_id) in wanted]


def refusal(states: Iterable[Ruling], decision: Decision, venue: str, *, reduces: bool) -> str:
    """Why these intents may not go out, or an empty string."""
    if decision.kind in ALWAYS_ALLOWED:
        return ""
    scopes = (
        ("account", str(decision.account_id)),
        ("venue", venue),
        ("strategy", str(decision.strategy_id)),
        ("instrument", str(decision.instrument_id)),
    )
    ruling = [r for r in covering(states, scopes) if not (r.state == "reduce_only" and reduces)]
    if not ruling:
        return ""
    strict = max(ruling, key=lambda r: ORDER.index(r.state))
    where = strict.scope if strict.scope == "all" else f"{strict.scope} {strict.scope_id}"
    because = f": {strict.reason}" if strict.reason else ""
    return f"trading is {strict.state.replace('_', '-')} for {where} by {strict.actor}{because}"


def frozen_lets_go() -> sa.Function[Any]:
    """Select it in a transaction that locks leases: the server ends the transaction of a process that
    is frozen in it, or a stand-by and the kill switch would wait for that process for ever."""
    return sa.func.set_config(
        "idle_in_transaction_session_timeout", str(int(FROZEN_SECONDS * 1000)), sa.true()
    )


def stop_releases(connection: sa.Connection) -> None:
    """Hold every lease until this transaction ends: no release commits after what it writes."""
    connection.execute(sa.select(frozen_lets_go()))
    # The table, not its rows: an engine that starts meanwhile has no row yet that could be locked.
    connection.execute(sa.text(f"LOCK TABLE {EngineLeaseRow.__tablename__} IN EXCLUSIVE MODE"))


def request(
    connection: sa.Connection, scope: str, scope_id: str, state: str, actor: str, reason: str
) -> int:
    """Append a request; it rules for every release that commits after it."""
    stop_releases(connection)
    return connection.execute(
        sa.insert(TradingStateRow)
        .values(scope=scope, scope_id=scope_id, state=state, actor=actor, reason=reason)
        .returning(TradingStateRow.id)
    ).scalar_one()


def lift(connection: sa.Connection, ids: Iterable[int], actor: str, reason: str) -> None:
    """Append the lifting of earlier requests."""
    for id_ in ids:
        row = connection.execute(sa.select(TradingStateRow).where(TradingStateRow.id == id_)).one()
        connection.execute(
            sa.insert(TradingStateRow).values(
                scope=row.scope,
                scope_id=row.scope_id,
                state="running",
                actor=actor,
                reason=reason,
                lifts=id_,
            )
        )
