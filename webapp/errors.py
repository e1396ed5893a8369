"""When something is wrong: what happened, what it means for the user's money, what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog
from flask import Flask, current_app, request
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from webapp.db import db
from webapp.partials import is_partial

log = structlog.get_logger()

Answer = tuple[str, int]

UPLOAD_MEGABYTES: Final = 256
"""As large as a request may be; imports beyond it go through the command line."""

_TITLES: Final = {
    400: "That could not be understood",
    403: "Not with your role",
    404: "There is nothing here",
    405: "Not this way",
    409: "That was already used",
    413: "That file is too large",
}
_MEANINGS: Final = {
    404: "The address is wrong, or what it showed has gone. Nothing about trading has changed.",
    405: "This address does not take that kind of request. Nothing about trading has changed.",
    413: f"The console takes files up to {UPLOAD_MEGABYTES} MB; this one is larger, so nothing was stored. "
    "Import it with `seraphim import` on the server, or split it.",
}


def install(app: Flask) -> None:
    app.register_error_handler(CSRFError, form_too_old)
    app.register_error_handler(HTTPException, refused)
    for trouble in (OperationalError, InterfaceError, PoolTimeout):
        app.register_error_handler(trouble, database_away)
    app.register_error_handler(DataError, impossible)
    app.register_error_handler(Exception, broken)


def form_too_old(error: CSRFError) -> Answer:
    """The page was open longer than its session. Nothing was done."""
    return _answer(
        400,
        "This page is too old",
        "Your session ended or changed since the page was loaded, so nothing was done. "
        "Load the page again and repeat it.",
    )


def refused(error: HTTPException) -> Answer:
    """Any 4xx, in words."""
    code = error.code or 500
    title = _TITLES.get(code, error.name)
    said = error.description or ""
    generic = said == type(error).description
    return _answer(code, title, _MEANINGS.get(code, said) if generic else said)


def database_away(error: Exception) -> Answer:
    """PostgreSQL does not answer. The page tries again by itself."""
    log.warning("database.away", path=request.path, error=str(error).splitlines()[0])
    db.session.remove()
    return _answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "PostgreSQL does not answer",
        "The console cannot read or write anything until it does. The trading engine needs it too: "
        "it sends no order that is not recorded first, so nothing new is bought or sold meanwhile; "
        "orders already at a venue stay there. This page comes back by itself.",
        retry=True,
    )


def impossible(error: DataError) -> Answer:
    """A value that no column holds, such as text with a NUL byte; no form of ours sends one."""
    log.warning("request.impossible", path=request.path, error=str(error.orig))
    db.session.remove()
    return _answer(400, _TITLES[400], "A value of the request cannot be stored. Nothing was done.")


def broken(error: Exception) -> Answer:
    """A fault of ours. Logged with its traceback; the user is told what it means."""
    log.error("console.broken", path=request.path, exc_info=error)
    db.session.remove()
    return _answer(
        500,
        "The console made a mistake",
        "This page could not be shown. The trading engine is a separate process and goes on as "
        "before. The fault is in the console's log; if it stays, report it with the log's lines.",
    )


def _answer(code: int, title: str, text: str, *, retry: bool = False) -> Answer:
    name = "errors/_fragment.html" if is_partial() else "errors/page.html"
    path = request.full_path.rstrip("?") if request.method == "GET" else "/"
    # Without context processors: they would ask the database, which may be what is wrong.
    template = current_app.jinja_env.get_template(name)
    return template.render(code=code, title=title, text=text, retry=retry, path=path), code
