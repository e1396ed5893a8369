"""Sweeps: what is searched, the chunks its work is done in, and one row a combination."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Json, JsonList, Recorded, Serial, one_of

Numbers = sa.ARRAY(sa.Double)


class SweepRow(Base):
    """One search over parameters. Written by its job, by its chunks and by `clock`, each under the row's lock;
    the console writes `wanted` and `resumed` only.

    `space`, `constraints`, `objectives` as in SweepRequest, typed; `metrics` names what each point has
    `numbers` of. `series` are [{"series_id", "symbol", "interval", "ends_at", "hashes", ...}]. `plan` holds the combinations
    known so far, packed; `carved` of its `planned` ones are in chunks, and `total` there shall be.
    `rate` is combinations a second and worker.
    """

    __tablename__ = "sweeps"
    __table_args__ = (
        one_of("state", "running", "done", "cancelled", "failed"),
        one_of("wanted", "running", "stopped"),
    )

    id: Mapped[Serial]
    job_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("jobs.id"), unique=True)
    title: Mapped[str]
    strategy_type: Mapped[str]
    code_hash: Mapped[str] = mapped_column(sa.ForeignKey("strategy_code.hash"))
    method: Mapped[str]
    seed: Mapped[int]
    base: Mapped[Json]
    space: Mapped[JsonList]
    constraints: Mapped[JsonList]
    objectives: Mapped[JsonList]
    metrics: Mapped[JsonList]
    aggregate: Mapped[str]
    series: Mapped[JsonList]
    total: Mapped[int]
    planned: Mapped[int]
    carved: Mapped[int] = mapped_column(default=0, server_default="0")
    excluded: Mapped[int] = mapped_column(default=0, server_default="0")
    rate: Mapped[float | None] = mapped_column(sa.Double)
    wanted: Mapped[str] = mapped_column(default="running", server_default="running")
    resumed: Mapped[int] = mapped_column(default=0, server_default="0")
    state: Mapped[str] = mapped_column(default="running", server_default="running")
    text: Mapped[str] = mapped_column(default="", server_default="")
    simulated: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    plan: Mapped[bytes] = mapped_column(deferred=True)
    requested_by: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[Recorded]
    finished_at: Mapped[datetime | None]


class SweepChunkRow(Base):
    """Some combinations of the plan, done by one job. One of no points ranks the others. Written by the
    sweep's job, its own job and `clock`.

    `resumed` is the sweep's count of resumptions when `job_id` was asked for: a job that was lost before the
    last one is asked for again.
    """

    __tablename__ = "sweep_chunks"

    sweep_id: Mapped[int] = mapped_column(
        sa.ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[int]
    points: Mapped[int]
    job_id: Mapped[UUID] = mapped_column(sa.ForeignKey("jobs.id"))
    resumed: Mapped[int] = mapped_column(default=0, server_default="0")
    seconds: Mapped[float | None] = mapped_column(sa.Double)
    done_at: Mapped[datetime | None]


class SweepPointRow(Base):
    """One combination and what came of it. Written by its chunk's job; `plateau` and `is_best` by the last one.

    `numbers` are the values of the sweep's metrics over all series, NULL where one is not defined;
    `by_series` the same of each series, one after the other, where there are several. `error` says why there are none.
    """

    __tablename__ = "sweep_points"

    sweep_id: Mapped[int] = mapped_column(
        sa.ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    parameters: Mapped[Json]
    numbers: Mapped[list[Any]] = mapped_column(Numbers)
    by_series: Mapped[list[Any] | None] = mapped_column(Numbers)
    error: Mapped[str | None]
    plateau: Mapped[float | None] = mapped_column(sa.Double)
    is_best: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
