"""Promise 8: the same strategy on the same bars trades the same in a backtest and through the live engine."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa

from engine import catalogue, lease
from engine.backtest.specification import Specification, run
from engine.bootstrap import Assembly, bind, unsent
from engine.costs import Costs
from engine.desk import Desk
from engine.history import store_live_bars
from engine.journal import Journal
from engine.risk.rules import OFF, policy_from
from engine.sizing import Sizing
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.db.trading import AccountRow, FillRow, LedgerEntryRow, PositionRow
from shared.messages import CreateStrategy, OpenReplay
from tests.builders import a_market, strategy_type

BARS = 700
COSTS = {"fee_rate": "0.001", "slippage": "0.0005"}
SIZING = {"method": "fraction", "fraction": 0.5}
QUICK = {
    "moving_average_cross": {"short_window": 3, "long_window": 9},
    "rsi_reversion": {"window": 5, "stop": 0.01},
    "bollinger_reversion": {"window": 10, "deviations": 1.5, "stop": 0.012, "patience": 9},
    "donchian_breakout": {"entry_window": 8, "exit_window": 5, "atr_window": 5, "stop_atr": 1.5},
}


@pytest.fixture
def engine(database_url):
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


def an_imported_series(engine, bars, lot_size=None):
    with engine.begin() as connection:
        instrument_id = connection.execute(
            sa.insert(InstrumentRow)
            .values(
                venue="replay", symbol=f"X{bars.instrument_id}", base_asset="X", quote_asset="USD",
                calendar="24/7", lot_size=lot_size, tick_size=Decimal("0.01"),
            )
            .returning(InstrumentRow.id)
        ).scalar_one()  # fmt: skip
        bars = replace(bars, instrument_id=instrument_id)
        store_live_bars(connection, bars, source="import", simulated=False)
        series_id = connection.scalar(sa.text("SELECT id FROM series"))
    return instrument_id, series_id, bars


def play(engine, settings, series_id, instrument_id, name, parameters, sizing, policy):
    """Play the series through the live engine, as the engine process would; its fills."""
    token = lease.try_acquire(engine, "main")
    desk = Desk("main")
    with engine.begin() as connection:
        catalogue.sync(connection, settings.strategies_folder)
        asked = OpenReplay("replay", [series_id], 0.0, "100000", costs=COSTS, risk_policy=policy)
        desk.open_replay(connection, asked, "tester")
        account_id = connection.scalar(sa.select(AccountRow.id))
        inputs = {"main": {"instrument_id": instrument_id, "interval": 60, "trades": True}}
        desk.create_strategy(
            connection,
            CreateStrategy(
                name, name, account_id, parameters, inputs, "100000", sizing, start=True
            ),
            "tester",
        )

    async def live():
        with ThreadPoolExecutor(1) as thread:
            failures = []
            assembly = Assembly(
                engine,
                Journal(engine, "main", token),
                thread,
                lambda *failed: failures.append(failed),
            )
            loop = assembly.account(account_id)
            await loop.turn(unsent(loop), loop.moment_at)
            await loop.run()
            assert failures == []
            return loop

    loop = asyncio.run(live())
    with engine.connect() as connection:
        fills = connection.execute(sa.select(FillRow.__table__).order_by(FillRow.id)).all()
    return loop, fills


@pytest.mark.parametrize("name", sorted(QUICK))
@pytest.mark.parametrize("lot_size", [None, Decimal("0.01")], ids=["fractional", "lots"])
def test_the_same_bars_give_the_same_trades_live_and_in_a_backtest(
    engine, settings, name, lot_size
):
    instrument_id, series_id, bars = an_imported_series(engine, a_market(BARS, 11), lot_size)
    policy = OFF.as_json()
    loop, live = play(engine, settings, series_id, instrument_id, name, QUICK[name], SIZING, policy)

    with engine.connect() as connection:
        inputs = bind(connection, {"main": {"instrument_id": instrument_id, "interval": 60}})
    outcome = run(
        Specification(
            strategy_type(name),
            inputs,
            {"main": bars},
            loop.instruments,
            QUICK[name],
            costs=Costs(0.001, 0.0005),
            sizing=Sizing.from_json(SIZING),
            policy=policy_from(policy),
        )
    )
    research = outcome.record.fills

    assert len(research) > 20
    assert [(f.filled_at, f.side, float(f.price)) for f in live] == [
        (b.fill.at, b.fill.side.value, b.fill.price) for b in research
    ]
    if lot_size is not None:
        assert [float(f.quantity) for f in live] == [b.fill.quantity for b in research]
    assert [float(f.quantity) for f in live] == pytest.approx(
        [b.fill.quantity for b in research], rel=1e-9
    )
    assert float(loop.core.equity) == pytest.approx(outcome.core.equity, rel=1e-9)


def test_rows_of_a_played_account_agree_with_each_other(engine, settings):
    name = "bollinger_reversion"
    instrument_id, series_id, _ = an_imported_series(engine, a_market(300, 5))
    loop, fills = play(
        engine, settings, series_id, instrument_id, name, QUICK[name], SIZING, OFF.as_json()
    )
    assert fills
    with engine.connect() as connection:
        held = sum(f.quantity if f.side == "buy" else -f.quantity for f in fills)
        position = connection.execute(sa.select(PositionRow.__table__)).one()
        assert position.quantity == held
        entry = LedgerEntryRow
        into = sa.func.sum(entry.amount).filter(entry.debit == "holding", entry.asset == "USD")
        out = sa.func.sum(entry.amount).filter(entry.credit == "holding", entry.asset == "USD")
        assert connection.scalar(sa.select(into - out)) == loop.core.portfolio.cash
