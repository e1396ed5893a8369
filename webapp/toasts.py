"""What happened while a page is open, told once, in the corner."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from flask import Blueprint, Response, render_template, request

from shared.db.trading import EventRow
from webapp import accounts, auth, happenings
from webapp.db import db
from webapp.partials import partial, unchanged

bp = Blueprint("toasts", __name__)

MOST: Final = 3
"""More news than this at once becomes one line that says how many."""


@bp.get("/toasts")
@auth.viewer
def part() -> Response:
    """Events after `?after=`, worth interrupting for; and where to go on from."""
    after = request.args.get("after", 0, type=int)
    newest = db.session.scalar(sa.select(sa.func.max(EventRow.id))) or 0
    if newest <= after:
        return unchanged()
    query = happenings.events_of(accounts.chosen()).where(
        EventRow.id > after, EventRow.severity != "info"
    )
    news = list(db.session.scalars(query.limit(50)))
    return partial(
        render_template(
            "frame/_toasts.html",
            events=list(reversed(news[:MOST])),
            more=len(news) - MOST,
            newest=newest,
        )
    )
