"""Acceptance 5: the servers under a running engine are flushed, killed and cut off; it goes on by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
import redis

from deploy.embedded import using
from deploy.keeper import Place
from deploy.processes import is_locked, wait_until
from deploy.schema import migrate
from shared import bus
from shared.db.sessions import plain_url
from shared.messages import EditRiskPolicy, StopTrading
from shared.settings import Settings
from tests.prove.agreement import (
    bars_that_are_not_the_market,
    disagreements,
    first_difference,
    record,
)
from tests.prove.busy import fill_the_floor
from tests.prove.installation import Installation, cloned, seeded, wait_for

WITHIN_SECONDS = 10


@pytest.fixture
def installation():
    """With servers of its own, made to be killed; PostgreSQL keeps its promises as in production."""
    # Not tmp_path: another pytest that starts shuts its parent folder to PostgreSQL's user.
    with TemporaryDirectory(prefix="seraphim-prove-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with using("postgres", home) as database_url, using("redis", home) as redis_url:
            migrate(database_url)
            settings = Settings.from_env({"SERAPHIM_HOME": folder})
            made = Installation(settings.with_urls(database_url, redis_url))
            yield made
            made.end()
        for kind in ("postgres", "redis"):
            wait_until(lambda: not is_locked(Place(home, kind).keeper_lock), 30)  # noqa: B023


def server_pid(installation, kind):
    return int(json.loads(Place(installation.settings.home, kind).server.read_text())["pid"])


def flush_redis(installation):
    installation.redis.flushall()


def kill_redis(installation):
    os.kill(server_pid(installation, "redis"), signal.SIGKILL)


def crash_postgres(installation):
    """As `pg_ctl stop -m immediate`: every session cut, recovery at the next start."""
    os.kill(server_pid(installation, "postgres"), signal.SIGQUIT)


def restart_postgres(installation):
    os.kill(server_pid(installation, "postgres"), signal.SIGINT)


def kill_postgres(installation):
    os.kill(server_pid(installation, "postgres"), signal.SIGKILL)


def cut_connections(installation, dice, seconds):
    """End every session of the database, at random moments; how many were ended."""
    ended = 0
    until = time.monotonic() + seconds
    url = plain_url(installation.settings.database_url)
    with psycopg.connect(url, autocommit=True) as ours:
        while time.monotonic() < until:
            ended += ours.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()[0]
            time.sleep(dice.uniform(0.005, 0.15))
    return ended


def seconds_until_trading(installation, engine):
    """Since now: two more moments closed, and the engine's heartbeat and quotes are in Redis."""
    began = time.monotonic()
    closed = []

    def is_trading():
        assert engine.is_alive, engine.said()[-3000:]
        with suppress(Exception):  # the servers are away
            now = installation.market_time()
            if not closed or now > closed[-1]:
                closed.append(now)
            return len(closed) > 2 and any(
                name == "engine:main" for name, _ in bus.heartbeats(installation.redis)
            )
        return False

    wait_for(is_trading, 60)
    return time.monotonic() - began


def prove(installation, disasters, dice, name):
    fill_the_floor(installation, busy_account=False)
    slowest = {}
    with cloned(installation, name) as undisturbed:
        engine = installation.start()
        installation.wait_until_trading(engine)
        for disaster in disasters:
            time.sleep(dice.uniform(0, 1))
            disaster(installation)
            seconds = seconds_until_trading(installation, engine)
            slowest[disaster.__name__] = max(seconds, slowest.get(disaster.__name__, 0.0))
        ended = cut_connections(installation, dice, 0.5 * len(disasters))
        slowest["cut_connections"] = seconds_until_trading(installation, engine)
        assert engine.stop() == 0
        reached = installation.market_time()

        engine = undisturbed.start()
        wait_for(lambda: undisturbed.market_time() >= reached, 240)
        assert engine.stop() == 0
        for one in (undisturbed, installation):
            assert "\n".join(disagreements(one.db)) == ""
        assert list(bars_that_are_not_the_market(installation.db)) == []
        account = installation.account().id
        ours, theirs = (record(one.db, account, reached) for one in (installation, undisturbed))
    for what in ("decisions", "fills"):
        assert first_difference(ours[what], theirs[what]) == ""
    told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest.items())
    print(
        f"\nslowest recoveries: {told}; {ended} sessions cut; "
        f"{len(ours['fills'])} fills as without all that"
    )
    assert {name: s for name, s in slowest.items() if s > WITHIN_SECONDS} == {}


def test_a_running_engine_outlives_its_servers(installation):
    dice = seeded("recovery_sample")
    prove(installation, [flush_redis, kill_redis, kill_postgres], dice, "recovery_sample")


@pytest.mark.prove
@pytest.mark.timeout(1200)
def test_a_running_engine_outlives_its_servers_again_and_again(installation):
    dice = seeded("recovery_proof")
    kinds = [flush_redis, kill_redis, crash_postgres, restart_postgres, kill_postgres] * 4
    dice.shuffle(kinds)
    prove(installation, kinds, dice, "recovery_proof")


def test_commands_reach_the_engine_while_redis_is_away(settings):
    with pytest.raises(redis.RedisError):
        bus.connect("redis://127.0.0.1:1/0").ping()
    away = settings.with_urls(settings.database_url, "redis://127.0.0.1:1/0")
    installation = Installation(away)
    try:
        installation.prepare()
        engine = installation.start()
        installation.wait_until_trading(engine)
        account = installation.account().id
        asked = installation.ask(EditRiskPolicy(account, {}), announce=False)
        assert installation.settled(asked, 10).state == "done"
        asked = installation.ask(StopTrading(account), announce=False)
        assert installation.settled(asked, 10).state == "done"
        assert engine.stop() == 0
    finally:
        installation.end()


def test_an_engine_told_to_end_while_the_database_is_away_ends(installation):
    installation.prepare()
    engine = installation.start()
    installation.wait_until_trading(engine)
    keeper = json.loads(Place(installation.settings.home, "postgres").state.read_text())["keeper"]
    os.kill(keeper, signal.SIGSTOP)  # it would start the server again
    try:
        kill_postgres(installation)
        wait_for(lambda: "journal.waiting" in engine.said())
        began = time.monotonic()
        engine.stop(15)
        assert time.monotonic() - began < 12
    finally:
        os.kill(keeper, signal.SIGCONT)
