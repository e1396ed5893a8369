"""Asking workers for a job, and how a job reads: what several pages need of jobs."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import current_app, redirect, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from shared import queueing
from shared.db.backtests import JobRow
from shared.jobs import JobRequest, SampleDataRequest, encode, kind_of
from webapp import auth, live
from webapp.commands import TOKEN
from webapp.db import db
from webapp.partials import stamp
from webapp.paths import is_ours

OVER: Final = ("done", "failed", "cancelled")
WAIT_SECONDS: Final = 1.2
"""A press waits this long for a small job, so that its result is the next thing on the screen."""

TONES: Final = {
    "queued": "",
    "running": "info",
    "done": "good",
    "failed": "bad",
    "cancelled": "warning",
}
KINDS: Final = {
    "backtest": "backtest",
    "import": "import",
    "inspect": "look at a file",
    "sample_data": "sample data",
    "why": "why did it (not) trade",
    "quality": "look over bars",
    "pair_list": "pair list",
    "sweep": "sweep",
    "sweep_chunk": "part of a sweep",
}
CRASHED: Final = "Failed:"
"""How `engine.jobs` begins the text of a job that ended in an exception; its error is a traceback."""


def ask(wanted: JobRequest, title: str) -> JobRow:
    """The job's row, committed and queued.

    Two presses of one form ask once; the same form with other values (the browser's Back) asks anew.
    """
    kind = kind_of(wanted)
    token = _token()
    auth.audit(f"job.{kind}", title)
    return queueing.ask(
        db.session,
        live.client(),
        wanted,
        title=title,
        actor=current_user.username,
        request_key=f"{kind}:{token}:{stamp(encode(wanted))}" if token else None,
    )


def ask_and_wait(wanted: JobRequest, title: str) -> JobRow:
    """Ask, and give a worker a moment: most backtests of daily bars end inside it."""
    return wait_for(ask(wanted, title))


def wait_for(row: JobRow) -> JobRow:
    """The job as it stands after a moment."""
    until = time.monotonic() + current_app.config.get("JOB_WAIT_SECONDS", WAIT_SECONDS)
    while row.state not in OVER and time.monotonic() < until:
        time.sleep(0.04)
        db.session.rollback()
        db.session.refresh(row)
    return row


def ask_for_sample_data() -> JobRow:
    """The job that loads the sample data: the one under way, if another tab asked already."""
    under_way = unfinished("sample_data")
    return under_way[0] if under_way else ask(SampleDataRequest(), "Load sample data")


def next_page(row: JobRow) -> AnyResponse:
    """To what the job made; to the job itself while it runs, which goes on to the result by itself."""
    link = link_of(row) if row.state == "done" else ""
    return redirect(link or url_for("jobs.detail", job_id=row.id, follow=1), code=303)


def is_over(row: JobRow) -> bool:
    return row.state in OVER


def link_of(row: JobRow) -> str:
    """The console path of what came of it, or ""."""
    link = str((row.result or {}).get("link", ""))
    return link if is_ours(link) else ""


def is_crash(row: JobRow) -> bool:
    """Whether `error` is a traceback rather than a sentence for whoever asked."""
    return row.state == "failed" and row.progress_text.startswith(CRASHED)


def took(row: JobRow, now: datetime) -> timedelta | None:
    """How long it has been running, or ran."""
    return None if row.started_at is None else (row.finished_at or now) - row.started_at


def unfinished(*kinds: str) -> list[JobRow]:
    """Jobs of these kinds that are queued or running, newest first."""
    query = sa.select(JobRow).where(JobRow.state.in_(("queued", "running")), JobRow.kind.in_(kinds))
    return list(db.session.scalars(query.order_by(JobRow.created_at.desc()).limit(5)))


def again_url(row: JobRow) -> str:
    """The form this job was asked with, filled in as it was; "" where there is none."""
    if row.kind == "backtest":
        return url_for("research.new", job=row.id)
    if row.kind == "sweep":
        return url_for("sweeps.new", job=row.id)
    if row.kind == "import":
        look = db.session.scalar(
            sa.select(JobRow.id)
            .where(
                JobRow.kind == "inspect",
                JobRow.state == "done",
                JobRow.arguments["path"].astext == str(row.arguments.get("path", "")),
            )
            .order_by(JobRow.created_at.desc())
            .limit(1)
        )
        return url_for("imports.confirm", job_id=look) if look else url_for("imports.choose_file")
    if row.kind == "inspect":
        return url_for("imports.choose_file")
    return url_for("data.page") if row.kind == "sample_data" else ""


def context() -> dict[str, Any]:
    """What templates need to show jobs."""
    return {
        "job_tone": lambda row: TONES[row.state],
        "job_kind": lambda row: KINDS.get(row.kind, row.kind),
        "job_is_over": is_over,
        "job_link": link_of,
        "job_is_crash": is_crash,
        "job_again": again_url,
        "job_took": lambda row: took(row, live.now()),
    }


def _token() -> UUID | None:
    try:
        return UUID(request.form.get(TOKEN, ""))
    except ValueError:
        return None
