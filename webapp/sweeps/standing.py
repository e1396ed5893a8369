"""How a sweep stands: what is done, how fast, how long still, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from flask import abort

from shared.db.backtests import JobRow, RunRow
from shared.db.sweeps import SweepChunkRow, SweepPointRow, SweepRow
from shared.domain.objectives import METRICS, Objective, objectives_from
from webapp import live
from webapp.db import db
from webapp.formats import NOTHING, money, percent, quantity, signed_percent

WINDOW: Final = timedelta(seconds=20)
"""How far back the present speed is measured."""

TONES: Final = {
    "running": "info",
    "stopping": "warning",
    "waiting": "",
    "done": "good",
    "cancelled": "warning",
    "failed": "bad",
}
WORDS: Final = {"grid": "grid", "random": "random", "bayes": "Bayesian"}
SIGNED: Final = ("total_return", "cagr")


@dataclass(frozen=True, slots=True)
class Standing:
    """`done` of `total` combinations have their numbers, `bad` of them an error instead. `rate` is combinations
    a second now, all workers together; `failed` and `running` count chunks."""

    state: str
    done: int
    total: int
    share: float
    bad: int
    rate: float
    left: timedelta | None
    took: timedelta | None
    failed: int
    running: int
    queued: int

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "cancelled", "failed")


def sweep_of(sweep_id: int) -> SweepRow:
    row = db.session.get(SweepRow, sweep_id)
    return row if row is not None else abort(404)


def standing(sweep: SweepRow) -> Standing:
    return standings([sweep])[sweep.id]


def standings(sweeps: Sequence[SweepRow]) -> dict[int, Standing]:
    """Of several sweeps in two queries."""
    ids = [sweep.id for sweep in sweeps]
    chunks = {row.sweep_id: row for row in db.session.execute(_chunks(ids))}
    query = (
        sa.select(SweepPointRow.sweep_id, sa.func.count())
        .where(SweepPointRow.sweep_id.in_(ids), SweepPointRow.error.is_not(None))
        .group_by(SweepPointRow.sweep_id)
    )
    bad: dict[int, int] = {row[0]: row[1] for row in db.session.execute(query)}
    now = live.now()
    return {s.id: _standing(s, chunks.get(s.id), bad.get(s.id, 0), now) for s in sweeps}


def _chunks(ids: Sequence[int]) -> sa.Select[Any]:
    is_done = SweepChunkRow.done_at.is_not(None)
    lately = SweepChunkRow.done_at > sa.func.clock_timestamp() - WINDOW
    points = SweepChunkRow.points

    def total(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
        return sa.func.coalesce(sa.func.sum(points).filter(*conditions), 0)

    def number(*states: str) -> sa.ColumnElement[Any]:
        return sa.func.count().filter(~is_done, JobRow.state.in_(states))

    under_way = sa.func.coalesce(
        sa.func.sum(points * JobRow.progress).filter(~is_done, JobRow.state == "running"), 0.0
    )
    return (
        sa.select(
            SweepChunkRow.sweep_id,
            total(is_done).label("done"),
            total(lately).label("lately"),
            sa.func.min(JobRow.started_at).filter(lately).label("since"),
            under_way.label("under_way"),
            number("failed").label("failed"),
            number("running").label("running"),
            number("queued").label("queued"),
        )
        .join(JobRow, JobRow.id == SweepChunkRow.job_id)
        .where(SweepChunkRow.sweep_id.in_(ids))
        .group_by(SweepChunkRow.sweep_id)
    )


def _standing(sweep: SweepRow, chunks: Any, bad: int, now: datetime) -> Standing:
    done = int(chunks.done) if chunks else 0
    share = min(1.0, (done + float(chunks.under_way if chunks else 0)) / max(sweep.total, 1))
    rate = _rate(chunks, now)
    state = _state(sweep, chunks)
    seconds = (1 - share) * sweep.total / rate if rate and state == "running" else None
    return Standing(
        state=state,
        done=done,
        total=sweep.total,
        share=1.0 if sweep.state == "done" else share,
        bad=bad,
        rate=rate,
        left=None if seconds is None else timedelta(seconds=seconds),
        took=(sweep.finished_at or now) - sweep.created_at,
        failed=int(chunks.failed) if chunks else 0,
        running=int(chunks.running) if chunks else 0,
        queued=int(chunks.queued) if chunks else 0,
    )


def _rate(chunks: Any, now: datetime) -> float:
    if chunks is None or not chunks.lately or chunks.since is None:
        return 0.0
    seconds: float = (now - chunks.since).total_seconds()
    return float(chunks.lately) / max(seconds, 0.2)


def _state(sweep: SweepRow, chunks: Any) -> str:
    """The row's state as it is about to be: what people asked for since counts."""
    if sweep.state == "running" and sweep.wanted == "stopped":
        return "stopping"
    if sweep.state in ("cancelled", "failed") and sweep.wanted == "running":
        return "running"
    is_waiting = chunks is not None and not chunks.running and not chunks.done and chunks.queued
    return "waiting" if sweep.state == "running" and is_waiting else sweep.state


