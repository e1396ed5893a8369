"""Jobs and what backtest runs leave behind."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Json, JsonList, Recorded, Serial, one_of


class JobRow(Base):
    """Long work asked for once. Inserted by the console and CLI; afterwards written by the current attempt
    and by `clock`.

    `request_key` makes a double click one job. `result` holds ids to link to ({"run_id": 218}).
    """

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("state", "queued", "running", "done", "failed", "cancelled"),
        sa.Index(None, "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    arguments: Mapped[Json]
    request_key: Mapped[str | None] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(default="queued", server_default="queued")
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    max_attempts: Mapped[int] = mapped_column(default=2, server_default="2")
    progress: Mapped[float] = mapped_column(sa.Double, default=0.0, server_default="0")
    progress_text: Mapped[str] = mapped_column(default="", server_default="")
    cancel_requested_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    error: Mapped[str | None]
    requested_by: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[Recorded]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobAttemptRow(Base):
    """One try at a job by one worker. Its heartbeat stopping is its death. Written by the worker and `clock`."""

    __tablename__ = "job_attempts"

    job_id: Mapped[UUID] = mapped_column(sa.ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str] = mapped_column(default="", server_default="")
    enqueued_at: Mapped[Recorded]
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[str | None]


class RunRow(Base):
    """One backtest: what was asked, which code and data answered, and the numbers. Written by its job.

    `metrics` is {name: {"value": float|null, "reason": str, "n": int, "how": str}}; `options` holds
    capital, costs, sizing and risk policy; `inputs` as in strategies, with `source` and data hash. `gate` is what
    `engine.lookahead` found, as `Verdict.as_json` gives it; None for a run that was not examined.
    `request` is the `BacktestRequest` with the code it ran; `provenance` as `engine.backtest.provenance` keeps it;
    `repeats` the run that was asked for again. `notes`, `tags` and `favourite` are the console's to write.
    """

    __tablename__ = "runs"
    __table_args__ = (
        sa.Index(
            "ix_runs_leaking",
            "code_hash",
            "strategy_type",
            postgresql_where=sa.text("gate ->> 'verdict' = 'leaks'"),
        ),
    )

    id: Mapped[Serial]
    job_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("jobs.id"), unique=True)
    strategy_type: Mapped[str]
    code_hash: Mapped[str] = mapped_column(sa.ForeignKey("strategy_code.hash"))
    parameters: Mapped[Json]
    inputs: Mapped[Json]
    options: Mapped[Json]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    bars: Mapped[int]
    engine: Mapped[str]
    elapsed_seconds: Mapped[float] = mapped_column(sa.Double)
    metrics: Mapped[Json]
    gate: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    digest: Mapped[str]
    request: Mapped[Json] = mapped_column(default=dict, server_default="{}")
    provenance: Mapped[Json] = mapped_column(default=dict, server_default="{}")
    repeats: Mapped[int | None] = mapped_column(
        sa.ForeignKey("runs.id", ondelete="SET NULL"), index=True
    )
    notes: Mapped[str] = mapped_column(default="", server_default="")
    tags: Mapped[JsonList] = mapped_column(default=list, server_default="[]")
    favourite: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    simulated: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    requested_by: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[Recorded]


class InstallationDiffRow(Base):
    """What an installation's work tree had changed since its commit, zlib-compressed, by the SHA-256 of all of it.

    Of very long ones only the beginning is kept. Written by backtest jobs.
    """

    __tablename__ = "installation_diffs"

    hash: Mapped[str] = mapped_column(primary_key=True)
    diff: Mapped[bytes]
    recorded_at: Mapped[Recorded]


class RunTradeRow(Base):
    """One round trip of a run: from flat to flat in one instrument. Open ones have no exit. Written by its job.

    `instrument_id` is one of the run's inputs, which its job has read: asking the database again for every
    row would take as long as storing it. Instruments are never deleted.
    """

    __tablename__ = "run_trades"

    run_id: Mapped[int] = mapped_column(
        sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    instrument_id: Mapped[int]
    side: Mapped[str]
    quantity: Mapped[Decimal]
    entry_at: Mapped[datetime]
    entry_price: Mapped[Decimal]
    exit_at: Mapped[datetime | None]
    exit_price: Mapped[Decimal | None]
    fees: Mapped[Decimal]
    pnl: Mapped[Decimal]
    return_fraction: Mapped[float] = mapped_column(sa.Double)
    bars_held: Mapped[int]
    exit_reason: Mapped[str]
    tag: Mapped[str] = mapped_column(default="", server_default="")


class RunFillRow(Base):
    """One fill of a run; `instrument_id` as with its trades. Written by its job."""

    __tablename__ = "run_fills"

    run_id: Mapped[int] = mapped_column(
        sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    instrument_id: Mapped[int]
    side: Mapped[str]
    leg: Mapped[str]
    quantity: Mapped[Decimal]
    price: Mapped[Decimal]
    fee: Mapped[Decimal]
    filled_at: Mapped[datetime]


class RunSeriesRow(Base):
    """A column of a run as zlib-compressed little-endian bytes, float64 unless said. Written by its job.

    Names: times (see `shared.domain.clock`), equity, exposure, close, ledger (JSON lines), decisions or told (see `shared.db.run_decisions`), and what a report reads, as
    `engine.backtest.report` has it: stretch, stretch.exposure, day, day.equity, day.hold, trade.return, trade.mae, trade.mfe
    (float32), tables (JSON).
    """

    __tablename__ = "run_series"

    run_id: Mapped[int] = mapped_column(
        sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[bytes]
