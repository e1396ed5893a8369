"""The journal and the constraints beneath it: everything of a turn or nothing, and nothing twice."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random
from threading import Thread
from uuid import uuid4

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from engine import lease, trading_state
from engine.actions import Booked, OrderMoved
from engine.bootstrap import open_account
from engine.journal import Batch, Doubled, GivenUp, Journal, LeaseLost, Told, is_away
from engine.risk.rules import RiskPolicy
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    EngineLeaseRow,
    EventRow,
    FillRow,
    LedgerEntryRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
    StrategyCodeRow,
    StrategyRow,
    TradingStateRow,
)
from shared.domain.decisions import Decision, Outcome
from shared.domain.identity import client_order_id, decision_id
from shared.domain.ledger import entries_of
from shared.domain.orders import (  # fmt: skip
    Acknowledged,
    Fill,
    Leg,
    Order,
    OrderRequest,
    OrderType,
    Side,
    Submitted,
    advance,
)
from shared.domain.positions import Position
from tests.builders import START, an_instrument
from tests.prove.in_process import an_engine_with_cuts

ACCOUNT = STRATEGY = INSTRUMENT = 1


@pytest.fixture
def engine(database_url):
    """A database with one instrument, one account and one strategy."""
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(InstrumentRow).values(
                venue="simulated", symbol="BTC/USD", base_asset="BTC", quote_asset="USD",
                calendar="24/7",
            )
        )  # fmt: skip
        open_account(
            connection, name="paper", venue="simulated", clock="simulated", speed=60.0, group="main",
            started_at=START, market_time=START, capital=Decimal(100_000), feed={}, costs={},
            policy=RiskPolicy(),
        )  # fmt: skip
        hash_ = "0" * 64
        connection.execute(
            sa.insert(StrategyCodeRow).values(
                hash=hash_, file_name="x.py", source="", origin="user"
            )
        )
        connection.execute(
            sa.insert(StrategyRow).values(
                name="Trend", type="moving_average_cross", code_hash=hash_, parameters={},
                account_id=ACCOUNT, inputs={}, allocation=1000, sizing={}, state={},
            )
        )  # fmt: skip
    yield engine
    engine.dispose()


@pytest.fixture
def journal(engine):
    return Journal(engine, "main", lease.try_acquire(engine, "main"))


def a_request(**changed):
    at = changed.get("decided_at", START)
    valid = OrderRequest(
        client_order_id(ACCOUNT, STRATEGY, INSTRUMENT, at, "entry"),
        decision_id(ACCOUNT, STRATEGY, INSTRUMENT, at, "signal"),
        ACCOUNT, STRATEGY, INSTRUMENT, Leg.ENTRY, Side.BUY, OrderType.MARKET, at, Decimal(2),
    )  # fmt: skip
    return replace(valid, **changed)


def a_decision(*requests, **changed):
    first = requests[0] if requests else a_request()
    valid = Decision(
        first.decision_id, ACCOUNT, STRATEGY, INSTRUMENT, first.decided_at, "signal", 1.0, 0.0, "because",
        None, 100.0, (), (), Outcome.ORDERED if requests else Outcome.NOTHING, "", requests, "",
    )  # fmt: skip
    return replace(valid, **changed)


def a_batch(*decisions, **given):
    return Batch(ACCOUNT, "simulated", START, decisions=list(decisions), **given)


def a_fill(request, number=0, **changed):
    valid = Fill(
        request.client_order_id, f"{request.client_order_id}:{number}", ACCOUNT, STRATEGY, INSTRUMENT,
        Side.BUY, Decimal(2), Decimal(100), Decimal("0.2"), "USD", START + timedelta(seconds=5), last=True,
    )  # fmt: skip
    return replace(valid, **changed)


def booked(fill):
    instrument = an_instrument(INSTRUMENT, base_asset="BTC")
    return Booked(
        fill, Leg.ENTRY, "", entries_of(fill, instrument), Position().after(fill), Decimal(0)
    )


def moves(request, *events):
    order, made = Order(request), []
    for event in events:
        order = advance(order, event)
        made.append(OrderMoved(order, event))
    return made


def count(engine, row):
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(row))


ALL = (DecisionRow, OrderIntentRow, OrderRow, OrderEventRow, FillRow, PositionRow, EventRow)


def counts(engine):
    with engine.connect() as connection:
        fills = sa.select(sa.func.count()).where(LedgerEntryRow.kind != "deposit")
        return [count(engine, row) for row in ALL] + [connection.scalar(fills)]


def filled(journal, engine):
    """A request that was decided, sent and filled."""
    request = a_request()
    journal.commit(a_batch(a_decision(request)))
    fill = a_fill(request)
    events = (Submitted(START), Acknowledged(START, venue_order_id="v1"), fill)
    journal.commit(a_batch(moves=moves(request, *events), booked=[booked(fill)]))
    return request, fill


def test_decision_intent_and_order_are_one_commit(engine, journal):
    assert journal.commit(a_batch(a_decision(a_request()))) == {}
    assert counts(engine) == [1, 1, 1, 0, 0, 0, 0, 0]


def test_fill_ledger_position_and_order_are_one_commit(engine, journal):
    filled(journal, engine)
    assert counts(engine) == [1, 1, 1, 3, 1, 1, 0, 3]
    with engine.connect() as connection:
        order = connection.execute(sa.select(OrderRow)).one()
        assert (order.state, order.filled_quantity, order.venue_order_id) == ("filled", 2, "v1")


def test_a_batch_that_cannot_be_stored_whole_is_not_stored_at_all(engine, journal):
    before = counts(engine)
    impossible = a_request(quantity=Decimal(-1))
    with pytest.raises(sa.exc.IntegrityError):
        journal.commit(a_batch(a_decision(impossible), told=[Told("test", "info", "never")]))
    assert counts(engine) == before


def test_deciding_the_same_moment_again_is_refused_and_sends_nothing(engine, journal):
    decision = a_decision(a_request())
    journal.commit(a_batch(decision))
    again = journal.commit(a_batch(decision))
    assert again == {decision.id: "this moment was decided before"}
    assert counts(engine)[:3] == [1, 1, 1]


def test_a_fill_that_is_booked_twice_stops_the_engine_and_leaves_the_books_alone(engine, journal):
    _, fill = filled(journal, engine)
    before = counts(engine)
    with pytest.raises(Doubled):
        journal.commit(a_batch(booked=[booked(fill)]))
    assert counts(engine) == before


def test_hearing_an_order_event_twice_keeps_one_row(engine, journal):
    request, _ = filled(journal, engine)
    journal.commit(a_batch(moves=moves(request, Submitted(START))))
    assert count(engine, OrderEventRow) == 3


def test_whoever_lost_the_lease_writes_nothing(engine, journal):
    with engine.begin() as connection:
        connection.execute(sa.update(EngineLeaseRow).values(token=uuid4()))
    before = counts(engine)
    with pytest.raises(LeaseLost):
        journal.commit(a_batch(a_decision(a_request())))
    assert counts(engine) == before


def test_every_commit_prolongs_the_lease(engine, journal):
    past = sa.func.clock_timestamp() - sa.text("interval '1 minute'")
    with engine.begin() as connection:
        connection.execute(sa.update(EngineLeaseRow).values(expires_at=past))
    journal.commit(a_batch(told=[Told("test", "info", "words")]))
    with engine.connect() as connection:
        left = EngineLeaseRow.expires_at - sa.func.clock_timestamp()
        assert connection.scalar(sa.select(left)) > timedelta(seconds=10)


def test_a_halted_account_releases_nothing_and_the_refusal_is_the_record(engine, journal):
    with engine.begin() as connection:
        trading_state.request(connection, "all", "", "halted", "me", "enough")
    decision = a_decision(a_request())
    why = "trading is halted for all by me: enough"
    assert journal.commit(a_batch(decision)) == {decision.id: why}
    assert counts(engine)[:3] == [1, 0, 0]
    with engine.connect() as connection:
        row = connection.execute(sa.select(DecisionRow.outcome, DecisionRow.reason)).one()
    assert row == ("refused", why)


def test_a_halt_waits_for_the_release_under_way_and_every_later_one_sees_it(engine, journal):
    """The order of commits: a release that holds the lease first, the halt next, a release last."""
    halted = []
    with engine.begin() as releasing:
        journal._hold_lease(releasing, uuid4())

        def halt():
            with engine.begin() as connection:
                trading_state.request(connection, "all", "", "halted", "me", "")
                halted.append(connection.scalar(sa.func.clock_timestamp()))

        thread = Thread(target=halt)
        thread.start()
        thread.join(0.3)
        assert halted == [], "it did not wait"
        released_at = releasing.scalar(sa.func.clock_timestamp())
    thread.join(5)
    assert halted[0] > released_at
    assert journal.commit(a_batch(a_decision(a_request())))


def test_a_halt_does_not_wait_for_ever_for_an_engine_frozen_in_a_commit(
    engine, journal, monkeypatch
):
    monkeypatch.setattr(trading_state, "FROZEN_SECONDS", 0.5)
    frozen = engine.connect()
    frozen.begin()
    journal._is_committed(frozen, uuid4())
    journal._hold_lease(frozen, uuid4())
    with engine.begin() as connection:  # the server ends the frozen one
        trading_state.request(connection, "all", "", "halted", "me", "")
    with pytest.raises(sa.exc.DBAPIError) as ended:
        frozen.execute(sa.text("SELECT 1"))
    assert is_away(ended.value), "when it thaws it tries again, and finds its lease or not"
    frozen.invalidate()
    frozen.close()
    assert journal.commit(a_batch(a_decision(a_request())))


def test_a_halt_waits_for_an_engine_that_takes_its_lease_for_the_first_time(engine):
    """Without a lease row there is none to lock: the table is."""
    with engine.begin() as halting:
        trading_state.request(halting, "all", "", "halted", "me", "")
        taken = []
        thread = Thread(target=lambda: taken.append(lease.try_acquire(engine, "main")))
        thread.start()
        thread.join(0.3)
        assert taken == []
    thread.join(5)
    journal = Journal(engine, "main", taken[0])
    assert journal.commit(a_batch(a_decision(a_request())))


def test_the_new_state_of_a_strategy_keeps_a_wish_to_flatten(engine, journal):
    with engine.begin() as connection:
        connection.execute(sa.update(StrategyRow).values(state={"flatten": "me", "own": {}}))
    journal.commit(a_batch(states={STRATEGY: {"own": {"turn": 1}}}))
    with engine.connect() as connection:
        assert connection.scalar(sa.select(StrategyRow.state)) == {
            "own": {"turn": 1}, "flatten": "me",
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_commit_whose_answer_is_lost_is_stored_once(engine, database_url, monkeypatch, seed):
    monkeypatch.setattr("engine.journal.RETRY_SECONDS", 0.01)
    token = lease.try_acquire(engine, "main")
    cut, connections = an_engine_with_cuts(database_url, Random(seed), 0.8)
    journal = Journal(cut, "main", token)
    for number in range(15):
        request = a_request(decided_at=START + timedelta(minutes=number))
        assert journal.commit(a_batch(a_decision(request), told=[Told("x", "info", "x")])) == {}
    cut.dispose()
    assert connections.cuts > 5
    assert counts(engine)[:3] == [15, 15, 15]
    assert count(engine, EventRow) == 15


def test_a_refusal_whose_answer_is_lost_is_still_a_refusal(engine, database_url, monkeypatch):
    monkeypatch.setattr("engine.journal.RETRY_SECONDS", 0.01)
    token = lease.try_acquire(engine, "main")
    with engine.begin() as connection:
        trading_state.request(connection, "all", "", "halted", "me", "")
    cut, connections = an_engine_with_cuts(database_url, Random(1), 0.8)
    decisions = [a_decision(a_request(decided_at=START + timedelta(minutes=n))) for n in range(9)]
    refused = [Journal(cut, "main", token).commit(a_batch(d)).keys() for d in decisions]
    cut.dispose()
    assert connections.cuts > 5
    assert refused == [{decision.id} for decision in decisions]


def test_a_journal_told_to_give_up_does_not_wait_for_a_database_that_is_away():
    away = make_engine("postgresql://nobody@127.0.0.1:1/nothing")
    journal = Journal(away, "main", uuid4())
    journal.give_up()
    with pytest.raises(GivenUp):
        journal.commit(a_batch(told=[Told("x", "info", "x")]))
    away.dispose()


# What the database itself refuses ----------------------------------------------------------


@pytest.mark.parametrize(
    "table", ["fills", "ledger_entries", "order_events", "order_intents", "trading_states", "audit"]
)
@pytest.mark.parametrize("change", ["UPDATE {} SET {}={}", "DELETE FROM {}"], ids=["update", "delete"])  # fmt: skip
def test_rows_of_record_can_be_neither_changed_nor_deleted(engine, journal, table, change):
    filled(journal, engine)
    with engine.begin() as connection:
        trading_state.request(connection, "all", "", "halted", "me", "")
        connection.execute(
            sa.text("INSERT INTO audit (actor, action, data) VALUES ('me', 'x', '{}')")
        )
        column = connection.scalar(
            sa.text(
                "SELECT column_name FROM information_schema.columns "
                "WHERE table_name = :t AND data_type = 'text' LIMIT 1"
            ),
            {"t": table},
        )
    statement = sa.text(change.format(table, column, column))
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO fills (venue, account_id, venue_fill_id, client_order_id, strategy_id, instrument_id, side, "
         "quantity, price, fee, fee_asset, liquidity, filled_at) SELECT venue, account_id, venue_fill_id, "
         "client_order_id, strategy_id, instrument_id, side, quantity, price, fee, fee_asset, liquidity, filled_at FROM fills",
         "uq_fills_venue_account_id_venue_fill_id"),
        ("INSERT INTO ledger_entries (account_id, at, kind, asset, amount, debit, credit, reference, leg) SELECT "
         "account_id, at, kind, asset, amount, debit, credit, reference, leg FROM ledger_entries LIMIT 1",
         "uq_ledger_entries_account_id_reference_leg"),
        ("INSERT INTO ledger_entries (account_id, at, kind, asset, amount, debit, credit, reference, leg) "
         "VALUES (1, now(), 'x', 'USD', 0, 'a', 'b', 'r', 'l')", "ck_ledger_entries_amount_positive"),
        ("INSERT INTO ledger_entries (account_id, at, kind, asset, amount, debit, credit, reference, leg) "
         "VALUES (1, now(), 'x', 'USD', 'NaN', 'a', 'b', 'r', 'l')", "ck_ledger_entries_amount_positive"),
        ("INSERT INTO ledger_entries (account_id, at, kind, asset, amount, debit, credit, reference, leg) "
         "VALUES (1, now(), 'x', 'USD', 1, 'a', 'a', 'r', 'l')", "ck_ledger_entries_moves"),
        ("UPDATE orders SET state = 'lost'", "ck_orders_state_known"),
        ("UPDATE decisions SET outcome = 'maybe'", "ck_decisions_outcome_known"),
        ("UPDATE accounts SET clock_speed = 0", "ck_accounts_clock_speed_positive"),
        ("UPDATE strategies SET allocation = 0", "ck_strategies_allocation_positive"),
        ("INSERT INTO positions (account_id, strategy_id, instrument_id, quantity, cost, realised, fees, updated_at) "
         "SELECT account_id, strategy_id, instrument_id, 1, 1, 0, 0, now() FROM positions",
         "uq_positions_account_id_strategy_id_instrument_id"),
        ("INSERT INTO orders (client_order_id, account_id, instrument_id, decided_at, state, updated_at) "
         "VALUES (gen_random_uuid(), 1, 1, now(), 'new', now())", "fk_orders_client_order_id"),
    ],
    ids=lambda value: value if value.startswith(("uq", "ck", "fk")) else "",
)  # fmt: skip
def test_the_database_refuses_what_cannot_be(engine, journal, statement, constraint):
    filled(journal, engine)
    with pytest.raises(sa.exc.IntegrityError, match=constraint), engine.begin() as connection:
        connection.execute(sa.text(statement))


@pytest.mark.parametrize(
    ("quantity", "value"), [(None, None), (Decimal(1), Decimal(1))], ids=["neither", "both"]
)
def test_an_intent_without_a_parent_has_a_quantity_or_a_value(engine, journal, quantity, value):
    impossible = a_request(quantity=quantity, value=value)
    with pytest.raises(sa.exc.IntegrityError, match="quantity_or_value"):
        journal.commit(a_batch(a_decision(impossible)))


def test_the_market_time_and_the_trades_of_a_moment_are_one_commit(engine, journal):
    moment = START + timedelta(minutes=1)
    impossible = a_request(quantity=Decimal(-1))
    with pytest.raises(sa.exc.IntegrityError):
        journal.commit(a_batch(a_decision(impossible), moment_at=moment, peak=Decimal(1)))
    with engine.connect() as connection:
        assert connection.scalar(sa.select(AccountRow.market_time)) != moment
    journal.commit(a_batch(a_decision(a_request()), moment_at=moment, peak=Decimal(1)))
    with engine.connect() as connection:
        assert connection.scalar(sa.select(AccountRow.market_time)) == moment
    assert count(engine, TradingStateRow) == 0
