"""Promise 1, and acceptance 4: kill -9 at any moment loses no order, doubles none, and changes nothing."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from shared.db.trading import FillRow, OrderRow
from shared.messages import StartStrategy, StopStrategy
from tests.prove.agreement import (
    bars_that_are_not_the_market,
    disagreements,
    first_difference,
    record,
)
from tests.prove.busy import fill_the_floor
from tests.prove.installation import Installation, cloned, seeded, wait_for


@pytest.fixture
def installation(settings):
    made = Installation(settings)
    yield made
    made.end()


def command_something(installation, strategies, dice):
    """Start or stop one of the strategies of the second account, as a nervous user would."""
    chosen = dice.choice(strategies)
    if dice.random() < 0.6:
        installation.ask(StartStrategy(chosen))
    else:
        installation.ask(StopStrategy(chosen, flatten=dice.random() < 0.5))


def killed_again_and_again(installation, strategies, kills, dice, longest):
    for _ in range(kills):
        engine = installation.start()
        if dice.random() < 0.8:  # else it is killed while it starts
            installation.wait_until_trading(engine)
        until = time.monotonic() + dice.uniform(0, longest)
        while time.monotonic() < until:
            command_something(installation, strategies, dice)
            time.sleep(dice.uniform(0, longest / 4))
        engine.kill()


def prove(installation, kills, longest, name):
    dice = seeded(name)
    strategies = fill_the_floor(installation)
    with cloned(installation, name) as undisturbed:
        killed_again_and_again(installation, strategies, kills, dice, longest)
        engine = installation.start()
        installation.wait_until_trading(engine)
        assert engine.stop() == 0
        reached = installation.market_time()

        engine = undisturbed.start()
        wait_for(lambda: undisturbed.market_time() >= reached, 120)
        assert engine.stop() == 0

        for one in (undisturbed, installation):
            assert "\n".join(disagreements(one.db)) == ""
            assert list(bars_that_are_not_the_market(one.db)) == []
        account = installation.account().id
        ours = record(installation.db, account, reached)
        theirs = record(undisturbed.db, account, reached)
    for what in ("decisions", "fills"):
        assert first_difference(ours[what], theirs[what]) == ""
    count = sa.func.count()
    fills, orders = (
        installation.rows(sa.select(count).select_from(row))[0][0] for row in (FillRow, OrderRow)
    )
    print(
        f"\n{kills} kills until market time {reached}: {orders} orders and {fills} fills in all, "
        f"{len(ours['decisions'])} decisions and {len(ours['fills'])} fills equal to those of an "
        "engine that was never disturbed"
    )
    return len(ours["fills"])


def test_an_engine_killed_at_any_moment_trades_as_if_nothing_had_happened(installation):
    equal = prove(installation, kills=3, longest=1.0, name="crash_sample")
    assert equal > 20


@pytest.mark.prove
@pytest.mark.timeout(1200)
def test_twenty_kills_of_a_busy_engine_lose_nothing_and_change_nothing(installation):
    equal = prove(installation, kills=20, longest=3.0, name="crash_matrix")
    assert equal > 200
