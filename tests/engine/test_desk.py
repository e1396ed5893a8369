"""Commands: what each does, and what each refuses with the field, the value and the remedy."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa

from engine.bootstrap import prepare
from engine.desk import Denied, Desk
from engine.history import store_live_bars
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.db.trading import AccountRow, EventRow, LedgerEntryRow, PositionRow, StrategyRow
from shared.messages import (
    CreateStrategy,
    DeleteStrategy,
    EditRiskPolicy,
    EditStrategy,
    OpenReplay,
    StartReplay,
    StartStrategy,
)
from tests.builders import START, a_market

DESK = Desk("main")


@pytest.fixture(scope="module")
def engine(module_settings):
    """An installation after its first start, with imported bars to replay."""
    engine = make_engine(module_settings.database_url)
    prepare(engine, module_settings)
    with engine.begin() as connection:
        instrument = connection.scalar(
            sa.insert(InstrumentRow)
            .values(venue="replay", symbol="X", base_asset="X", quote_asset="USD", calendar="24/7")
            .returning(InstrumentRow.id)
        )
        bars = a_market(50, instrument_id=instrument)
        store_live_bars(connection, bars, source="import", simulated=False)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine):
    """Everything a test does is undone after it."""
    with engine.connect() as connection:
        yield connection
        connection.rollback()


def instrument_of(connection, symbol):
    return connection.scalar(sa.select(InstrumentRow.id).where(InstrumentRow.symbol == symbol))


def a_strategy(connection, **changed):
    main = {"instrument_id": instrument_of(connection, "BTC/USD"), "interval": 60}
    account = connection.scalar(sa.select(AccountRow.id).where(AccountRow.name == "paper"))
    valid = CreateStrategy(
        "Trend", "moving_average_cross", account, {}, {"main": main}, "1000", {"method": "fraction"}
    )
    return replace(valid, **changed)


def created(connection, **changed):
    DESK.create_strategy(connection, a_strategy(connection, **changed), "me")
    return connection.execute(
        sa.select(StrategyRow.__table__).order_by(StrategyRow.id.desc())
    ).first()


def a_replay(connection, **changed):
    series = connection.scalar(sa.text("SELECT id FROM series WHERE source = 'import'"))
    return replace(OpenReplay("Old days", [series], 0.0, "100000"), **changed)


def on(interval, symbol="BTC/USD"):
    """Inputs, once the instrument's id is known."""
    return lambda connection: {
        "main": {"instrument_id": instrument_of(connection, symbol), "interval": interval}
    }


@pytest.mark.parametrize(
    ("changed", "field", "text"),
    [
        ({"name": "  "}, "name", "name: '  ' must have 1 to 80 characters"),
        ({"name": "x" * 81}, "name", "must have 1 to 80 characters"),
        ({"account_id": 99}, "account_id", "account: there is no account 99"),
        ({"type": "magic"}, "type", "strategy type 'magic' is not one of bollinger_reversion"),
        ({"parameters": {"short_window": 0}}, "short_window", "short_window: 0 must be at least 1"),
        ({"parameters": {"short_window": 30}}, "short_window", "must be less than long_window 30"),
        ({"parameters": {"short_window": "a"}}, "short_window", "'a' is not a whole number"),
        ({"parameters": {"speed": 1}}, "speed", "is no parameter here (known: short_window"),
        ({"inputs": {}}, "main", "main: choose an instrument and an interval"),
        ({"inputs": on(60, "X")}, "main", "main: choose an instrument of venue simulated"),
        ({"inputs": on("1m")}, "main", "interval '1m' is not a number of seconds"),
        ({"inputs": on(7)}, "main", "interval 7 s must divide a day"),
        ({"inputs": on(0)}, "main", "interval 0 s must divide a day"),
        ({"inputs": on(172_800)}, "main", "interval 172800 s must divide a day"),
        ({"allocation": "a lot"}, "allocation", "allocation: 'a lot' is not an amount"),
        ({"allocation": "0"}, "allocation", "allocation: '0' must be above 0"),
        ({"allocation": "NaN"}, "allocation", "allocation: 'NaN' must be above 0"),
        ({"allocation": "1e99"}, "allocation", "is more than this account can mean"),
        ({"sizing": {"method": "all"}}, "method", "method: 'all'"),
        ({"sizing": {"method": "value"}}, "value", "value: give a number above 0"),
    ],
)  # fmt: skip
def test_a_strategy_that_cannot_be_is_denied_with_field_value_and_remedy(
    connection, changed, field, text
):
    changed = {
        name: value(connection) if callable(value) else value for name, value in changed.items()
    }
    with pytest.raises(Denied) as denied:
        DESK.create_strategy(connection, a_strategy(connection, **changed), "me")
    assert text in str(denied.value)
    assert denied.value.field == field


