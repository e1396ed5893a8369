"""One engine trades for a group, by the database's word: whoever lost the lease commits nothing."""

from __future__ import annotations

import os
import signal
import time
from uuid import uuid4

import psutil
import pytest
import sqlalchemy as sa

from shared import bus
from shared.db.trading import EngineLeaseRow
from tests.prove.agreement import disagreements
from tests.prove.busy import fill_the_floor
from tests.prove.installation import Installation, wait_for

EXIT_LEASE_LOST = 75


@pytest.fixture
def installation(settings):
    made = Installation(settings)
    yield made
    made.end()


@pytest.fixture
def pair(installation):
    """An engine that trades and one that stands by."""
    fill_the_floor(installation, busy_account=False)
    first = installation.start()
    installation.wait_until_trading(first)
    second = installation.start()
    wait_for(lambda: "standing_by" in second.said())
    return first, second


def owner(installation):
    lease = installation.lease()
    return lease.pid if lease else None


def test_the_second_engine_stands_by_and_takes_over_within_seconds_of_a_kill(installation, pair):
    first, second = pair
    installation.wait_for_moments(2)
    assert owner(installation) == first.pid
    expected = {"engine:main": "trading", f"engine:main:standby:{second.pid}": "standby"}
    wait_for(
        lambda: {name: b["state"] for name, b in bus.heartbeats(installation.redis)} == expected
    )
    first.kill()
    began = time.monotonic()
    installation.wait_until_trading(second)
    seconds = time.monotonic() - began
    print(f"\nthe stand-by traded {seconds:.1f} s after the kill")
    assert seconds < 10
    assert second.stop() == 0
    assert "\n".join(disagreements(installation.db)) == ""


def test_an_engine_that_ends_in_order_hands_over_at_once(installation, pair):
    first, second = pair
    assert first.stop() == 0
    began = time.monotonic()
    installation.wait_until_trading(second)
    assert time.monotonic() - began < 10
    assert second.stop() == 0
    assert "\n".join(disagreements(installation.db)) == ""


def expire_lease(installation):
    """Fifteen seconds without waiting for them."""
    with installation.db.begin() as connection:
        past = sa.func.clock_timestamp() - sa.text("interval '1 second'")
        connection.execute(sa.update(EngineLeaseRow).values(expires_at=past))


def test_a_frozen_engine_is_ended_by_the_stand_by_when_its_lease_is_over(installation, pair):
    first, second = pair
    os.kill(first.pid, signal.SIGSTOP)
    time.sleep(2)
    assert owner(installation) == first.pid, "its lease is not over yet"
    expire_lease(installation)
    installation.wait_until_trading(second)
    assert first.wait(5) == -signal.SIGKILL
    assert second.stop() == 0
    assert "\n".join(disagreements(installation.db)) == ""


def test_an_engine_whose_lease_went_to_another_host_commits_nothing_more_and_ends(
    installation, pair
):
    first, second = pair
    second.kill()
    with installation.db.begin() as connection:
        connection.execute(
            sa.update(EngineLeaseRow).values(
                token=uuid4(), holder="elsewhere|boot|1", pid=1, last_batch=None,
                expires_at=sa.func.clock_timestamp() + sa.text("interval '1 hour'"),
            )
        )  # fmt: skip
        taken_at = connection.scalar(sa.func.clock_timestamp())
    assert first.wait(15) == EXIT_LEASE_LOST
    assert owner(installation) == 1, "it did not give back what is not its own"
    for table, column in (
        ("decisions", "recorded_at"), ("fills", "recorded_at"), ("order_events", "recorded_at"),
    ):  # fmt: skip
        late = sa.text(f"SELECT count(*) FROM {table} WHERE {column} > :at")
        with installation.db.connect() as connection:
            assert connection.scalar(late, {"at": taken_at}) == 0, table
    assert not psutil.pid_exists(first.pid) or first.process.poll() is not None


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_a_frozen_engine_is_ended_after_the_whole_lease(installation, pair):
    first, second = pair
    os.kill(first.pid, signal.SIGSTOP)
    began = time.monotonic()
    installation.wait_until_trading(second, 60)
    seconds = time.monotonic() - began
    print(f"\nthe stand-by traded {seconds:.1f} s after the first engine froze")
    assert 5 < seconds < 25
    assert first.wait(5) == -signal.SIGKILL
