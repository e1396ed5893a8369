"""Long work: what is under way, how far it is, how it ended, and calling it off."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared import queueing
from shared.db.backtests import JobAttemptRow, JobRow
from shared.jobs import KINDS
from webapp import auth, live, workers
from webapp.db import db
from webapp.paging import Slice, sliced
from webapp.partials import is_current, is_partial, partial, sent_to, stamp, unchanged
from webapp.paths import back_to

bp = Blueprint("jobs", __name__, url_prefix="/jobs")
bp.app_context_processor(workers.context)

STATES: Final = {
    "": ("Everything", ("queued", "running", "done", "failed", "cancelled")),
    "open": ("Under way", ("queued", "running")),
    "failed": ("Failed", ("failed",)),
}
ON_THE_WAY: Final = timedelta(seconds=5)
"""What a page may take to get to its reader."""

ENDED: Final = {
    "done": "This job is done already.",
    "failed": "This job has failed already.",
    "cancelled": "Cancelled; nothing of it is stored.",
}


@dataclass(frozen=True, slots=True)
class JobList:
    """One page of jobs, newest first."""

    page: Slice[JobRow]
    state: str
    version: str


@bp.get("")
@auth.viewer
def page() -> str:
    return render_template("jobs/page.html", jobs=job_list(), states=STATES)


@bp.get("/rows")
@auth.viewer
def rows() -> Response:
    """The list, as it stands now."""
    now = job_list()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("jobs/_rows.html", jobs=now))


def job_list() -> JobList:
    """The jobs `?state=` asks for. A look that is done is no news, and is left out;
    so are the parts of a sweep."""
    state = request.args.get("state", "")
    state = state if state in STATES else ""
    query = sa.select(JobRow).where(
        JobRow.state.in_(STATES[state][1]),
        sa.or_(JobRow.kind.not_in(("inspect", "why")), JobRow.state != "done"),
        sa.or_(JobRow.kind != "sweep_chunk", JobRow.state == "failed"),  # its sweep tells the rest
    )
    page = sliced(
        query,
        (JobRow.created_at, JobRow.id),
        lambda job: (job.created_at, str(job.id)),
        size=40,
        endpoint="jobs.page",
    )
    seen = [(j.id, j.state, j.progress, j.progress_text, j.cancel_requested_at) for j in page.rows]
    return JobList(page, state, stamp(seen))


@bp.get("/<uuid:job_id>")
@auth.viewer
def detail(job_id: UUID) -> AnyResponse | str:
    """One job. With `?follow=1` the page goes on to the result once there is one."""
    job = _job(job_id)
    if request.args.get("follow") and (link := _just_made(job)):
        return redirect(link, code=303)
    return render_template("jobs/detail.html", **state_of(job))


def _just_made(job: JobRow) -> str:
    """The result of a job that ended while its page was on the way; who comes back later wants the job."""
    is_new = job.finished_at is not None and datetime.now(UTC) - job.finished_at < ON_THE_WAY
    return workers.link_of(job) if job.state == "done" and is_new else ""


@bp.get("/<uuid:job_id>/state")
@auth.viewer
def state(job_id: UUID) -> Response:
    """The part of a job's page that changes: queued, running or ended."""
    job = _job(job_id)
    follow = request.args.get("follow", "")
    if follow and job.state == "done" and (link := workers.link_of(job)):
        return sent_to(link)
    now = state_of(job)
    if is_current(now["version"]):
        return unchanged()
    return partial(render_template("jobs/_state.html", **now))


def state_of(job: JobRow) -> dict[str, Any]:
    """What the page of a job shows."""
    attempts = list(
        db.session.scalars(
            sa.select(JobAttemptRow)
            .where(JobAttemptRow.job_id == job.id)
            .order_by(JobAttemptRow.number)
        )
    )
    has_worker = any(name.startswith("worker") for name in live.heartbeats().by_process)
    seen = (job.state, job.attempt, job.progress, job.progress_text, job.cancel_requested_at)
    return {
        "job": job,
        "attempts": attempts,
        "has_worker": has_worker,
        "asked": list(pairs(job)),
        "follow": request.args.get("follow", ""),
        "version": stamp(seen, has_worker),
    }


def pairs(job: JobRow) -> Iterator[tuple[str, str]]:
    """A request as (name, value) lines, in the order it is declared: the file's place here is nobody's news."""
    for field in dataclasses.fields(KINDS[job.kind]):
        value = job.arguments.get(field.name)
        if field.name == "path" or value in ("", None, {}, []) or _says_nothing(field, value):
            continue
        yield field.name.replace("_", " "), _in_words(value)


def _says_nothing(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether it is the number or list that stands for nothing asked: no pair list, one trial."""
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return type(value) is int and value == field.default


def _in_words(value: Any) -> str:
    """A value of a request as text, however it is nested."""
    if isinstance(value, dict):
        return ", ".join(
            f"{name.replace('_', ' ')} {_in_words(inner)}"
            for name, inner in value.items()
            if inner not in ("", None)
        )
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    return str(value)


@bp.post("/<uuid:job_id>/cancel")
@auth.trader
def cancel(job_id: UUID) -> AnyResponse:
    """Call it off: at once while it waits, at its next look-up while it runs."""
    job = _job(job_id)
    was = job.state
    auth.audit("job.cancel", str(job_id))
    now = queueing.cancel(db.session, live.client(), job_id)
    if not is_partial():
        return redirect(back_to(url_for("jobs.detail", job_id=job_id)), code=303)
    text = "Asked its worker to stop." if now == "running" else ENDED[now or was]
    return partial(render_template("jobs/_toast.html", job=job, text=text), trigger="refresh")


def _job(job_id: UUID) -> JobRow:
    job = db.session.get(JobRow, job_id)
    if job is None:
        abort(404)
    return job
