"""The console: what the engine did, is doing and should do, in a browser."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

from flask import Flask, url_for
from flask_wtf.csrf import CSRFProtect

from shared.settings import Settings
from webapp import (
    accounts,
    auth,
    commands,
    costs,
    db,
    errors,
    formats,
    frame,
    happenings,
    live,
    partials,
)

PAGES: Final = (
    "health",
    "login",
    "commands",
    "toasts",
    "overview",
    "markets",
    "instruments",
    "lists",
    "trade",
    "strategies",
    "research",
    "runs",
    "gate",
    "provenance",
    "run_marks",
    "compare",
    "replays",
    "sweeps",
    "books",
    "story",
    "why",
    "risk",
    "data",
    "imports",
    "jobs",
    "stop",
    "system",
    "users",
    "profile",
    "components",
    "charts",
)
"""Modules with a blueprint `bp`. A page is added by adding its name here, and to `frame.RAIL`."""

STATIC: Final = Path(__file__).parent / "static"
SESSION_LASTS: Final = timedelta(days=7)


def create_app(settings: Settings) -> Flask:
    """The console over resolved settings. Raises when a route declares no role."""
    if settings.database_url is None or settings.redis_url is None:
        raise ValueError("the console needs the URLs of PostgreSQL and Redis: settings.with_urls()")
    app = Flask(__name__, static_url_path="/static")
    _configure(app, settings)
    db.connect(app, settings.database_url)
    live.connect(app, settings.redis_url)
    live.beat(app)
    CSRFProtect(app)
    partials.install(app)
    auth.install(app)
    errors.install(app)
    for name in PAGES:
        app.register_blueprint(import_module(f"webapp.{name}").bp)
    frame.install(app)
    _teach_templates(app)
    app.after_request(auth.harden)
    auth.anyone(app.view_functions["static"])
    auth.check_every_route_declares(app)
    return app


def _configure(app: Flask, settings: Settings) -> None:
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SERAPHIM=settings,
        SERAPHIM_TIMEZONE=settings.timezone,
        SESSION_COOKIE_NAME="seraphim",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.cookie_secure,
        PERMANENT_SESSION_LIFETIME=SESSION_LASTS,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
        MAX_CONTENT_LENGTH=errors.UPLOAD_MEGABYTES * 1024**2,
        SEND_FILE_MAX_AGE_DEFAULT=31_536_000,  # their URLs change with their content
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True


def _teach_templates(app: Flask) -> None:
    filters = (
        formats.money, formats.quantity, formats.price, formats.percent, formats.signed,
        formats.signed_percent, formats.change, formats.change_percent, formats.age, formats.local,
        formats.duration, formats.direction, formats.words, formats.utc_text, formats.instant,
        formats.in_unit, formats.plain,
        formats.prose,
    )  # fmt: skip
    for function in filters:
        app.add_template_filter(function)
    app.add_template_filter(costs.text, "costs_text")
    app.add_template_filter(costs.short_text, "costs_line")
    app.jinja_env.globals.update(
        asset=asset,
        plural=formats.plural,
        account_text=accounts.account_text,
        clock_text=accounts.clock_text,
        kind_text=accounts.kind_text,
        state_words=accounts.STATE_WORDS,
        now=live.now,
        event_tone=happenings.tone,
        event_stays=happenings.stays,
        cost_fields=costs.FIELDS,
        more_cost_kinds=costs.MORE,
        costs_folded=costs.is_folded,
    )
    # Globals, not context: macros are imported without one.
    app.jinja_env.globals.update(commands.context(), may=auth.may)


def asset(path: str) -> str:
    """A static file's URL, which changes when the file does."""
    return url_for("static", filename=path, v=_fingerprint(path))


@cache
def _fingerprint(path: str) -> str:
    file = STATIC / path
    return hashlib.blake2s(file.read_bytes(), digest_size=5).hexdigest() if file.is_file() else "0"
