"""Two questions a machine may ask: is the console up, and can it work?"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import Blueprint
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from webapp import auth, live
from webapp.db import db

bp = Blueprint("health", __name__, url_prefix="/health")


@bp.get("/live")
@auth.anyone
def is_up() -> dict[str, str]:
    """The process answers."""
    return {"console": "up"}


@bp.get("/ready")
@auth.anyone
def is_ready() -> tuple[dict[str, Any], int]:
    """200 with PostgreSQL answering, else 503. Redis away slows the console down but stops nothing."""
    postgresql, redis = _postgresql_answers(), _redis_answers()
    words = {True: "answers", False: "does not answer"}
    said = {"postgresql": words[postgresql], "redis": words[redis]}
    return said, 200 if postgresql else 503


def _postgresql_answers() -> bool:
    try:
        db.session.execute(sa.text("SELECT 1"))
    except SQLAlchemyError:
        db.session.remove()
        return False
    return True


def _redis_answers() -> bool:
    try:
        return bool(live.client().ping())
    except RedisError:
        return False
