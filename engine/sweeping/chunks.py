"""The job that does one chunk of a sweep: bars once, every combination on them, rows and "done" in one commit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from engine import series_content
from engine.backtest.specification import Specification
from engine.sweeping import advancing, plans, ranking
from engine.sweeping.evaluation import Evaluated, evaluate
from engine.sweeping.planning import looked_up
from engine.work import JobRefused, Work
from shared.db.sweeps import SweepChunkRow, SweepPointRow, SweepRow
from shared.domain.objectives import aggregated, objectives_from, usual
from shared.domain.space import Combination, axis_from
from shared.jobs import BacktestRequest, SweepChunkRequest

ROWS_AT_ONCE = 1000
_POINTS = SweepPointRow.metadata.tables["sweep_points"]
"""Rows without objects: making those would take longer than storing them."""

SMOOTHING = 0.5
"""How much the newest chunk's speed counts against those before."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk with what its sweep says about it."""

    sweep: SweepRow
    first: int
    combinations: list[Combination]

    @property
    def metrics(self) -> list[str]:
        return list(self.sweep.metrics)


def run(request: SweepChunkRequest, work: Work) -> dict[str, Any]:
    """The body of a chunk's job."""
    started = time.monotonic()
    with work.sessions() as session:
        piece = _piece(session, request)
    if not piece.combinations:
        return _rank(request, work, piece.sweep)
    done = [_on_series(work, piece, place) for place in range(len(piece.sweep.series))]
    rows = _rows(piece, [found for found, _ in done])
    with work.sessions() as session:
        work.hold(session)
        insert = sa.insert(_POINTS)
        for first in range(0, len(rows), ROWS_AT_ONCE):
            session.execute(insert, rows[first : first + ROWS_AT_ONCE])
        _remember_rate(session, piece, math.fsum(seconds for _, seconds in done))
        seconds = time.monotonic() - started
        return _done(session, request, work, seconds, f"{len(rows):,} combinations")


def _piece(session: Session, request: SweepChunkRequest) -> _Piece:
    sweep = session.get(SweepRow, request.sweep_id, options=[undefer(SweepRow.plan)])
    chunk = session.get(SweepChunkRow, (request.sweep_id, request.number))
    if sweep is None or chunk is None:
        raise JobRefused(
            f"sweep_id: there is no chunk {request.number} of sweep {request.sweep_id}"
        )
    if chunk.done_at is not None:
        raise JobRefused(f"number: chunk {request.number} is done already")
    return _Piece(sweep, chunk.first, plans.unpack(sweep.plan, chunk.first, chunk.points))


def _on_series(work: Work, piece: _Piece, place: int) -> tuple[list[Evaluated], float]:
    """Every combination of the chunk on one series, and the seconds it took once the bars were there."""
    specification = _specification(work, piece, place)
    several = len(piece.sweep.series)

    def progress(fraction: float) -> None:
        done = (place + fraction) / several
        work.progress(done, f"{done * len(piece.combinations):,.0f} of {len(piece.combinations):,}")

    started = time.monotonic()
    seed = int(piece.sweep.base.get("seed", 0))
    found = evaluate(specification, piece.combinations, piece.metrics, progress, seed)
    return found, time.monotonic() - started


def _specification(work: Work, piece: _Piece, place: int) -> Specification:
    """The run on one series; JobRefused when its bars are not those the sweep began with."""
    sweep = piece.sweep
    series = sweep.series[place]
    base = BacktestRequest(
        **{**sweep.base, "ends_at": series["ends_at"], "data_policy": "warn"}
    )  # refused or not was decided when the sweep was planned
    with work.sessions() as session:
        series_content.one_moment(session)
        asked = looked_up(
            session, base, sweep.code_hash, int(series["series_id"]), piece.combinations[0]
        )
    hashes = {key: one["used_hash"] for key, one in asked.inputs.items()}
    if hashes != series["hashes"]:
        raise JobRefused(
            f"main: the bars of {series['name']} changed since the sweep began, and its points would not be"
            " comparable; start it anew"
        )
    return replace(asked.specification, parameters={})


def _rows(piece: _Piece, found: Sequence[Sequence[Evaluated]]) -> list[dict[str, Any]]:
    sweep = piece.sweep
    directions = {o.metric: o.direction for o in objectives_from(sweep.objectives)}
    ways = [directions.get(metric) or usual(metric) for metric in piece.metrics]
    return [
        _row(sweep, piece.first + place, combination, [one[place] for one in found], ways)
        for place, combination in enumerate(piece.combinations)
    ]