# --- what it is about -------------------------------------------------------------------------------


def objectives(sweep: SweepRow) -> tuple[Objective, ...]:
    return objectives_from(sweep.objectives)


def varied(sweep: SweepRow) -> list[dict[str, Any]]:
    """The axes with more than one value."""
    return [axis for axis in sweep.space if len(axis.get("values", ("low", "high"))) > 1]


def axis_text(axis: dict[str, Any]) -> str:
    """5 to 24, 20 values."""
    if "values" not in axis:
        return f"{quantity(axis['low'])} to {quantity(axis['high'])}"
    values = axis["values"]
    if len(values) <= 5 or isinstance(values[0], str | bool):
        return ", ".join(value_text(value) for value in values)
    return f"{value_text(min(values))} to {value_text(max(values))}, {len(values)} values"


def value_text(value: Any) -> str:
    """A parameter's value as a table shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def metric_title(metric: str) -> str:
    return METRICS[metric][0] if metric in METRICS else metric.replace("_", " ").capitalize()


def metric_unit(metric: str) -> str:
    return METRICS[metric][1] if metric in METRICS else ""


def metric_text(metric: str, value: float | None) -> str:
    """A number as a person reads it."""
    if value is None:
        return NOTHING
    unit = metric_unit(metric)
    if unit == "%":
        return signed_percent(value) if metric in SIGNED else percent(value)
    if unit == "count":
        return quantity(round(value, 2))
    return money(value)


def leaking_run(sweep: SweepRow) -> Any:
    """The newest run of the same code that was found to look ahead, as (id, text); None if there is none."""
    query = (
        sa.select(RunRow.id, RunRow.gate["text"].astext.label("text"))
        .where(
            RunRow.code_hash == sweep.code_hash,
            RunRow.strategy_type == sweep.strategy_type,
            RunRow.gate["verdict"].astext == "leaks",
        )
        .order_by(RunRow.id.desc())
        .limit(1)
    )
    return db.session.execute(query).one_or_none()


def seconds_for(type_name: str, runs: int, bars: float, workers: int) -> float | None:
    """About how long so many runs of a type take, by the speed of its newest sweep; None without one."""
    query = (
        sa.select(SweepRow.rate, SweepRow.series)
        .where(SweepRow.strategy_type == type_name, SweepRow.rate.is_not(None))
        .order_by(SweepRow.id.desc())
        .limit(1)
    )
    found = db.session.execute(query).one_or_none()
    if found is None or not found.rate:
        return None
    before = sum(float(one.get("bars") or 0) for one in found.series)
    return runs * bars / max(before, 1.0) / found.rate / max(workers, 1) if before else None
