"""What a restarted account knows: everything it knew, however it ended."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from engine import lease
from engine.bootstrap import Assembly
from engine.journal import Batch, Journal
from engine.matching import Level
from shared.db.trading import AccountRow, FillRow
from shared.domain.orders import Acknowledged, OrderType, Side, Submitted
from shared.messages import CreateStrategy
from tests.engine.test_journal import a_decision, a_request, moves
from tests.prove.agreement import bars_that_are_not_the_market
from tests.prove.installation import Installation


@pytest.fixture
def installation(settings):
    made = Installation(settings, speed=300)  # four batches a minute
    made.prepare()
    yield made
    made.end()


def a_strategy(installation, interval):
    main = {"instrument_id": installation.instruments()["BTC/USD"], "interval": interval}
    given = CreateStrategy(
        "Trend", "moving_average_cross", installation.account().id,
        {"short_window": 1, "long_window": 2}, {"main": main}, "1000", {"method": "fraction"},
    )  # fmt: skip
    return installation.create(given)


async def trading(installation, work):
    """`work(assembly, loop, until)` beside an account at work; `until(minutes)` waits for its market."""
    journal = Journal(installation.db, "main", lease.try_acquire(installation.db, "main"))
    with ThreadPoolExecutor(1) as thread:
        assembly = Assembly(installation.db, journal, thread, lambda *failed: None)
        loop = assembly.account(installation.account().id)
        begun = loop.moment_at

        async def until(minutes):
            while loop.moment_at < begun + timedelta(minutes=minutes):  # noqa: ASYNC110
                await asyncio.sleep(0)

        running = asyncio.create_task(loop.run())
        await work(assembly, loop, until)
        async with loop.turn_lock:
            running.cancel()
        return loop


def test_a_strategy_that_starts_between_two_bars_gets_its_first_bar_whole(installation):
    """Ticks heard before somebody asked for the interval used to be missing from its first bar."""
    strategy_id = a_strategy(installation, 300)

    async def start_late(assembly, loop, until):
        await until(2)
        with installation.db.connect() as connection:
            run = assembly.run(connection, strategy_id)
        while run.id not in loop.live:
            await asyncio.sleep(0)
            async with loop.turn_lock:
                if loop.market_time() > loop.moment_at:  # ticks were heard since
                    loop.start(run)
        await until(12)

    asyncio.run(trading(installation, start_late))
    assert list(bars_that_are_not_the_market(installation.db)) == []
    stored = sa.text("SELECT count(*) FROM bars WHERE interval = 300")
    assert installation.rows(stored)[0][0] >= 2


def test_marks_are_the_newest_quotes_again(installation):
    async def play(assembly, loop, until):
        await until(3)

    loop = asyncio.run(trading(installation, play))
    with installation.db.begin() as connection:  # as it stood at a moment some time ago
        connection.execute(sa.update(AccountRow).values(market_time=loop.moment_at))
    marks = loop.feed.marks(loop.market_time())
    assert marks == loop.core.portfolio.marks
    assert len(marks) == 4


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
@pytest.mark.parametrize(
    "trail", [{"trail": 0.3}, {"trail_fraction": 0.001}, {"trail_fraction": 0.07}]
)
def test_a_trailing_stop_stands_exactly_where_it_stood(side, trail):
    """Its level is kept, not the best price behind it: the way back must not move it by a digit."""
    for ticks in range(1, 20_000, 7):
        level = Level(OrderType.TRAILING_STOP, side, **trail)
        level.best = float(Decimal(ticks) * Decimal("0.01") + 50)
        kept = level.stop_level()
        again = Level(OrderType.TRAILING_STOP, side, **trail)
        again.best = again.best_behind(kept)
        assert again.stop_level() == kept


def test_an_order_is_not_matched_against_prices_from_before_it_worked(installation):
    """A restart hears the prices since the last moment again; a stop that began to work later must not."""
    a_strategy(installation, 60)
    moment = installation.market_time()
    began = moment + timedelta(seconds=30)
    request = a_request(side=Side.BUY, type=OrderType.STOP, stop_price=1e-9, decided_at=moment)
    with_decision = replace(a_decision(request), decided_at=moment)
    journal = Journal(installation.db, "main", lease.try_acquire(installation.db, "main"))
    journal.commit(Batch(1, "simulated", moment, decisions=[with_decision]))
    heard = moves(request, Submitted(moment), Acknowledged(began))
    journal.commit(Batch(1, "simulated", began, moves=heard))

    async def play(assembly, loop, until):
        await until(2)

    asyncio.run(trading(installation, play))
    [fill] = installation.rows(sa.select(FillRow.filled_at))
    assert fill.filled_at > began
