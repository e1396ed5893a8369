"""The database's schema against the one this code knows: the same, older, newer, or none yet."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.pool import NullPool

from deploy.exits import Exit, Stop
from shared.db.sessions import make_engine
from shared.settings import ROOT

_WAIT_SECONDS: Final = 30
"""For a database that is starting: a process must outlive PostgreSQL's restart."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What the database holds (None: nothing yet), and what this code was written for."""

    found: str | None
    wanted: str
    known: bool

    @property
    def is_current(self) -> bool:
        return self.found == self.wanted

    def problem(self) -> str:
        """Why this code cannot work with it; empty if it can."""
        if self.is_current:
            return ""
        if self.found is None:
            return "The database has no tables yet. Run: seraphim migrate"
        if self.known:
            return (
                f"The database's schema is older ({self.found}) than this code ({self.wanted}). "
                "Run: seraphim migrate"
            )
        return (
            f"The database's schema ({self.found}) was made by a newer release than this code, "
            f"which knows up to {self.wanted}. Install that release, or restore an older backup."
        )


def schema_of(database_url: str) -> Schema:
    """Waits for a database that is not there yet, though not for ever."""
    scripts = ScriptDirectory.from_config(_config(database_url))
    wanted = scripts.get_current_head()
    assert wanted is not None, "there are migrations"
    found = _found(database_url)
    return Schema(found, wanted, found is None or _knows(scripts, found))


def require_current(database_url: str) -> None:
    """Stops this command unless the schema is exactly the one this code was written for."""
    if problem := schema_of(database_url).problem():
        raise Stop(Exit.SCHEMA, problem)


def migrate(database_url: str) -> tuple[Schema, Schema]:
    """Bring the schema up to date: (before, after). A newer one is left alone."""
    before = schema_of(database_url)
    if not before.known:
        raise Stop(Exit.SCHEMA, before.problem())
    if not before.is_current:
        command.upgrade(_config(database_url), "head")
    return before, schema_of(database_url)


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config


def _knows(scripts: ScriptDirectory, revision: str) -> bool:
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False


def _found(database_url: str) -> str | None:
    engine = make_engine(database_url, poolclass=NullPool)
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            with engine.connect() as connection:
                if not sa.inspect(connection).has_table("alembic_version"):
                    return None
                return connection.execute(
                    sa.text("SELECT version_num FROM alembic_version")
                ).scalar()
        except sa.exc.OperationalError as error:
            if time.monotonic() >= deadline or not _may_pass(error):
                shown = sa.make_url(database_url).render_as_string(hide_password=True)
                raise Stop.servers(f"{shown} cannot be reached: {error.orig}") from error
            time.sleep(0.5)


def _may_pass(error: sa.exc.OperationalError) -> bool:
    """A refused connection or a server that starts may be well in a moment; a wrong password not."""
    text = str(error.orig)
    return not any(
        final in text for final in ("authentication", "does not exist", "no pg_hba", "resolve")
    )
