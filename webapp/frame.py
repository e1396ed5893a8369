"""What stands around every page: trading state, equity, today, heartbeat, rail, Stop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from shared.db.trading import AccountRow, EventRow
from webapp import accounts, auth, happenings, live
from webapp.db import db
from webapp.formats import instant
from webapp.partials import is_current, partial, stamp, unchanged
from webapp.paths import back_to

bp = Blueprint("frame", __name__)

SILENT_SECONDS: Final = 6
"""An engine that has not beaten for this long is said to be silent."""

RECENT_EVENTS: Final = 2_000


@dataclass(frozen=True, slots=True)
class RailEntry:
    """One place a person goes: `endpoint` opens it, `part` of a URL marks it as the current one."""

    name: str
    endpoint: str
    icon: str
    part: str
    is_after_line: bool = False
    also: tuple[str, ...] = ()


RAIL: Final = (
    RailEntry("Overview", "overview.page", "overview", "/"),
    RailEntry("Markets", "markets.page", "markets", "/markets", also=("/instruments", "/lists")),
    RailEntry("Trade", "trade.page", "trade", "/trade"),
    RailEntry("Strategies", "strategies.page", "strategies", "/strategies"),
    RailEntry("Research", "research.page", "research", "/research"),
    RailEntry("Books", "books.orders", "books", "/books"),
    RailEntry("Risk", "risk.page", "risk", "/risk"),
    RailEntry("Data", "data.page", "data", "/data", is_after_line=True),
    RailEntry("Jobs", "jobs.page", "jobs", "/jobs"),
    RailEntry("System", "system.page", "system", "/system"),
)
"""Shown where the page exists: an entry whose endpoint is not registered is left out."""


def install(app: Flask) -> None:
    app.register_blueprint(bp)
    entries = [e for e in RAIL if e.endpoint in app.view_functions]
    app.extensions["seraphim-rail"] = entries
    app.context_processor(_context)


def _context() -> dict[str, Any]:
    from flask import current_app

    return {
        "rail": current_app.extensions["seraphim-rail"],
        "is_here": _is_here,
        "zone": zone(),
        "theme": getattr(current_user, "theme", "auto"),
        "frame": status,
        "newest_event_id": newest_event_id,
    }


def zone() -> str:
    """The user's time zone; the installation's before anybody has logged in."""
    from flask import current_app

    return str(getattr(current_user, "timezone", "") or current_app.config["SERAPHIM_TIMEZONE"])


def _is_here(entry: RailEntry) -> bool:
    if entry.part == "/":
        return request.path == "/"
    return request.path.startswith((entry.part, *entry.also))


@dataclass(frozen=True, slots=True)
class Status:
    """The top bar. `word` is the trading state, or why there is none."""

    account: AccountRow | None
    every: list[AccountRow]
    word: str
    tone: str
    why: str
    day: accounts.Today | None
    engine_at: datetime | None
    feed_at: datetime | None
    warnings: int
    is_halted: bool
    version: str


def status() -> Status:
    """Everything the top bar shows, for the account the user looks at."""
    account = accounts.chosen()
    beats = live.heartbeats()
    engine_at = instant((beats.engine or {}).get("at"))
    feed_at = instant(beats.account(account.id).get("feed_at")) if account else None
    state = accounts.trading_state(account) if account else "running"
    word, tone, why = _word(state, beats, engine_at, account)
    day = accounts.today(account, zone()) if account else None
    warnings = _warnings(account)
    return Status(
        account=account,
        every=accounts.accounts(),
        word=word,
        tone=tone,
        why=why,
        day=day,
        engine_at=engine_at,
        feed_at=feed_at,
        warnings=warnings,
        is_halted=state == "halted",
        version=stamp(account and account.id, word, why, day, engine_at, feed_at, warnings),
    )


def _word(
    state: str, beats: live.Heartbeats, engine_at: datetime | None, account: AccountRow | None
) -> tuple[str, str, str]:
    if not beats.answers:
        return (
            "Unknown",
            "warning",
            "Redis does not answer: whether the engine trades is not known.",
        )
    if engine_at is None or (live.now() - engine_at).total_seconds() > SILENT_SECONDS:
        return "Engine silent", "bad", "No heartbeat from the engine: nothing is decided or sent."
    if account is None:
        return "No account", "warning", "The engine has not made an account yet."
    reasons = "; ".join(r.reason for r in accounts.requests_on(account) if r.reason)
    return accounts.STATE_WORDS[state], accounts.STATE_TONES[state], reasons


def _warnings(account: AccountRow | None) -> int:
    """Warnings and worse of the last 24 hours, this account's and everyone's."""
    recent = (
        sa.select(EventRow).order_by(EventRow.id.desc()).limit(RECENT_EVENTS).subquery("recent")
    )
    query = sa.select(sa.func.count()).where(
        happenings.is_trouble(recent.c),
        recent.c.recorded_at > sa.func.now() - sa.text("interval '24 hours'"),
        sa.or_(
            recent.c.account_id.is_(None), recent.c.account_id == (account.id if account else None)
        ),
    )
    return db.session.scalar(query) or 0


def newest_event_id() -> int:
    """Toasts speak of what happens after this."""
    return db.session.scalar(sa.select(sa.func.max(EventRow.id))) or 0


@bp.get("/frame")
@auth.viewer
def part() -> Response:
    """The top bar's live half."""
    now = status()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("frame/_status.html", status=now))


@bp.post("/account")
@auth.viewer
def choose_account() -> AnyResponse:
    """Look at another account, and stay on the page."""
    accounts.choose(request.form.get("account", 0, type=int))
    return redirect(back_to(url_for("overview.page")))
