"""A process starts only on the schema it was written for."""

from collections.abc import Iterator

import psycopg
import pytest

from deploy.cli import main
from deploy.exits import Exit, Stop
from deploy.schema import migrate, require_current, schema_of
from shared.db.sessions import plain_url
from shared.settings import VARIABLES


@pytest.fixture
def bare_url(empty_database) -> Iterator[str]:
    yield from empty_database()


def pretend(url: str, revision: str) -> None:
    with psycopg.connect(plain_url(url)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num text)")
        connection.execute("DELETE FROM alembic_version")
        connection.execute("INSERT INTO alembic_version VALUES (%s)", [revision])


def test_a_migrated_database_is_current(database_url):
    assert schema_of(database_url).is_current
    require_current(database_url)


def test_an_empty_database_asks_for_migrate_and_gets_it(bare_url):
    with pytest.raises(Stop, match="Run: seraphim migrate") as caught:
        require_current(bare_url)
    assert caught.value.code is Exit.SCHEMA
    before, after = migrate(bare_url)
    assert (before.found, after.is_current) == (None, True)
    assert migrate(bare_url) == (after, after)


def test_a_newer_schema_is_left_alone_and_named(bare_url):
    pretend(bare_url, "9999")
    for refuse in (require_current, migrate):
        with pytest.raises(Stop, match=r"9999.*newer release") as caught:
            refuse(bare_url)
        assert caught.value.code is Exit.SCHEMA


@pytest.mark.parametrize("process", ["web", "engine", "worker", "clock"])
def test_a_process_refuses_a_database_that_does_not_fit(
    process, bare_url, redis_url, monkeypatch, tmp_path, capsys
):
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SERAPHIM_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", bare_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    assert main([process]) == Exit.SCHEMA
    assert "Run: seraphim migrate" in capsys.readouterr().err


def test_a_wrong_password_is_told_at_once_and_not_shown(database_url):
    secret = database_url.partition("seraphim:")[2].partition("@")[0]
    with pytest.raises(Stop, match="authentication failed") as caught:
        schema_of(database_url.replace(secret, "guess-me"))
    assert caught.value.code is Exit.SERVERS
    assert "guess-me" not in str(caught.value)
