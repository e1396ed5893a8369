"""What is not a fill: each event balanced, with the gain it should have and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from engine import accounting
from engine.accounting import CannotBook, Slip
from engine.portfolio import Portfolio, decimal_number
from shared.domain.ledger import RESULTS, books, holdings
from shared.domain.lots import Method, events_of, lots
from shared.domain.orders import Fill, Side
from tests.builders import an_instrument

D = Decimal
START = datetime(2026, 1, 1, tzinfo=UTC)
OLD = an_instrument(1, base_asset="OLD", symbol="OLD/USD")
NEW = an_instrument(2, base_asset="NEW", symbol="NEW/USD")
EURO = an_instrument(3, base_asset="EUR", symbol="EUR/USD")


class Ledger:
    """A portfolio and every entry it was ever given."""

    def __init__(self) -> None:
        self.portfolio = Portfolio("USD", {1: OLD, 2: NEW, 3: EURO}, decimal_number, D(0))
        self.entries = []
        self.number = 0
        self.post(accounting.deposit(self.portfolio, self.slip(), "USD", D(10_000)))

    def slip(self, note: str = "because") -> Slip:
        self.number += 1
        return Slip(1, START + timedelta(hours=self.number), f"event:{self.number}", note)

    def post(self, posted):
        self.portfolio.post(posted)
        self.entries.extend(posted.entries)
        return posted

    def trade(self, quantity, price, owner=1, instrument=1, fee=0):
        side = Side.BUY if quantity > 0 else Side.SELL
        self.number += 1
        fill = Fill(
            uuid4(), str(self.number), 1, owner, instrument, side, abs(D(quantity)), D(price), D(fee),
            "USD", START + timedelta(hours=self.number),
        )  # fmt: skip
        self.portfolio.mark(instrument, float(price))
        self.entries.extend(self.portfolio.book(fill)[0])

    def profit(self, owner=None):
        """P&L of positions: realised and unrealised, less fees."""
        found = D(0)
        for (who, instrument), position in self.portfolio.positions.items():
            if owner in (None, who):
                mark = decimal_number(self.portfolio.marks.get(instrument, 0.0))
                found += position.realised + position.unrealised(mark) - position.fees
        return found

    def check(self):
        """What must hold after every event."""
        sums = books(self.entries)
        for asset in {asset for _, asset in sums}:
            assert sum(amount for (_, a), amount in sums.items() if a == asset) == 0
        assert holdings(self.entries) == {
            a: n for a, n in self.portfolio.balances.items() if a in holdings(self.entries)
        }
        open_lots, _ = lots(events_of(self.entries), Method.FIFO)
        for key, position in self.portfolio.positions.items():
            held = [lot for lot in open_lots if lot.key == key]
            assert sum((lot.quantity for lot in held), D(0)) == position.quantity
        names = {entry.reference + entry.leg for entry in self.entries}
        assert len(names) == len(self.entries)


@pytest.fixture
def ledger():
    made = Ledger()
    made.trade(10, 100)
    made.trade(-4, 100, owner=0, fee=1)  # short, by hand
    yield made
    made.check()


def equity(ledger):
    return ledger.portfolio.equity()


def test_a_deposit_and_a_withdrawal_are_no_gain(ledger):
    before = ledger.profit()
    posted = ledger.post(accounting.deposit(ledger.portfolio, ledger.slip(), "USD", D(500)))
    assert accounting.external_flow(ledger.portfolio, posted) == 500
    posted = ledger.post(accounting.withdrawal(ledger.portfolio, ledger.slip(), "USD", D(200)))
    assert accounting.external_flow(ledger.portfolio, posted) == -200
    assert ledger.profit() == before


def test_a_thing_paid_in_opens_a_lot_at_its_mark_and_the_flow_is_what_it_was_worth(ledger):
    ledger.portfolio.mark(3, 1.25)
    before, profit = equity(ledger), ledger.profit()
    posted = ledger.post(accounting.deposit(ledger.portfolio, ledger.slip(), "EUR", D(100)))
    assert accounting.external_flow(ledger.portfolio, posted) == 125
    assert equity(ledger) - before == 125
    assert ledger.profit() == profit
    [lot] = [lot for lot in lots(events_of(ledger.entries), Method.FIFO)[0] if lot.key == (0, 3)]
    assert (lot.quantity, lot.cost) == (100, 125)
    with pytest.raises(CannotBook, match="more than there is"):
        accounting.withdrawal(ledger.portfolio, ledger.slip(), "EUR", D(101))


def test_a_thing_without_a_price_cannot_be_paid_in(ledger):
    with pytest.raises(CannotBook, match="has no price yet"):
        accounting.deposit(ledger.portfolio, ledger.slip(), "NEW", D(1))


@pytest.mark.parametrize("kind", ["interest", "dividend", "funding", "rebate"])
def test_income_raises_profit_once(ledger, kind):
    before, profit = equity(ledger), ledger.profit(1)
    posted = ledger.post(
        accounting.income(
            ledger.portfolio, ledger.slip(), kind, "USD", D(12), instrument_id=1, owner=1
        )
    )
    assert equity(ledger) - before == 12
    assert ledger.profit(1) - profit == 12
    assert accounting.external_flow(ledger.portfolio, posted) == 0


@pytest.mark.parametrize("kind", ["interest", "funding", "borrow"])
def test_what_is_paid_lowers_it_once(ledger, kind):
    before, profit = equity(ledger), ledger.profit(1)
    ledger.post(
        accounting.income(
            ledger.portfolio, ledger.slip(), kind, "USD", D(-12), instrument_id=1, owner=1
        )
    )
    assert (equity(ledger) - before, ledger.profit(1) - profit) == (-12, -12)


def test_a_dividend_is_booked_whole_and_its_tax_beside_it(ledger):
    before = ledger.profit(1)
    slip = ledger.slip()
    ledger.post(
        accounting.income(
            ledger.portfolio, slip, "dividend", "USD", D(100), instrument_id=1, owner=1, tax=D(15)
        )
    )
    sums = books(ledger.entries)
    assert (sums["dividends", "USD"], sums["tax", "USD"]) == (-100, 15)
    assert ledger.profit(1) - before == 85


def test_a_staking_reward_is_income_at_its_market_value_and_a_lot_at_that_cost(ledger):
    ledger.portfolio.mark(2, 50.0)
    before, profit = equity(ledger), ledger.profit()
    ledger.post(accounting.income(ledger.portfolio, ledger.slip(), "staking", "NEW", D(2)))
    assert (equity(ledger) - before, ledger.profit() - profit) == (100, 100)
    assert books(ledger.entries)["staking", "USD"] == -100
    ledger.trade(-2, 50, owner=0, instrument=2)
    closed = lots(events_of(ledger.entries), Method.FIFO)[1]
    assert [c.gain for c in closed if c.key == (0, 2)] == [0]


@pytest.mark.parametrize(("new", "old"), [(4, 1), (1, 10), (3, 2), (1, 3)])
def test_a_split_leaves_profit_where_it_was(ledger, new, old):
    before, profit = equity(ledger), ledger.profit()
    ledger.post(accounting.split(ledger.portfolio, ledger.slip(), 1, new, old))
    ledger.portfolio.mark(1, 100.0 * old / new)
    assert equity(ledger) == pytest.approx(before, abs=D("1e-8"))
    assert ledger.profit() == pytest.approx(profit, abs=D("1e-8"))
    assert ledger.portfolio.position(1, 1).cost == 1000


def test_a_symbol_change_moves_long_and_short_at_their_cost(ledger):
    ledger.portfolio.mark(2, 100.0)
    profit = ledger.profit()
    ledger.post(accounting.symbol_change(ledger.portfolio, ledger.slip(), 1, 2))
    assert ledger.profit() == profit
    assert ledger.portfolio.position(1, 2).quantity == 10
    assert ledger.portfolio.position(0, 2).quantity == -4
    assert ledger.portfolio.held(1) == 0


def test_an_adjustment_needs_a_reason_and_is_a_gain_or_a_loss(ledger):
    with pytest.raises(CannotBook, match="reason"):
        accounting.adjustment(ledger.portfolio, ledger.slip(""), "USD", D(1))
    before = equity(ledger)
    posted = ledger.post(accounting.adjustment(ledger.portfolio, ledger.slip(), "USD", D(-7)))
    assert equity(ledger) - before == -7
    assert posted.entries[0].note == "because"


def test_dust_is_written_off_with_its_cost(ledger):
    ledger.trade(D("0.00001"), 100, owner=2)
    ledger.post(accounting.write_off(ledger.portfolio, ledger.slip(), 1, 2))
    assert ledger.portfolio.position(2, 1).is_flat
    [gone] = [c for c in lots(events_of(ledger.entries), Method.FIFO)[1] if c.kind == "dust"]
    assert gone.gain == D("-0.001")


def test_a_transfer_is_in_transit_until_it_arrives_and_both_halves_carry_one_reference():
    here, there = Ledger(), Ledger()
    slip = here.slip()
    here.post(accounting.transfer(here.portfolio, slip, "USD", D(300), arrives=False))
    assert books(here.entries)["transit", "USD"] == 300
    there.post(accounting.transfer(there.portfolio, slip, "USD", D(300), arrives=True))
    both = books([*here.entries, *there.entries])
    assert both["transit", "USD"] == 0
    assert here.entries[-1].reference == there.entries[-1].reference


def test_starting_over_takes_all_out_and_leaves_the_capital(ledger):
    ledger.portfolio.mark(2, 50.0)
    ledger.post(accounting.income(ledger.portfolio, ledger.slip(), "staking", "NEW", D(2)))
    before = equity(ledger)
    posted = ledger.post(accounting.started_over(ledger.portfolio, ledger.slip(), D(5000)))
    assert equity(ledger) == 5000
    assert accounting.external_flow(ledger.portfolio, posted) == 5000 - before
    assert all(position.is_flat for position in ledger.portfolio.positions.values())


def test_the_books_of_gain_and_loss_add_up_to_what_equity_gained(ledger):
    """Equity less what was paid in = trading marked + every book of results, with the sign of income."""
    ledger.post(accounting.income(ledger.portfolio, ledger.slip(), "interest", "USD", D(5)))
    ledger.post(accounting.adjustment(ledger.portfolio, ledger.slip(), "USD", D(2)))
    ledger.portfolio.mark(1, 110.0)
    sums = books(ledger.entries)
    traded = sums.get(("trading", "USD"), D(0)) + sums.get(("trading", "OLD"), D(0)) * 110
    results = sum(-amount for (book, _), amount in sums.items() if book in RESULTS)
    assert equity(ledger) - 10_000 == -traded + results
