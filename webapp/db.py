"""The console's session: one a request, over the shared models."""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from shared.db.base import Base
from shared.db.sessions import driver_url

db = SQLAlchemy(metadata=Base.metadata, session_options={"expire_on_commit": False})


def connect(app: Flask, url: str) -> None:
    """Let requests use PostgreSQL at `url`, as `shared.db.sessions` would connect to it."""
    app.config["SQLALCHEMY_DATABASE_URI"] = driver_url(url)
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_pre_ping": True,
        "pool_size": 8,
        "max_overflow": 24,
        "pool_timeout": 5,
        "connect_args": {"prepare_threshold": None, "connect_timeout": 5},
    }
    db.init_app(app)