def test_an_input_the_type_does_not_read_is_denied(connection):
    inputs = on(60)(connection)
    with pytest.raises(Denied, match="reads no such series"):
        DESK.create_strategy(
            connection, a_strategy(connection, inputs={**inputs, "other": inputs["main"]}), "me"
        )


def test_names_are_unique_among_strategies_that_were_not_deleted(connection):
    first = created(connection)
    with pytest.raises(Denied, match="there is a strategy 'Trend' already; choose another"):
        created(connection)
    DESK.delete_strategy(connection, DeleteStrategy(first.id), "me")
    assert created(connection).id != first.id


def test_a_created_strategy_stands_in_the_rows_and_in_what_happened(connection):
    row = created(connection, start=True, allocation="2 500.50")
    assert (row.desired, row.status, row.allocation) == ("running", "stopped", Decimal("2500.50"))
    assert row.parameters == {"short_window": 10, "long_window": 30}
    event = connection.execute(sa.select(EventRow.text, EventRow.link, EventRow.actor)).first()
    assert event == ("Strategy Trend created and started by me", f"/strategies/{row.id}", "me")


def test_starting_twice_and_stopping_twice_change_nothing_and_say_so(connection):
    row = created(connection)
    asked = StartStrategy(row.id)
    assert DESK.start_strategy(connection, asked, "me").text == "Strategy Trend started"
    connection.execute(sa.update(StrategyRow).values(status="running"))
    assert DESK.start_strategy(connection, asked, "me").text == "Strategy Trend runs already"
    for _ in range(2):
        answer = DESK.stop_strategy(connection, row.id, flatten=False, actor="me")
        assert answer.text == "Strategy Trend stopped"
    desired = connection.scalar(sa.select(StrategyRow.desired).where(StrategyRow.id == row.id))
    assert desired == "stopped"


def test_the_wish_to_flatten_stands_beside_what_the_engine_keeps(connection):
    row = created(connection)
    connection.execute(sa.update(StrategyRow).values(state={"own": {"turn": 7}}))
    DESK.stop_strategy(connection, row.id, flatten=True, actor="me")
    state = connection.scalar(sa.select(StrategyRow.state).where(StrategyRow.id == row.id))
    assert state == {"own": {"turn": 7}, "flatten": "me"}


def test_a_start_drops_a_wish_to_flatten_that_nobody_carried_out(connection):
    row = created(connection)
    DESK.stop_strategy(connection, row.id, flatten=True, actor="me")
    DESK.start_strategy(connection, StartStrategy(row.id), "me")
    state = connection.scalar(sa.select(StrategyRow.state).where(StrategyRow.id == row.id))
    assert "flatten" not in state


def test_why_a_strategy_failed_stays_readable_when_it_is_stopped_and_goes_when_it_starts(
    connection,
):
    row = created(connection)
    connection.execute(sa.update(StrategyRow).values(status="failed", status_text="KeyError"))
    DESK.stop_strategy(connection, row.id, flatten=False, actor="me")
    text = sa.select(StrategyRow.status_text).where(StrategyRow.id == row.id)
    assert connection.scalar(text) == "KeyError"
    DESK.start_strategy(connection, StartStrategy(row.id), "me")
    assert connection.scalar(text) == ""


