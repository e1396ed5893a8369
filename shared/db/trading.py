"""Accounts, strategies, decisions, orders, fills, positions, ledger: all written by the engine alone."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Json, JsonList, Recorded, Serial, one_of


def _listed(time: str, id_: str, *narrowed: str) -> tuple[sa.Index, ...]:
    """Indexes for a list of an account by time, all of it and narrowed to one value of a column.

    With them the deepest page is found as fast as the first one.
    """
    columns: tuple[tuple[str, ...], ...] = ((), *((name,) for name in narrowed))
    return tuple(sa.Index(None, "account_id", *more, time, id_) for more in columns)


class AccountRow(Base):
    """Money at one venue, on one market clock. Written by the engine.

    `market_time` is the last moment whose results are committed: a restart goes on from there.
    `feed` says what a simulated or replay account listens to (seed, series, start, end, speed);
    `matching` how paper orders meet bars; `margin` whether it may sell short and borrow, and at what cost.
    """

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("kind", "internal", "venue_paper", "live"),
        one_of("clock", "real", "simulated", "replay"),
        one_of("lot_method", "fifo", "lifo", "hifo", "average"),
        sa.CheckConstraint("clock_speed > 0", name="clock_speed_positive"),
    )

    id: Mapped[Serial]
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    venue: Mapped[str]
    base_asset: Mapped[str]
    engine_group: Mapped[str] = mapped_column(default="main", server_default="main")
    clock: Mapped[str]
    clock_speed: Mapped[float] = mapped_column(sa.Double, default=1.0, server_default="1")
    market_started_at: Mapped[datetime | None]
    market_time: Mapped[datetime | None]
    feed: Mapped[Json]
    costs: Mapped[Json]
    risk_policy: Mapped[Json]
    matching: Mapped[Json] = mapped_column(server_default="{}")
    margin: Mapped[Json] = mapped_column(server_default="{}")
    lot_method: Mapped[str] = mapped_column(default="fifo", server_default="fifo")
    dust_value: Mapped[Decimal | None]
    peak_equity: Mapped[Decimal | None]
    state: Mapped[str] = mapped_column(default="open", server_default="open")
    created_at: Mapped[Recorded]


class StrategyCodeRow(Base):
    """Source of a strategy file, by the SHA-256 of its bytes. Written by the engine or `seraphim strategies`."""

    __tablename__ = "strategy_code"
    __table_args__ = (one_of("origin", "built-in", "user"),)

    hash: Mapped[str] = mapped_column(primary_key=True)
    file_name: Mapped[str]
    source: Mapped[str]
    origin: Mapped[str]
    created_at: Mapped[Recorded]


class StrategyTypeRow(Base):
    """The catalogue: one row a strategy type, or a file that failed to load (`error` has its traceback).

    `schema` lists the parameters as the console's form needs them. Written by the engine.
    """

    __tablename__ = "strategy_types"

    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    doc: Mapped[str]
    file_name: Mapped[str]
    origin: Mapped[str]
    code_hash: Mapped[str] = mapped_column(sa.ForeignKey("strategy_code.hash"))
    schema: Mapped[JsonList]
    error: Mapped[str | None]
    updated_at: Mapped[Recorded]


class StrategyRow(Base):
    """A configured, startable strategy. Written by the engine, on command.

    `inputs` maps each input key to {"instrument_id", "interval", "trades"}; `state` holds the standing
    targets and the strategy's own state, saved with each moment.
    """

    __tablename__ = "strategies"
    __table_args__ = (
        sa.Index(
            "uq_strategies_name_kept", "name", unique=True, postgresql_where="deleted_at IS NULL"
        ),
        one_of("desired", "running", "stopped"),
        one_of("status", "running", "stopped", "failed", "quarantined"),
        sa.CheckConstraint("allocation > 0", name="allocation_positive"),
    )

    id: Mapped[Serial]
    name: Mapped[str]
    type: Mapped[str]
    code_hash: Mapped[str] = mapped_column(sa.ForeignKey("strategy_code.hash"))
    parameters: Mapped[Json]
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    inputs: Mapped[Json]
    allocation: Mapped[Decimal]
    sizing: Mapped[Json]
    desired: Mapped[str] = mapped_column(default="stopped", server_default="stopped")
    status: Mapped[str] = mapped_column(default="stopped", server_default="stopped")
    status_text: Mapped[str] = mapped_column(default="", server_default="")
    state: Mapped[Json]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    last_moment_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[Recorded]
    deleted_at: Mapped[datetime | None]


class DecisionRow(Base):
    """Why it did, or did not, trade. Written by the engine, in the transaction that releases its intents."""

    __tablename__ = "decisions"
    __table_args__ = (
        one_of("outcome", "ordered", "denied", "refused", "nothing"),
        *_listed("decided_at", "id", "strategy_id", "instrument_id", "outcome"),
        sa.Index(None, "strategy_id", "decided_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategies.id"))
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"))
    decided_at: Mapped[datetime]
    kind: Mapped[str]
    target: Mapped[float | None] = mapped_column(sa.Double)
    previous: Mapped[float | None] = mapped_column(sa.Double)
    because: Mapped[str]
    tag: Mapped[str] = mapped_column(default="", server_default="")
    bar: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    price: Mapped[Decimal | None]
    checks: Mapped[JsonList]
    steps: Mapped[JsonList]
    outcome: Mapped[str]
    reason: Mapped[str]
    recorded_at: Mapped[Recorded]


class OrderIntentRow(Base):
    """What we decided to send, committed before any venue hears of it. Never updated. Written by the engine."""

    __tablename__ = "order_intents"
    __table_args__ = (
        one_of("side", "buy", "sell"),
        one_of("type", "market", "limit", "stop", "stop_limit", "trailing_stop", "take_profit"),
        one_of("time_in_force", "gtc", "ioc", "fok", "gtd", "day"),
        sa.CheckConstraint("quantity > 0", name="quantity_positive"),
        sa.CheckConstraint("value > 0", name="value_positive"),
        sa.CheckConstraint(
            "parent_id IS NOT NULL OR (quantity IS NULL) <> (value IS NULL)",
            name="quantity_or_value",
        ),
        sa.Index(None, "decision_id"),
        sa.Index(None, "strategy_id", "decided_at"),
    )

    client_order_id: Mapped[UUID] = mapped_column(primary_key=True)
    decision_id: Mapped[UUID] = mapped_column(sa.ForeignKey("decisions.id"))
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategies.id"))
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"))
    leg: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    parent_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("order_intents.client_order_id"))
    side: Mapped[str]
    type: Mapped[str]
    quantity: Mapped[Decimal | None]
    value: Mapped[Decimal | None]
    limit_price: Mapped[Decimal | None]
    stop_price: Mapped[Decimal | None]
    distance: Mapped[Decimal | None]
    fraction: Mapped[Decimal | None]
    reduce_only: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    tag: Mapped[str] = mapped_column(default="", server_default="")
    time_in_force: Mapped[str] = mapped_column(default="gtc", server_default="gtc")
    expires_at: Mapped[datetime | None]
    post_only: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    oco: Mapped[UUID | None]
    decided_at: Mapped[datetime]
    released_at: Mapped[Recorded]


class OrderRow(Base):
    """Where an order stands: the projection of its events. Written by the engine."""

    __tablename__ = "orders"
    __table_args__ = (
        one_of(
            "state",
            "new",
            "held",
            "submitted",
            "working",
            "cancelling",
            "unknown",
            "filled",
            "cancelled",
            "expired",
            "rejected",
        ),
        sa.Index(
            "ix_orders_open",
            "account_id",
            postgresql_where="state NOT IN ('filled', 'cancelled', 'expired', 'rejected')",
        ),
        *_listed("decided_at", "client_order_id", "strategy_id", "instrument_id", "state"),
        sa.Index(None, "account_id", "updated_at", "client_order_id"),
        sa.Index(None, "account_id", "filled_value", "client_order_id"),
    )

    client_order_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("order_intents.client_order_id"), primary_key=True
    )
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategies.id"))
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"))
    decided_at: Mapped[datetime]
    state: Mapped[str]
    quantity: Mapped[Decimal | None]
    filled_quantity: Mapped[Decimal] = mapped_column(default=0, server_default="0")
    filled_value: Mapped[Decimal] = mapped_column(default=0, server_default="0")
    fees: Mapped[Decimal] = mapped_column(default=0, server_default="0")
    stop_price: Mapped[Decimal | None]
    limit_price: Mapped[Decimal | None]
    venue_order_id: Mapped[str] = mapped_column(default="", server_default="")
    reason: Mapped[str] = mapped_column(default="", server_default="")
    revision: Mapped[int] = mapped_column(default=0, server_default="0")
    ended: Mapped[str | None]
    is_triggered: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    updated_at: Mapped[datetime]


class OrderEventRow(Base):
    """One thing that happened to an order, in the order we heard it. Append-only. Written by the engine."""

    __tablename__ = "order_events"
    __table_args__ = (sa.UniqueConstraint("client_order_id", "key"),)

    id: Mapped[Serial]
    client_order_id: Mapped[UUID] = mapped_column(sa.ForeignKey("order_intents.client_order_id"))
    kind: Mapped[str]
    key: Mapped[str]
    happened_at: Mapped[datetime]
    data: Mapped[Json]
    recorded_at: Mapped[Recorded]


class FillRow(Base):
    """Part of an order traded: unique by (venue, account, venue fill id). Append-only. Written by the engine."""

    __tablename__ = "fills"
    __table_args__ = (
        sa.UniqueConstraint("venue", "account_id", "venue_fill_id"),
        one_of("side", "buy", "sell"),
        sa.CheckConstraint("quantity > 0", name="quantity_positive"),
        sa.CheckConstraint("price > 0", name="price_positive"),
        *_listed("filled_at", "id", "strategy_id", "instrument_id"),
        sa.Index(None, "account_id", "realised", "id"),
        sa.Index(None, "account_id", "fee", "id"),
        sa.Index(None, "client_order_id"),
    )

    id: Mapped[Serial]
    venue: Mapped[str]
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    venue_fill_id: Mapped[str]
    client_order_id: Mapped[UUID] = mapped_column(sa.ForeignKey("order_intents.client_order_id"))
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategies.id"))
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"))
    side: Mapped[str]
    quantity: Mapped[Decimal]
    price: Mapped[Decimal]
    fee: Mapped[Decimal]
    fee_asset: Mapped[str]
    liquidity: Mapped[str]
    realised: Mapped[Decimal] = mapped_column(default=0, server_default="0")
    filled_at: Mapped[datetime]
    recorded_at: Mapped[Recorded]


class PositionRow(Base):
    """The sum of a strategy's fills in one instrument; `strategy_id` of NULL is unassigned. Written by the engine."""

    __tablename__ = "positions"
    __table_args__ = (
        sa.UniqueConstraint(
            "account_id", "strategy_id", "instrument_id", postgresql_nulls_not_distinct=True
        ),
    )

    id: Mapped[Serial]
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategies.id"))
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"))
    quantity: Mapped[Decimal]
    cost: Mapped[Decimal]
    realised: Mapped[Decimal]
    fees: Mapped[Decimal]
    opened_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class LedgerEntryRow(Base):
    """One amount of one asset from book `credit` to book `debit`: balanced by construction.

    Append-only. Unique by (account, reference, leg), so nothing is booked twice. Written by the engine.
    """

    __tablename__ = "ledger_entries"
    __table_args__ = (
        sa.UniqueConstraint("account_id", "reference", "leg"),
        sa.CheckConstraint("amount > 0 AND amount <> 'NaN'", name="amount_positive"),
        sa.CheckConstraint("debit <> credit", name="moves"),
        *_listed("at", "id", "strategy_id", "instrument_id", "kind", "asset"),
        sa.Index(None, "account_id", "amount", "id"),
        sa.Index(None, "account_id", "id"),
        sa.Index(None, "account_id", "strategy_id", "instrument_id", "at", "id"),
    )

    id: Mapped[Serial]
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategies.id"))
    at: Mapped[datetime]
    kind: Mapped[str]
    asset: Mapped[str]
    amount: Mapped[Decimal]
    debit: Mapped[str]
    credit: Mapped[str]
    reference: Mapped[str]
    leg: Mapped[str]
    instrument_id: Mapped[int | None] = mapped_column(sa.ForeignKey("instruments.id"))
    note: Mapped[str] = mapped_column(default="", server_default="")
    worth: Mapped[Decimal | None]
    recorded_at: Mapped[Recorded]


