"""htmx in one place: fragments, versions, and the answers it understands.

A fragment has its own URL and is never a page. It carries a version, sends it back as `?v=` when it
polls, and costs 204 while nothing changed.
"""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Flask, Response, request
from htmx_flask import Htmx, make_response


def install(app: Flask) -> None:
    Htmx(app)


def is_partial() -> bool:
    """Asked by htmx, not by the browser's address bar."""
    return bool(getattr(request, "htmx", False))


def stamp(*what: Any) -> str:
    """A short version of anything with a stable `repr`."""
    return hashlib.blake2s(repr(what).encode(), digest_size=6).hexdigest()


def unchanged() -> Response:
    """204: keep what you have."""
    return Response(status=204, headers={"Cache-Control": "no-store"})


def is_current(version: str) -> bool:
    """Whether the open page already shows `version`."""
    return request.args.get("v") == version


def partial(
    html: str, *, trigger: str | dict[str, Any] | None = None, status: int = 200
) -> Response:
    """A fragment, never cached; `trigger` names an event the page shall hear."""
    response: Response = make_response(html, status, trigger=trigger)
    response.headers["Cache-Control"] = "no-store"
    return response


def sent_to(url: str, *, status: int = 200) -> Response:
    """The open page goes to `url`."""
    response: Response = make_response("", status, redirect=url)
    response.headers["Cache-Control"] = "no-store"
    return response
