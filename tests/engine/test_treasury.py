"""Money commands against a running engine: booked once, or denied with the field and the remedy."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import AccountRow, LedgerEntryRow, PositionRow
from shared.messages import (
    Adjust,
    BookIncome,
    CancelOrders,
    ChangeSymbol,
    ClosePosition,
    Deposit,
    EditBooks,
    PlaceOrder,
    ResetPaper,
    Split,
    TopUpPaper,
    Transfer,
    Withdraw,
    WriteOffDust,
)
from tests.prove.installation import Installation, wait_for

D = Decimal


class Till:
    def __init__(self, installation, second):
        self.installation = installation
        self.account_id = installation.account().id
        self.second = second
        self.instruments = installation.instruments()

    def ask(self, command):
        return self.installation.settled(self.installation.ask(command), 10)

    def holds(self, asset, account_id=None):
        entry = LedgerEntryRow
        into = sa.case((entry.debit == "holding", entry.amount), else_=0)
        out = sa.case((entry.credit == "holding", entry.amount), else_=0)
        query = sa.select(sa.func.coalesce(sa.func.sum(into - out), 0).label("held")).where(
            entry.account_id == (account_id or self.account_id), entry.asset == asset
        )
        return self.installation.rows(query)[0].held

    def position(self, symbol):
        query = sa.select(PositionRow.quantity, PositionRow.cost, PositionRow.realised).where(
            PositionRow.account_id == self.account_id,
            PositionRow.instrument_id == self.instruments[symbol],
            PositionRow.strategy_id.is_(None),
        )
        found = self.installation.rows(query)
        return found[0] if found else None


@pytest.fixture(scope="module")
def till(module_settings):
    made = Installation(module_settings, speed=600)
    made.prepare()
    second = made.open_second_account("second")
    engine = made.start()
    made.wait_until_trading(engine)
    yield Till(made, second)
    try:
        assert engine.is_alive, "no command may end the engine"
    finally:
        made.end()


def test_money_comes_and_goes_and_the_ledger_says_so(till):
    before = till.holds("USD")
    done = till.ask(Deposit(till.account_id, "usd", "1 000.50", "from the bank"))
    assert (done.state, done.result["text"]) == ("done", "1000.5 USD deposited")
    assert till.ask(Withdraw(till.account_id, "USD", "0.50")).state == "done"
    assert till.ask(TopUpPaper(till.account_id, "100")).state == "done"
    assert till.holds("USD") == before + 1100
    query = sa.select(LedgerEntryRow.note).where(LedgerEntryRow.reference == f"command:{done.id}")
    assert [row.note for row in till.installation.rows(query)] == ["from the bank"]


def test_a_command_taken_twice_is_booked_once(till):
    before = till.holds("USD")
    command_id = till.installation.ask(Deposit(till.account_id, "USD", "5"))
    till.installation.settled(command_id, 10)
    with till.installation.db.begin() as connection:  # as if a second engine took it again
        connection.execute(
            sa.update(CommandRow).where(CommandRow.id == command_id).values(state="asked")
        )
    till.ask(Adjust(till.account_id, "USD", "1", "counted"))
    assert till.holds("USD") == before + 6


def test_a_transfer_arrives_and_is_in_transit_no_more(till):
    here, there = till.holds("USD"), till.holds("USD", till.second)
    assert till.ask(Transfer(till.account_id, till.second, "USD", "250")).state == "done"
    wait_for(lambda: till.holds("USD", till.second) == there + 250)
    assert till.holds("USD") == here - 250


def test_a_thing_paid_in_is_a_position_that_splits_and_changes_its_name(till):
    assert till.ask(Deposit(till.account_id, "SOL", "3")).state == "done"
    cost = till.position("SOL/USD").cost
    split = till.ask(Split(till.account_id, till.instruments["SOL/USD"], 4, 1))
    assert (split.state, split.result["text"]) == (
        "done", "Split of SOL/USD, 4 for 1, booked",
    )  # fmt: skip
    assert till.position("SOL/USD")[:2] == (12, cost)
    changed = ChangeSymbol(
        till.account_id, till.instruments["SOL/USD"], till.instruments["ETH/USD"]
    )
    assert till.ask(changed).state == "done"
    assert till.position("SOL/USD").quantity == 0
    assert till.position("ETH/USD")[:2] == (12, cost)
    till.ask(ClosePosition(till.account_id, till.instruments["ETH/USD"]))
    wait_for(lambda: till.position("ETH/USD").quantity == 0)


def test_income_counts_for_the_position_that_earned_it(till):
    till.ask(Deposit(till.account_id, "BTC", "0.5"))
    before = till.position("BTC/USD").realised
    btc = till.instruments["BTC/USD"]
    done = till.ask(BookIncome(till.account_id, "dividend", "USD", "20", "3", btc))
    assert done.result["text"] == "Dividend of BTC/USD booked: 20 USD"
    assert till.position("BTC/USD").realised == before + 17


def test_a_remainder_below_the_dust_value_is_written_off_and_a_real_one_is_not(till):
    till.ask(EditBooks(till.account_id, "hifo", "1000000"))
    row = till.installation.rows(
        sa.select(AccountRow.lot_method, AccountRow.dust_value).where(
            AccountRow.id == till.account_id
        )
    )[0]
    assert tuple(row) == ("hifo", 1_000_000)
    eth = till.instruments["ETH/USD"]
    till.ask(Deposit(till.account_id, "ETH", "1"))
    assert till.ask(WriteOffDust(till.account_id, eth)).state == "done"
    assert till.position("ETH/USD").quantity == 0
    till.ask(EditBooks(till.account_id, "fifo", "1"))
    till.ask(Deposit(till.account_id, "ETH", "1"))
    denied = till.ask(WriteOffDust(till.account_id, eth))
    assert denied.state == "denied"
    assert "is no dust" in denied.result["text"]


@pytest.mark.parametrize(
    ("command", "field", "text"),
    [
        (lambda t: Deposit(t.account_id, "USD", "lots"), "amount", "'lots' is not an amount"),
        (lambda t: Deposit(t.account_id, "USD", "-5"), "amount", "'-5' must be above 0"),
        (lambda t: Deposit(t.account_id, "USD", "NaN"), "amount", "more than an account can mean"),
        (lambda t: Deposit(t.account_id, "USD", "1e30"), "amount", "more than an account can mean"),
        (lambda t: Deposit(t.account_id, "DOGE", "5"), "asset", "nothing here is called 'DOGE'"),
        (lambda t: Withdraw(t.account_id, "USD", "99999999"), "amount", "more than there is"),
        (lambda t: Adjust(t.account_id, "USD", "5", " "), "reason", "say why"),
        (lambda t: BookIncome(t.account_id, "luck", "USD", "5"), "kind", "'luck' is not one of"),
        (lambda t: BookIncome(t.account_id, "dividend", "USD", "5", "6"), "tax", "0 to the amount"),
        (lambda t: Split(t.account_id, t.instruments["SOL/USD"], 1, 1), "ratio", "is no split"),
        (lambda t: Split(t.account_id, 999, 2, 1), "instrument_id", "no instrument 999"),
        (lambda t: Transfer(t.account_id, t.account_id, "USD", "1"), "to_account_id", "another"),
        (lambda t: Transfer(t.account_id, t.second, "BTC", "1"), "asset", "only USD"),
        (lambda t: TopUpPaper(999, "5"), "account_id", "not trading now"),
        (lambda t: EditBooks(t.account_id, "luck"), "lot_method", "'luck' is not one of"),
    ],
)  # fmt: skip
def test_what_cannot_be_booked_is_denied_with_field_and_reason(till, command, field, text):
    row = till.ask(command(till))
    assert row.state == "denied"
    assert text in row.result["text"]
    assert row.result["field"] == field


def test_a_paper_account_starts_over_once_nothing_works_on_it(till):
    order = {"side": "buy", "type": "limit", "size": "1", "limit_price": "1000"}
    till.ask(PlaceOrder(till.account_id, till.instruments["BTC/USD"], order))
    denied = till.ask(ResetPaper(till.account_id, "50000"))
    assert "cancel them first" in denied.result["text"]
    till.ask(CancelOrders(till.account_id, protection=True))
    assert till.ask(ResetPaper(till.account_id, "50000")).state == "done"
    assert till.holds("USD") == 50_000
    assert till.holds("BTC") == till.holds("ETH") == 0
