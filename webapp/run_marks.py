"""Notes, tags and a star on a run."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from shared.db.backtests import RunRow
from webapp import auth, marks
from webapp.db import db
from webapp.partials import is_partial, partial
from webapp.paths import back_to

bp = Blueprint("run_marks", __name__, url_prefix="/research/runs")


@bp.get("/<int:run_id>/notes")
@auth.trader
def edit(run_id: int) -> str:
    """The form on a page of its own, for whoever comes without JavaScript or from elsewhere."""
    run = _run(run_id)
    return _form(run, run.notes, ", ".join(run.tags), {})


@bp.post("/<int:run_id>/notes")
@auth.trader
def keep(run_id: int) -> ResponseReturnValue:
    """Keep notes and tags, or say beside the field why not."""
    run = _run(run_id)
    notes = request.form.get("notes", "").replace("\r\n", "\n").strip()
    tags = marks.tags_of(request.form.get("tags", ""))
    problems = marks.problems(notes, tags)
    if problems:
        return _form(run, notes, request.form.get("tags", ""), problems), 422
    run.notes, run.tags = notes, tags
    auth.audit("run.noted", str(run.id), tags=tags)
    db.session.commit()
    return redirect(url_for("runs.page", run_id=run.id) + "#notes", code=303)


@bp.post("/<int:run_id>/star")
@auth.trader
def star(run_id: int) -> ResponseReturnValue:
    """Make it a favourite, or no longer: `on` says which, so that two presses of one button are one."""
    wanted = request.form.get("on") == "yes"
    found = db.session.scalar(
        sa.update(RunRow).where(RunRow.id == run_id).values(favourite=wanted).returning(RunRow.id)
    )
    if found is None:
        abort(404)
    auth.audit("run.starred" if wanted else "run.unstarred", str(run_id))
    db.session.commit()
    if is_partial():
        return partial(render_template("compare/_star.html", run=_run(run_id)))
    return redirect(back_to(url_for("runs.page", run_id=run_id)), code=303)


def _run(run_id: int) -> RunRow:
    run = db.session.get(RunRow, run_id, populate_existing=True)
    if run is None:
        abort(404)
    return run


def _form(run: RunRow, notes: str, tags: str, problems: dict[str, str]) -> str:
    return render_template(
        "compare/notes.html",
        run=run,
        notes=notes,
        tags=tags,
        problems=problems,
        known=marks.known_tags(),
    )


bp.add_app_template_global(marks.known_tags, "known_tags")
