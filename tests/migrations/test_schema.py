"""Migrations go up, down and up again, and describe the same schema as the models."""

from __future__ import annotations

import re
import warnings
import zlib
from dataclasses import asdict

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.orm import Session

from shared.db.base import Base
from shared.db.run_decisions import decisions_of
from shared.db.schema import metadata
from shared.db.sessions import make_engine
from shared.domain import clock
from shared.settings import ROOT

APPEND_ONLY = (
    "audit",
    "fills",
    "ledger_entries",
    "order_events",
    "order_intents",
    "trading_states",
)


@pytest.fixture
def url(empty_database):
    yield from empty_database()


def config(url):
    found = Config()
    found.set_main_option("script_location", str(ROOT / "migrations"))
    found.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return found


def differences(url):
    engine = make_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection, warnings.catch_warnings():
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)


def tables(url):
    return set(sa.inspect(make_engine(url, poolclass=sa.NullPool)).get_table_names())


def test_up_down_and_up_again_leaves_what_the_models_describe(url):
    command.upgrade(config(url), "head")
    assert differences(url) == []
    command.downgrade(config(url), "base")
    assert tables(url) == {"alembic_version"}
    with make_engine(url, poolclass=sa.NullPool).connect() as connection:
        left = connection.scalar(
            sa.text("SELECT count(*) FROM pg_proc WHERE proname = 'refuse_change'")
        )
    assert left == 0
    command.upgrade(config(url), "head")
    assert differences(url) == []


def test_what_runs_decided_is_kept_when_it_changes_its_place(url):
    engine = make_engine(url, poolclass=sa.NullPool)
    command.upgrade(config(url), "0010")
    with engine.begin() as connection:
        connection.execute(sa.text(A_RUN_THAT_DECIDED))
        before = connection.execute(sa.text("SELECT * FROM run_decisions ORDER BY number")).all()
    assert len(before) == 2500
    command.upgrade(config(url), "0011")
    with Session(engine) as session:
        kept = decisions_of(session, 1)
        assert (len(kept), kept.outcomes()) == (2500, {"ordered": 1250, "nothing": 1250})
        for row in (before[0], before[1234], before[-1]):
            assert tuple(row)[1:] == tuple(asdict(kept.row(row.number - 1)).values())
    command.downgrade(config(url), "0010")
    with engine.connect() as connection:
        again = connection.execute(sa.text("SELECT * FROM run_decisions ORDER BY number")).all()
    assert again == before


def test_the_times_of_runs_are_kept_when_they_are_kept_otherwise(url):
    engine = make_engine(url, poolclass=sa.NullPool)
    minute = 60_000_000_000
    given = [
        np.arange(5) * minute,
        np.array([7]),
        np.zeros(0),
        np.array([0, 3, 6, 7, 8, 9]) * minute,
    ]
    command.upgrade(config(url), "0011")
    with engine.begin() as connection:
        # the code of its strategy is of no interest here
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for number, times in enumerate(given, 1):
            connection.execute(sa.text(A_RUN), {"id": number})
            data = zlib.compress(times.astype("<i8").tobytes(), number % 2)
            connection.execute(
                sa.text("INSERT INTO run_series VALUES (:id, 'times', :data)"),
                {"id": number, "data": data},
            )

    def kept():
        with engine.connect() as connection:
            rows = connection.scalars(sa.text("SELECT data FROM run_series ORDER BY run_id"))
            return [zlib.decompress(data) for data in rows]

    command.upgrade(config(url), "0012")
    for data, times in zip(kept(), given, strict=True):
        np.testing.assert_array_equal(clock.unpack(data), times)
    command.downgrade(config(url), "0011")
    assert kept() == [times.astype("<i8").tobytes() for times in given]


A_RUN = """
INSERT INTO runs (
    id, strategy_type, code_hash, parameters, inputs, options, starts_at, ends_at, bars, engine, elapsed_seconds,
    metrics, digest
) VALUES (:id, 's', 'h', '{}', '{}', '{}', now(), now(), 1, 'core', 1, '{}', '')
"""

A_RUN_THAT_DECIDED = """
SET LOCAL session_replication_role = replica;  -- its strategy's code is of no interest here
INSERT INTO instruments (id, venue, symbol, base_asset, quote_asset, calendar)
VALUES (1, 'replay', 'X', 'X', 'USD', '24/7');
INSERT INTO runs (
    id, strategy_type, code_hash, parameters, inputs, options, starts_at, ends_at, bars, engine, elapsed_seconds,
    metrics, digest
) VALUES (1, 's', 'h', '{}', '{}', '{}', now(), now(), 1, 'core', 1, '{}', '');
INSERT INTO run_decisions
SELECT 1, n, 1, timestamptz '2026-01-01' + n * interval '1 minute', 'signal',
    CASE WHEN n % 3 > 0 THEN n % 3 / 2.0 END, 'because ' || n, jsonb_build_object('close', n + 0.5),
    '[{"rule": "r", "allowed": true}]', '[]', CASE n % 2 WHEN 0 THEN 'ordered' ELSE 'nothing' END, ''
FROM generate_series(1, 2500) AS n
"""


def test_there_is_one_line_of_migrations():
    assert len(ScriptDirectory.from_config(config("postgresql://")).get_heads()) == 1


def test_rows_that_say_what_happened_cannot_be_changed(database_url):
    engine = make_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        guarded = connection.scalars(
            sa.text(
                "SELECT event_object_table FROM information_schema.triggers WHERE trigger_name = 'append_only'"
            )
        )
        assert set(guarded) == set(APPEND_ONLY)
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO audit (actor, action, data) VALUES ('me', 'did', '{}')")
        )
    for statement in ("UPDATE audit SET actor = 'you'", "DELETE FROM audit"):
        with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="append-only"):
            connection.execute(sa.text(statement))


def test_each_table_names_the_one_who_writes_it():
    for cls in Base.__subclasses__():
        assert re.search(r"[Ww]ritten by|Inserted by|kept beside them by", cls.__doc__), cls