def test_a_running_strategy_and_one_that_holds_something_cannot_be_deleted(connection):
    row = created(connection, start=True)
    with pytest.raises(Denied, match="strategy Trend runs: stop it first"):
        DESK.delete_strategy(connection, DeleteStrategy(row.id), "me")
    DESK.stop_strategy(connection, row.id, flatten=False, actor="me")
    connection.execute(
        sa.insert(PositionRow).values(
            account_id=row.account_id, strategy_id=row.id, updated_at=START,
            instrument_id=instrument_of(connection, "BTC/USD"), quantity=1, cost=1, realised=0, fees=0,
        )
    )  # fmt: skip
    with pytest.raises(Denied, match="strategy Trend holds a position: stop it with its positions"):
        DESK.delete_strategy(connection, DeleteStrategy(row.id), "me")


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: DESK.start_strategy(c, StartStrategy(77), "me"),
        lambda c: DESK.stop_strategy(c, 77, flatten=False, actor="me"),
        lambda c: DESK.edit_strategy(c, EditStrategy(77, {}, "1", {}), "me"),
        lambda c: DESK.delete_strategy(c, DeleteStrategy(77), "me"),
    ],
    ids=["start", "stop", "edit", "delete"],
)
def test_a_strategy_nobody_knows_is_denied(connection, ask):
    with pytest.raises(Denied, match="there is no strategy 77"):
        ask(connection)


def test_a_strategy_of_another_group_is_not_ours_to_command(connection):
    row = created(connection)
    with pytest.raises(Denied, match="there is no strategy"):
        Desk("other").start_strategy(connection, StartStrategy(row.id), "me")


def test_an_edit_is_checked_like_a_creation_and_takes_effect_at_the_next_start(connection):
    row = created(connection)
    asked = EditStrategy(row.id, {"short_window": 40}, "1000", {"method": "fraction"})
    with pytest.raises(Denied, match="must be less than long_window"):
        DESK.edit_strategy(connection, asked, "me")
    connection.execute(sa.update(StrategyRow).values(status="running"))
    answer = DESK.edit_strategy(connection, replace(asked, parameters={"short_window": 4}), "me")
    assert answer.text == "Strategy Trend edited, version 2; it takes effect at the next start"


def test_a_policy_that_cannot_be_is_denied_by_field(connection):
    account = connection.scalar(sa.select(AccountRow.id).where(AccountRow.name == "paper"))
    asked = EditRiskPolicy(account, {"position_size": {"enabled": True, "max_fraction": -7}})
    with pytest.raises(Denied) as denied:
        DESK.edit_risk_policy(connection, asked, "me")
    assert "max_fraction" in str(denied.value)
    assert "-7" in str(denied.value)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"series_ids": []}, "series: choose at least one to play"),
        ({"series_ids": [77]}, "series: there is no series 77"),
        ({"speed": -1.0}, "speed: -1.0 must be 0"),
        ({"name": ""}, "name: '' must have 1 to 80 characters"),
        ({"name": "paper"}, "there is an account 'paper' already; choose another"),
        ({"capital": "-5"}, "capital: '-5' must be above 0"),
        ({"ends_at": "2001-01-01T00:00:00+00:00"}, "there are no bars in that range"),
        ({"costs": {"fee_rate": "2"}}, "fee_rate: '2' must be from 0 to 0.5"),
        ({"costs": {"tax": "0"}}, "tax is no cost"),
    ],
)
def test_a_replay_that_cannot_be_is_denied(connection, changed, text):
    with pytest.raises(Denied) as denied:
        DESK.open_replay(connection, a_replay(connection, **changed), "me")
    assert text in str(denied.value)


def test_a_replay_begins_with_its_capital_in_the_ledger_and_can_start_once_opened(connection):
    DESK.open_replay(connection, a_replay(connection), "me")
    account = connection.execute(sa.select(AccountRow).where(AccountRow.name == "Old days")).one()
    entry = connection.execute(
        sa.select(LedgerEntryRow).where(LedgerEntryRow.account_id == account.id)
    ).one()
    assert (entry.kind, entry.amount, entry.asset) == ("deposit", 100_000, "USD")
    assert account.market_time == START
    inputs = on(300, "X")(connection)
    with pytest.raises(Denied, match="the replay plays X at 1m"):
        created(connection, account_id=account.id, inputs=inputs)
    DESK.start_replay(connection, StartReplay(account.id), "me")
    paper = connection.scalar(sa.select(AccountRow.id).where(AccountRow.name == "paper"))
    with pytest.raises(Denied, match="account paper is no replay"):
        DESK.start_replay(connection, StartReplay(paper), "me")
    feed = {**account.feed, "state": "finished"}
    connection.execute(sa.update(AccountRow).where(AccountRow.id == account.id).values(feed=feed))
    with pytest.raises(Denied, match="replay Old days has finished; open another"):
        DESK.start_replay(connection, StartReplay(account.id), "me")
