"""The list of sweeps, and one sweep: how it stands, its best points, its pictures and its table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from flask import Response, render_template, stream_with_context
from flask import current_app as console

from shared.db.sweeps import SweepPointRow, SweepRow
from shared.db.trading import StrategyTypeRow
from webapp import auth, live, workers
from webapp.db import db
from webapp.paging import sliced
from webapp.partials import is_current, partial, stamp, unchanged
from webapp.sweeps import pictures, points, standing
from webapp.sweeps.blueprint import bp

SWEEPS: Final = 30


# --- the list ---------------------------------------------------------------------------------------


@bp.get("")
@auth.viewer
def listing() -> str:
    """Every sweep, newest first."""
    return render_template("sweeps/page.html", **listed())


@bp.get("/list")
@auth.viewer
def list_part() -> Response:
    now = listed()
    if is_current(now["version"]):
        return unchanged()
    return partial(render_template("sweeps/_list.html", **now))


def listed() -> dict[str, Any]:
    page = sliced(
        sa.select(SweepRow),
        (SweepRow.id,),
        lambda row: (row.id,),
        size=SWEEPS,
        endpoint="sweeps.listing",
    )
    stands = standing.standings(page.rows)
    best = {row.id: points.best(row, 1) for row in page.rows}
    jobs = workers.unfinished("sweep")
    seen = [(s.id, stands[s.id].state, stands[s.id].done, stands[s.id].share) for s in page.rows]
    return {
        "page": page,
        "stands": stands,
        "best": best,
        "jobs": jobs,
        "tones": standing.TONES,
        "words": standing.WORDS,
        "objectives": standing.objectives,
        "metric_title": standing.metric_title,
        "metric_text": standing.metric_text,
        "varied": standing.varied,
        "version": stamp(seen, [(job.id, job.state) for job in jobs]),
    }


# --- one --------------------------------------------------------------------------------------------


@bp.get("/<int:sweep_id>")
@auth.viewer
def page(sweep_id: int) -> str:
    """A sweep: pictures and table as the address says."""
    sweep = standing.sweep_of(sweep_id)
    asked = pictures.chosen(sweep)
    return render_template(
        "sweeps/sweep.html",
        **progress_of(sweep),
        **table_of(sweep),
        map=asked,
        leaking=standing.leaking_run(sweep),
        axes=standing.varied(sweep),
        axis_text=standing.axis_text,
        columns=points.mapped(sweep),
        ways=pictures.WAYS,
        word_of=points.word_of,
        type=db.session.get(StrategyTypeRow, sweep.strategy_type),
    )


@bp.get("/<int:sweep_id>/progress")
@auth.viewer
def progress(sweep_id: int) -> Response:
    """The part of the page that changes while it runs."""
    now = progress_of(standing.sweep_of(sweep_id))
    if is_current(now["version"]):
        return unchanged()
    return partial(render_template("sweeps/_progress.html", **now))


def progress_of(sweep: SweepRow) -> dict[str, Any]:
    stands = standing.standing(sweep)
    has_worker = any(name.startswith("worker") for name in live.heartbeats().by_process)
    return {
        "sweep": sweep,
        "stands": stands,
        "tones": standing.TONES,
        "words": standing.WORDS,
        "best": points.best(sweep),
        "luck": points.luck(sweep),
        "objectives": standing.objectives(sweep),
        "varied": standing.varied(sweep),
        "metric_title": standing.metric_title,
        "metric_text": standing.metric_text,
        "value_text": standing.value_text,
        "has_worker": has_worker,
        "version": stamp(replace(stands, rate=0.0, left=None, took=None), sweep.text, has_worker),
    }


@bp.get("/<int:sweep_id>/rows")
@auth.viewer
def rows(sweep_id: int) -> Response:
    """The table alone, as the address says."""
    sweep = standing.sweep_of(sweep_id)
    return partial(render_template("sweeps/_rows.html", **progress_of(sweep), **table_of(sweep)))


def table_of(sweep: SweepRow) -> dict[str, Any]:
    return {
        "table": points.table(sweep),
        "told": pictures.told,
        "errors": db.session.scalar(
            sa.select(sa.func.count()).where(
                SweepPointRow.sweep_id == sweep.id, SweepPointRow.error.is_not(None)
            )
        ),
    }


@bp.get("/<int:sweep_id>/points.csv")
@auth.viewer
def points_csv(sweep_id: int) -> Response:
    """All points as a file."""
    sweep = standing.sweep_of(sweep_id)
    name = f"sweep-{sweep.id}-{sweep.strategy_type}.csv"
    return console.response_class(
        stream_with_context(_lines(sweep)),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _lines(sweep: SweepRow) -> Iterator[str]:
    for row in points.every(sweep):
        line = io.StringIO()
        csv.writer(line).writerow(["" if value is None else value for value in row])
        yield line.getvalue()
