"""A console over a real database, with users of each role and a small world of rows to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from deploy.processes import wait_until
from shared import bus
from shared.db.console import UserRow
from shared.db.schema import metadata
from shared.db.sessions import make_engine
from shared.settings import Settings
from tests.webapp.world import World, a_world
from webapp import create_app
from webapp.auth import hash_password
from webapp.db import db
from webapp.errors import UPLOAD_MEGABYTES

PASSWORD = "correct horse"
_HASH = hash_password(PASSWORD)


@pytest.fixture
def settings(module_settings: Settings) -> Settings:
    """An installation without rows. A module's tests share its servers, one after the other."""
    engine = make_engine(module_settings.database_url or "", poolclass=sa.NullPool)
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    with bus.connect(module_settings.redis_url or "") as client:
        client.flushdb()
    return module_settings


@pytest.fixture(scope="module")
def module_app(module_settings: Settings) -> Iterator[Flask]:
    """The console a module's tests share. Tests want `app`."""
    made = create_app(module_settings)
    yield made
    with made.app_context():
        # A browser that was closed may have left a request behind, which ends with its connection.
        wait_until(lambda: in_use(db.engine) == 0, 10)
        db.engine.dispose()
    made.extensions["seraphim-redis"].close()


def in_use(engine: sa.Engine) -> int:
    """Connections that are out of the pool."""
    assert isinstance(engine.pool, sa.QueuePool)
    return engine.pool.checkedout()


@pytest.fixture
def app(module_app: Flask, settings: Settings) -> Flask:
    """The console, its settings as they were at the start."""
    module_app.testing = True
    module_app.config["WTF_CSRF_ENABLED"] = False  # test_access.py turns it on again
    module_app.config["COMMAND_WAIT_SECONDS"] = 0.05
    module_app.config["MAX_CONTENT_LENGTH"] = UPLOAD_MEGABYTES * 1024**2
    return module_app


@pytest.fixture
def rows(settings: Settings) -> Iterator[Session]:
    """The database beside the console: what engine and jobs would write, and what the console wrote."""
    engine = make_engine(settings.database_url or "", poolclass=sa.NullPool)
    with Session(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def users(rows: Session) -> dict[str, UserRow]:
    """One of each role; the name is the role."""
    every = {
        role: UserRow(username=role, password_hash=_HASH, role=role, timezone="Europe/Berlin")
        for role in ("viewer", "trader", "admin")
    }
    rows.add_all(every.values())
    rows.commit()
    return every


@pytest.fixture
def log_in(app: Flask, users: dict[str, UserRow]) -> Callable[[str], FlaskClient]:
    """A browser whose user has logged in: one of that role."""

    def client_of(role: str) -> FlaskClient:
        client = app.test_client()
        with client.session_transaction() as session:
            session["_user_id"] = f"{users[role].id}.{users[role].session_version}"
            session["_fresh"] = True
        return client

    return client_of


@pytest.fixture
def trader(log_in: Callable[[str], FlaskClient]) -> FlaskClient:
    return log_in("trader")


@pytest.fixture
def viewer(log_in: Callable[[str], FlaskClient]) -> FlaskClient:
    return log_in("viewer")


@pytest.fixture
def admin(log_in: Callable[[str], FlaskClient]) -> FlaskClient:
    return log_in("admin")


@pytest.fixture
def world(rows: Session) -> World:
    """An account that has traded, with a strategy of each kind of fate."""
    return a_world(rows)


@pytest.fixture
def engine_beats(settings: Settings) -> Callable[..., None]:
    """Let the engine, a worker and the clock say that they live."""

    def beat(**accounts: object) -> None:
        from datetime import UTC, datetime

        now = datetime.now(UTC).isoformat()
        with bus.connect(settings.redis_url or "") as client:
            bus.beat(client, "engine:main", at=now, state="trading", accounts=accounts, loop_ms=2)
            for process in ("worker:one", "clock"):
                bus.beat(client, process, at=now)

    return beat
