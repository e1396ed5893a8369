"""What can be done with a sweep: call it off, go on with it, and run one of its points in full."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from flask import abort, flash, redirect, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from shared import queueing
from shared.db.backtests import JobRow
from shared.db.sweeps import SweepChunkRow, SweepPointRow, SweepRow
from shared.jobs import BacktestRequest
from webapp import auth, live, workers
from webapp.db import db
from webapp.partials import is_partial, partial
from webapp.sweeps import points, standing
from webapp.sweeps.blueprint import bp


@bp.post("/<int:sweep_id>/cancel")
@auth.trader
def cancel(sweep_id: int) -> AnyResponse:
    """Call it off: jobs in line go at once, running ones at their next look-up; results stay."""
    sweep = standing.sweep_of(sweep_id)
    if sweep.state in ("done", "cancelled", "failed") and sweep.wanted == "stopped":
        return _back(sweep_id, "It is over already.")
    auth.audit("sweep.cancel", str(sweep_id))
    _want(sweep_id, wanted="stopped")
    for job_id in _open_jobs(sweep_id):
        queueing.cancel(db.session, live.client(), job_id)
    return _back(sweep_id, "Stopping; what was found is kept.")


@bp.post("/<int:sweep_id>/resume")
@auth.trader
def resume(sweep_id: int) -> AnyResponse:
    """Go on with what is missing, chunks that failed included."""
    sweep = standing.sweep_of(sweep_id)
    if sweep.state == "done":
        return _back(sweep_id, "It is done: there is nothing left to do.")
    auth.audit("sweep.resume", str(sweep_id))
    _want(sweep_id, wanted="running", resumed=SweepRow.resumed + 1)
    return _back(sweep_id, "Going on with what is missing.")


def _want(sweep_id: int, **values: Any) -> None:
    """Say what is wanted of it. `clock` and the sweep's own workers do the rest."""
    db.session.execute(sa.update(SweepRow).where(SweepRow.id == sweep_id).values(**values))
    db.session.commit()


def _open_jobs(sweep_id: int) -> list[Any]:
    query = (
        sa.select(JobRow.id)
        .join(SweepChunkRow, SweepChunkRow.job_id == JobRow.id)
        .where(SweepChunkRow.sweep_id == sweep_id, JobRow.state.in_(("queued", "running")))
    )
    return list(db.session.scalars(query))


def _back(sweep_id: int, text: str) -> AnyResponse:
    if is_partial():
        return partial("", trigger="refresh")
    flash(text, "message")
    return redirect(url_for("sweeps.page", sweep_id=sweep_id), code=303)


@bp.post("/<int:sweep_id>/points/<int:number>/run")
@auth.trader
def run(sweep_id: int, number: int) -> AnyResponse:
    """One point's full run, with its trades and decisions: asked for once, however often it is pressed."""
    sweep = standing.sweep_of(sweep_id)
    point = db.session.get(SweepPointRow, (sweep_id, number)) or abort(404)
    series = _series(sweep)
    auth.audit("job.backtest", f"sweep {sweep_id}, point {number}")
    row = queueing.ask(
        db.session,
        live.client(),
        request_of(sweep, series, point),
        title=f"Backtest {sweep.strategy_type.replace('_', ' ')} · {series['name']}",
        actor=current_user.username,
        request_key=points.run_key(sweep_id, number, int(series["series_id"])),
    )
    return workers.next_page(workers.wait_for(row))


def _series(sweep: SweepRow) -> dict[str, Any]:
    """The series the form says; the first one when it says none."""
    wanted = request.form.get("series", type=int)
    known = (one for one in sweep.series if wanted is None or int(one["series_id"]) == wanted)
    found = next(known, None)
    return dict(found) if found is not None else abort(404)


def request_of(sweep: SweepRow, series: dict[str, Any], point: SweepPointRow) -> BacktestRequest:
    """The backtest of a point: the code and the last bar the sweep had, told how many were tried."""
    base = BacktestRequest(**sweep.base)
    tried = points.tried(sweep, int(series["series_id"]))
    main = {**base.inputs.get("main", {}), "series_id": int(series["series_id"]), "trades": True}
    return replace(
        base,
        parameters=point.parameters,
        inputs={**base.inputs, "main": main},
        ends_at=str(series["ends_at"]),
        trials=tried.count,
        trials_variance=tried.variance,
        sweep_id=sweep.id,
    )