class EquitySnapshotRow(Base):
    """Marked equity at one market time, with the quantities and marks it was made of. Written by the engine.

    `equity` of NULL means a holding had no mark or no conversion path: unknown, and entries are denied.
    `holdings` is [{"asset", "quantity", "mark", "value"}].
    """

    __tablename__ = "equity_snapshots"

    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    equity: Mapped[Decimal | None]
    cash: Mapped[Decimal]
    holdings: Mapped[JsonList]
    recorded_at: Mapped[Recorded]


class TradingStateRow(Base):
    """Append-only requests; the most restrictive one neither expired nor lifted rules. Written by the engine,
    on command, and by `seraphim kill`.

    `scope` is all, account, venue, strategy or instrument; `scope_id` its id as text. A row with
    `lifts` set lifts that earlier row.
    """

    __tablename__ = "trading_states"
    __table_args__ = (
        one_of("scope", "all", "account", "venue", "strategy", "instrument"),
        one_of("state", "running", "reduce_only", "halted"),
    )

    id: Mapped[Serial]
    scope: Mapped[str]
    scope_id: Mapped[str] = mapped_column(default="", server_default="")
    state: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[Recorded]
    expires_at: Mapped[datetime | None]
    lifts: Mapped[int | None] = mapped_column(sa.ForeignKey("trading_states.id"), unique=True)


