"""The lease: one engine trades for a group; a newcomer waits, ends a holder whose time is over, or takes its place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from engine import lease
from shared.db.sessions import make_engine
from shared.db.trading import EngineLeaseRow
from shared.settings import ROOT

HOLD = (
    "import sys, time; from engine import lease; from shared.db.sessions import make_engine\n"
    "print(lease.try_acquire(make_engine(sys.argv[1]), 'main'), flush=True); time.sleep(60)"
)


@pytest.fixture
def engine(database_url):
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def holder(database_url):
    """Another process of this host that holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, database_url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() not in ("", "None")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def change(engine, **values):
    with engine.begin() as connection:
        connection.execute(sa.update(EngineLeaseRow).values(values))


def from_now(seconds):
    return sa.func.clock_timestamp() + sa.text(f"interval '{seconds} seconds'")


def holder_pid(engine):
    with engine.connect() as connection:
        return connection.scalar(sa.select(EngineLeaseRow.pid))


def test_the_first_takes_it_and_giving_it_back_frees_it(engine):
    token = lease.try_acquire(engine, "main")
    assert token is not None
    assert holder_pid(engine) == os.getpid()
    lease.release(engine, "main", token)
    assert holder_pid(engine) is None


def test_groups_do_not_know_each_other(engine):
    assert lease.try_acquire(engine, "main") is not None
    assert lease.try_acquire(engine, "other") is not None


def test_giving_back_a_lease_that_another_holds_changes_nothing(engine):
    old = lease.try_acquire(engine, "main")
    lease.try_acquire(engine, "main")
    lease.release(engine, "main", old)
    assert holder_pid(engine) == os.getpid()


def test_nobody_gets_past_a_living_holder(engine, holder):
    assert lease.try_acquire(engine, "main") is None
    assert holder_pid(engine) == holder.pid


def test_a_holder_that_is_gone_is_replaced_at_once(engine, holder):
    holder.kill()
    holder.wait()
    assert lease.try_acquire(engine, "main") is not None


def test_a_holder_that_lives_past_its_time_is_killed_first(engine, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    assert lease.try_acquire(engine, "main") is None
    change(engine, expires_at=from_now(-1))
    assert lease.try_acquire(engine, "main") is not None
    assert holder.wait(5) == -signal.SIGKILL


FROZEN = (
    "import sys, time; import sqlalchemy as sa; from engine import lease\n"
    "from shared.db.sessions import make_engine\n"
    "engine = make_engine(sys.argv[1]); lease.try_acquire(engine, 'main')\n"
    "with engine.begin() as c:\n"
    "    c.execute(sa.text('UPDATE engine_leases SET last_batch = gen_random_uuid()'))\n"
    "    print('inside', flush=True); time.sleep(60)"
)


@pytest.fixture
def frozen(database_url):
    """A holder that stands still inside a commit, the lease's row locked."""
    process = subprocess.Popen(
        [sys.executable, "-c", FROZEN, database_url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == "inside"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_stand_by_does_not_wait_for_a_holder_inside_a_commit(engine, frozen):
    began = time.monotonic()
    assert lease.try_acquire(engine, "main") is None
    assert time.monotonic() - began < 1


def test_a_holder_that_froze_inside_a_commit_is_ended_when_its_time_is_over(
    engine, frozen, monkeypatch
):
    """The row it locked used to keep the stand-by waiting for as long as it stayed frozen."""
    monkeypatch.setattr("engine.lease._read", over(lease._read))
    assert lease.try_acquire(engine, "main") is not None
    assert frozen.wait(5) == -signal.SIGKILL


def over(read):
    """The lease as it will be read sixteen seconds from now."""

    def later(engine, group):
        found = read(engine, group)
        return SimpleNamespace(
            token=found.token, holder=found.holder, pid=found.pid, over=found.over + 16
        )

    return later


def test_a_pid_that_came_round_again_is_not_killed(engine, holder):
    """The holder died, and its pid belongs to somebody who has nothing to do with us."""
    started = lease._started(holder.pid)
    name = f"{socket.gethostname()}|{lease._boot_id()}|{int(started) - 1}"
    change(engine, holder=name, expires_at=from_now(-1))
    assert lease.try_acquire(engine, "main") is not None
    with pytest.raises(subprocess.TimeoutExpired):
        holder.wait(0.3)


def test_a_holder_of_another_boot_is_gone(engine, holder):
    name = f"{socket.gethostname()}|another boot|{lease._started(holder.pid)}"
    change(engine, holder=name)
    assert lease.try_acquire(engine, "main") is not None
    assert holder.poll() is None


@pytest.mark.parametrize(("over", "taken"), [(-5, False), (30, False), (61, True)])
def test_across_hosts_one_waits_for_the_expiry_and_the_longest_order_deadline(engine, over, taken):
    lease.try_acquire(engine, "main")
    change(engine, holder="elsewhere|boot|1", pid=1, expires_at=from_now(-over))
    assert (lease.try_acquire(engine, "main") is not None) == taken


def test_of_many_who_ask_at_once_one_gets_it(database_url, engine):
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, database_url], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    answers = [process.stdout.readline().strip() for process in asking]
    for process in asking:
        process.kill()
        process.wait()
        process.stdout.close()
    assert sorted(answer != "None" for answer in answers) == [False, False, False, True]


def test_the_answer_to_the_first_try_may_be_lost(engine):
    """Asking again is answered by a new token, not by waiting for our own lease to end."""
    assert lease.try_acquire(engine, "main") != lease.try_acquire(engine, "main")