def _row(
    sweep: SweepRow,
    number: int,
    combination: Combination,
    found: Sequence[Evaluated],
    ways: Sequence[str],
) -> dict[str, Any]:
    numbers = [
        aggregated([one.numbers[place] for one in found], sweep.aggregate, way)
        for place, way in enumerate(ways)
    ]
    error = next((one.error for one in found if one.error), None)
    by_series = [number for one in found for number in one.numbers] if len(found) > 1 else None
    return {
        "sweep_id": sweep.id,
        "number": number,
        "parameters": combination,
        "numbers": [_stored(number) for number in numbers],
        "by_series": None if by_series is None else [_stored(number) for number in by_series],
        "error": error,
    }


def _stored(number: float | None) -> float | None:
    """As a column of floats takes it: a whole number is one too, what is no number is nothing."""
    return float(number) if number is not None and math.isfinite(number) else None


def _remember_rate(session: Session, piece: _Piece, seconds: float) -> None:
    """Combinations a second of one worker that has the bars: it sets the size of chunks to come."""
    newest = len(piece.combinations) / max(seconds, 1e-6)
    known = sa.func.coalesce(SweepRow.rate, newest)
    session.execute(
        sa.update(SweepRow)
        .where(SweepRow.id == piece.sweep.id)
        .values(rate=known + SMOOTHING * (newest - known))
    )


def _done(
    session: Session, request: SweepChunkRequest, work: Work, seconds: float, text: str
) -> dict[str, Any]:
    """Mark the chunk done, take the sweep on, and commit all of it with the results."""
    session.execute(
        sa.update(SweepChunkRow)
        .where(SweepChunkRow.sweep_id == request.sweep_id, SweepChunkRow.number == request.number)
        .values(seconds=seconds, done_at=datetime.now(UTC))
    )
    answer = {"text": text, "link": f"/research/sweeps/{request.sweep_id}"}
    work.finish(session, answer)
    asked = advancing.advance(session, request.sweep_id, advancing.workers_alive(work.settings))
    session.commit()
    advancing.wake(work.settings, asked)
    return answer


# --- the last one -----------------------------------------------------------------------------------


def _rank(request: SweepChunkRequest, work: Work, sweep: SweepRow) -> dict[str, Any]:
    """Best points and plateau scores, over everything that was found."""
    started = time.monotonic()
    work.progress(0.1, "ranking")
    objectives = objectives_from(sweep.objectives)
    with work.sessions() as session:
        query = (
            sa.select(SweepPointRow.number, SweepPointRow.parameters, SweepPointRow.numbers)
            .where(SweepPointRow.sweep_id == sweep.id)
            .order_by(SweepPointRow.number)
        )
        points = session.execute(query).all()
    values = np.array(
        [
            [
                np.nan if v is None else v * o.sign
                for v, o in zip(row.numbers, objectives, strict=False)
            ]
            for row in points
        ],
        dtype=np.float64,
    ).reshape(len(points), len(objectives))
    score = np.full(len(points), np.nan)
    if sweep.method != "bayes":  # its points lie where it looked, not evenly: nearness says nothing
        axes = [axis_from(axis) for axis in sweep.space]
        score = ranking.plateau(
            axes, [row.parameters for row in points], values[:, 0], sweep.method
        )
    best = ranking.front(values)
    with work.sessions() as session:
        work.hold(session)
        _store_ranks(session, sweep.id, [row.number for row in points], score, best)
        return _done(session, request, work, time.monotonic() - started, "ranked")


def _store_ranks(
    session: Session, sweep_id: int, numbers: Sequence[int], score: Any, best: Any
) -> None:
    """Both columns of every point in one statement."""
    ranks = (
        sa.func.unnest(
            sa.cast(list(numbers), sa.ARRAY(sa.BigInteger)),
            sa.cast([None if np.isnan(s) else float(s) for s in score], sa.ARRAY(sa.Double)),
            sa.cast([bool(b) for b in best], sa.ARRAY(sa.Boolean)),
        )
        .table_valued("number", "plateau", "is_best", name="ranks")
        .render_derived()
    )
    session.execute(
        sa.update(SweepPointRow)
        .where(SweepPointRow.sweep_id == sweep_id, SweepPointRow.number == ranks.c.number)
        .values(plateau=ranks.c.plateau, is_best=ranks.c.is_best)
        .execution_options(synchronize_session=False)
    )