class EngineLeaseRow(Base):
    """Who may trade for a group, until when by the database's clock. Written by the engine that holds it.

    `last_batch` is the newest commit of the holder's journal: after a cut connection it answers
    whether that commit happened. Every release updates this row, so whoever locks it stops releases.
    """

    __tablename__ = "engine_leases"

    engine_group: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[UUID]
    holder: Mapped[str]
    pid: Mapped[int]
    last_batch: Mapped[UUID | None]
    acquired_at: Mapped[Recorded]
    expires_at: Mapped[datetime]


class EventRow(Base):
    """What happened, in a sentence, for "What happened" and for toasts. Append-only. Written by the engine
    and by jobs.

    `severity` is info, good, warning or bad; `link` is the console path of the row it speaks of.
    """

    __tablename__ = "events"
    __table_args__ = (one_of("severity", "info", "good", "warning", "bad"),)

    id: Mapped[Serial]
    account_id: Mapped[int | None] = mapped_column(sa.ForeignKey("accounts.id"))
    kind: Mapped[str]
    severity: Mapped[str]
    text: Mapped[str]
    link: Mapped[str] = mapped_column(default="", server_default="")
    actor: Mapped[str] = mapped_column(default="", server_default="")
    happened_at: Mapped[datetime]
    recorded_at: Mapped[Recorded]
