"""`seraphim doctor` finds what is wrong and says what to do."""

import socket
from dataclasses import replace

import psycopg

from deploy.commands.doctor import findings
from shared.db.sessions import plain_url
from shared.settings import Settings


def report(settings: Settings) -> dict[bool, str]:
    """Well or not -> everything said about it."""
    said = {True: "", False: ""}
    for finding in findings(settings):
        said[finding.well] += f"{finding.what}: {finding.remedy}\n"
    return said


def test_a_sound_installation_is_told_so(settings):
    free = replace(settings, port=free_port())
    said = report(free)
    for word in ("Python 3.", "packages: ", "PostgreSQL 18", "Redis ", "schema 0", "is free"):
        assert word in said[True]


def test_a_taken_port_is_found(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = report(replace(settings, port=taken.getsockname()[1]))
    assert "PORT=..." in said[False]


def test_an_old_schema_is_found(settings):
    with psycopg.connect(plain_url(settings.database_url)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "newer release" in report(settings)[False]


def test_a_redis_that_does_not_answer_is_found(settings):
    said = report(replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    assert "Redis (yours) does not answer" in said[False]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
