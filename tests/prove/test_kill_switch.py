"""Promise 6: once a halt is committed no order is released, whoever asks, whatever runs, whatever is dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import sqlalchemy as sa

from shared.db.trading import DecisionRow, OrderRow, PositionRow, TradingStateRow
from shared.domain.orders import DONE
from shared.messages import ResumeTrading, StopTrading
from shared.settings import ROOT
from tests.prove.agreement import disagreements
from tests.prove.busy import fill_the_floor
from tests.prove.installation import Installation, seeded, wait_for


@pytest.fixture
def installation(settings):
    made = Installation(settings)
    yield made
    made.end()


@pytest.fixture
def trading(installation):
    """An installation whose engine trades briskly."""
    fill_the_floor(installation, busy_account=False)
    engine = installation.start()
    installation.wait_until_trading(engine)
    wait_for(lambda: ordered(installation), 30)
    return engine


def ordered(installation):
    query = sa.select(DecisionRow.recorded_at).where(
        DecisionRow.outcome == "ordered", DecisionRow.kind != "flatten"
    )
    return [row.recorded_at for row in installation.rows(query)]


def halts(installation):
    """(from, until) of every halt: by the database's clock, read inside the writing transactions.

    Journal and halt both hold the lease until they commit, so these clocks order their commits.
    """
    rows = installation.rows(sa.select(TradingStateRow.__table__).order_by(TradingStateRow.id))
    lifted = {row.lifts: row.created_at for row in rows if row.lifts}
    return [(row.created_at, lifted.get(row.id)) for row in rows if row.state == "halted"]


def released_while_halted(installation):
    return [
        at
        for at in ordered(installation)
        for since, until in halts(installation)
        if since < at and (until is None or at < until)
    ]


def working_entries(installation):
    rows = installation.rows(
        sa.text(
            "SELECT o.client_order_id FROM orders o JOIN order_intents i USING (client_order_id) "
            "WHERE o.state NOT IN ('filled', 'cancelled', 'expired', 'rejected') "
            "AND i.leg = 'entry'"  # exits stay: they make positions smaller
        )
    )
    return [row[0] for row in rows]


def held(installation):
    return installation.rows(sa.select(PositionRow.__table__).where(PositionRow.quantity != 0))


def kill(installation, *arguments):
    """`seraphim kill`, as a user types it."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SERAPHIM_HOME": str(installation.settings.home),
        "DATABASE_URL": installation.settings.database_url,
        "REDIS_URL": installation.settings.redis_url,
    }
    return subprocess.run(
        [sys.executable, "-m", "deploy", "kill", *arguments],
        env=environment, cwd=installation.settings.home, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def stop_and_resume(installation, rounds, dice):
    for _ in range(rounds):
        before = len(ordered(installation))
        wait_for(lambda: len(ordered(installation)) > before, 60)  # noqa: B023
        asked = installation.ask(StopTrading(flatten=dice.random() < 0.5, reason="enough"))
        stopped = installation.settled(asked)
        assert stopped.state == "done"
        assert all(step["ok"] for step in stopped.result["steps"]), stopped.result
        assert working_entries(installation) == []
        if stopped.arguments["flatten"]:
            assert held(installation) == []
        installation.wait_for_moments(2)
        asked = installation.ask(ResumeTrading())
        assert installation.settled(asked).state == "done"
    return len(ordered(installation))


def prove(installation, engine, rounds, dice):
    released = stop_and_resume(installation, rounds, dice)
    assert released_while_halted(installation) == []
    assert engine.stop() == 0
    assert "\n".join(disagreements(installation.db)) == ""
    print(f"\n{rounds} halts among {released} releases: none released while halted")


def test_no_order_is_released_after_a_halt_and_a_resume_lifts_it(installation, trading):
    prove(installation, trading, 2, seeded("halts_sample"))


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_no_order_is_released_after_any_of_many_halts(installation, trading):
    prove(installation, trading, 25, seeded("halts_proof"))


def test_a_halt_stands_through_a_restart_and_a_stop_that_a_crash_cut_short_is_finished(
    installation, trading
):
    asked = installation.ask(StopTrading(flatten=True))
    wait_for(lambda: installation.command(asked).state != "asked", every=0.001)
    trading.kill()
    engine = installation.start()
    installation.wait_until_trading(engine)
    stopped = installation.settled(asked)
    assert all(step["ok"] for step in stopped.result["steps"]), stopped.result
    assert held(installation) == []
    installation.wait_for_moments(3)
    assert len(halts(installation)) == 1
    assert released_while_halted(installation) == []
    assert engine.stop() == 0
    assert "\n".join(disagreements(installation.db)) == ""


def test_seraphim_kill_stops_a_running_engine_and_reports_each_step(installation, trading):
    done = kill(installation, "--flatten")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(". ")[1].split(":")[0] for line in done.stdout.splitlines()[:4]] == [
        "block", "cancel", "flatten", "verify",
    ]  # fmt: skip
    assert held(installation) == []
    installation.wait_for_moments(2)
    assert released_while_halted(installation) == []


def test_seraphim_kill_without_an_engine_halts_the_next_one(installation, trading):
    trading.kill()
    before = len(ordered(installation))
    done = kill(installation, "--wait", "1")
    assert done.returncode != 0
    assert "No engine answered. Trading is halted" in done.stdout
    engine = installation.start()
    installation.wait_until_trading(engine)
    [command] = installation.rows(sa.text("SELECT id FROM commands WHERE kind = 'StopTrading'"))
    assert installation.settled(command.id).state == "done"
    assert working_entries(installation) == []
    installation.wait_for_moments(2)
    assert len(ordered(installation)) == before
    assert engine.stop() == 0
    open_orders = sa.select(OrderRow.state).where(OrderRow.state.not_in(DONE))
    assert "new" not in {row.state for row in installation.rows(open_orders)}


def test_seraphim_kill_needs_no_redis(installation, trading):
    settings = installation.settings
    installation.settings = settings.with_urls(settings.database_url, "redis://127.0.0.1:1/0")
    done = kill(installation)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Trading is halted" in done.stdout
    assert working_entries(installation) == []
