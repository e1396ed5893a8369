"""What was so around a strategy then: trading states, its life, the market's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.why_facts import (
    DecisionFacts,
    LifeFacts,
    MarketFacts,
    StateFacts,
)
from shared.db.console import CommandRow
from shared.db.trading import (
    AccountRow,
    EngineLeaseRow,
    EquitySnapshotRow,
    EventRow,
    StrategyRow,
    TradingStateRow,
)


def machine_time(session: Session, account: AccountRow, moment: datetime) -> datetime:
    """When this machine heard of a market moment: when the first equity at or after it was recorded."""
    if account.clock == "real":
        return moment
    query = sa.select(EquitySnapshotRow.recorded_at).where(
        EquitySnapshotRow.account_id == account.id, EquitySnapshotRow.at >= moment
    )
    found = session.scalars(query.order_by(EquitySnapshotRow.at).limit(1)).first()
    return found or datetime.now(UTC)


def market_time(session: Session, account: AccountRow, machine: datetime) -> datetime | None:
    """What the market's clock said at a machine time; None while nothing was recorded."""
    if account.clock == "real":
        return machine
    query = sa.select(EquitySnapshotRow.at).where(
        EquitySnapshotRow.account_id == account.id, EquitySnapshotRow.recorded_at <= machine
    )
    return session.scalars(query.order_by(EquitySnapshotRow.at.desc()).limit(1)).first()


def states_then(
    session: Session, account: AccountRow, strategy_id: int, instrument_id: int, machine: datetime
) -> tuple[StateFacts, ...]:
    """Requests about trading in force at a machine time, for what this strategy does."""
    lift = sa.orm.aliased(TradingStateRow)
    query = sa.select(TradingStateRow).where(
        TradingStateRow.state != "running",
        TradingStateRow.created_at <= machine,
        sa.or_(TradingStateRow.expires_at.is_(None), TradingStateRow.expires_at > machine),
        ~sa.exists().where(lift.lifts == TradingStateRow.id, lift.created_at <= machine),
    )
    scopes = (
        ("account", str(account.id)),
        ("venue", account.venue),
        ("strategy", str(strategy_id)),
        ("instrument", str(instrument_id)),
    )
    rows = list(session.scalars(query.order_by(TradingStateRow.id)))
    wanted = {("all", ""), *scopes}
    return tuple(
        StateFacts(
            row.scope,
            row.scope_id,
            row.state,
            row.actor,
            row.reason,
            market_time(session, account, row.created_at),
            row.expires_at,
        )
        for row in rows
        if (row.scope, row.scope_id) in wanted
    )


def life_then(session: Session, row: StrategyRow, moment: datetime, machine: datetime) -> LifeFacts:
    """Whether the strategy was at work at the moment."""
    now = row.status if row.deleted_at is None else "deleted"
    base = LifeFacts(now=now, version=row.version)
    decided_later = row.last_moment_at is not None and row.last_moment_at >= moment
    asked = _last_command(session, row, machine)
    if asked is not None and asked.kind == "StopStrategy":
        return _with(base, "stopped", asked.settled_at, asked.actor)
    if asked is None and machine < row.created_at and not decided_later:
        return _with(base, "not_created", row.created_at, row.created_by)
    if decided_later:
        return base
    if row.status in ("failed", "quarantined"):
        return _with(base, row.status, _failed_at(session, row), "", row.status_text)
    if row.status == "stopped":
        if row.last_moment_at is None and row.started_at is None:
            return _with(base, "not_started", None, "")
        last = _last_command(session, row, None, "StopStrategy")
        return _with(base, "stopped", last.settled_at if last else None, last.actor if last else "")
    if row.started_at is not None and row.started_at > machine:
        first = _last_command(session, row, None, "StartStrategy")
        return _with(base, "not_started", row.started_at, first.actor if first else row.created_by)
    return base


def _with(
    base: LifeFacts, status: str, since: datetime | None, by: str, text: str = ""
) -> LifeFacts:
    return LifeFacts(status, since, by, text, base.now, base.version)


def _last_command(
    session: Session, row: StrategyRow, machine: datetime | None, *kinds: str
) -> CommandRow | None:
    """The newest start or stop of the strategy that was carried out (by a time)."""
    query = sa.select(CommandRow).where(
        CommandRow.kind.in_(kinds or ("StartStrategy", "StopStrategy")),
        CommandRow.state == "done",
        CommandRow.arguments["strategy_id"].astext == str(row.id),
    )
    if machine is not None:
        query = query.where(CommandRow.settled_at <= machine)
    return session.scalars(query.order_by(CommandRow.settled_at.desc()).limit(1)).one_or_none()


def _failed_at(session: Session, row: StrategyRow) -> datetime | None:
    query = sa.select(EventRow.happened_at).where(
        EventRow.kind == "strategy.failed", EventRow.link == f"/strategies/{row.id}"
    )
    return session.scalars(query.order_by(EventRow.id.desc()).limit(1)).first()


def market_then(session: Session, account: AccountRow, moment: datetime) -> MarketFacts:
    """How far the account's market was heard, and what holds it up where it was not heard so far."""
    heard = account.market_time
    now = datetime.now(UTC) if account.clock == "real" else heard
    if account.clock == "replay" and account.feed.get("state") != "playing":
        return MarketFacts(str(account.feed.get("state", "waiting")), heard, None, now)
    lease = session.execute(
        sa.select(
            EngineLeaseRow.expires_at, EngineLeaseRow.expires_at < sa.func.clock_timestamp()
        ).where(EngineLeaseRow.engine_group == account.engine_group)
    ).one_or_none()
    if lease is None or lease[1]:
        since = market_time(session, account, lease[0]) if lease else None
        return MarketFacts("away", heard, since, now)
    is_behind = heard is not None and now is not None and heard < moment <= now
    return MarketFacts("behind" if is_behind else "live", heard, None, now)


def notes_on(row: StrategyRow, decision: DecisionFacts | None) -> tuple[str, ...]:
    if decision is not None or row.version == 1:
        return ()
    return (
        f"It is version {row.version} now; what is computed again uses the code and settings of today.",
    )
