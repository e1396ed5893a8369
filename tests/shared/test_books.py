"""Positions and ledger against the arithmetic a bookkeeper would accept."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from engine.portfolio import Portfolio, decimal_number
from shared.domain.ledger import entries_of
from shared.domain.orders import Fill, Side
from shared.domain.positions import Position
from tests.builders import an_instrument

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
X = an_instrument()

fills = st.builds(
    lambda side, quantity, price, fee: Fill(
        uuid4(), str(uuid4()), 1, 1, 1, side, quantity, price, fee, "USD", NOON
    ),
    st.sampled_from(Side),
    st.decimals("0.001", "50", places=3),
    st.decimals("1", "1000", places=2),
    st.decimals("-2", "5", places=2),
)


@given(st.lists(fills, max_size=25), st.decimals("1", "1000", places=2))
def test_profit_is_what_the_cash_says(history, mark):
    """However fills split, flip or average: P&L equals cash in minus cash out plus what is held."""
    position = Position(Decimal(0), Decimal(0), Decimal(0), Decimal(0))
    for fill in history:
        position = position.after(fill)
    cash = sum((-f.side.sign * f.quantity * f.price - f.fee for f in history), Decimal(0))
    held = sum((f.side.sign * f.quantity for f in history), Decimal(0))
    profit = position.realised + position.unrealised(mark) - position.fees
    assert position.quantity == held
    assert abs(profit - (cash + held * mark)) < Decimal("1e-15")


@given(st.lists(fills, max_size=25))
def test_the_ledger_sums_to_zero_per_asset_and_holds_what_the_fills_say(history):
    books = defaultdict(Decimal)
    for fill in history:
        for entry in entries_of(fill, X):
            assert entry.amount > 0
            books[entry.asset, entry.debit] += entry.amount
            books[entry.asset, entry.credit] -= entry.amount
    for asset in ("USD", "X1"):
        assert sum((amount for (a, _), amount in books.items() if a == asset), Decimal(0)) == 0
    held = sum((f.side.sign * f.quantity for f in history), Decimal(0))
    cash = sum((-f.side.sign * f.quantity * f.price - f.fee for f in history), Decimal(0))
    assert (books["X1", "holding"], books["USD", "holding"]) == (held, cash)


@given(st.lists(fills, max_size=25), st.decimals("1", "1000", places=2))
def test_equity_is_cash_and_what_is_held_at_its_mark(history, mark):
    portfolio = Portfolio("USD", {1: X}, decimal_number, Decimal(10_000))
    for fill in history:
        portfolio.book(fill)
    portfolio.mark(1, float(mark))
    cash = 10_000 + sum((-f.side.sign * f.quantity * f.price - f.fee for f in history), Decimal(0))
    held = sum((f.side.sign * f.quantity for f in history), Decimal(0))
    assert portfolio.equity() == cash + held * decimal_number(float(mark))


def test_a_rebate_raises_profit_once():
    fill = Fill(uuid4(), "a", 1, 1, 1, Side.BUY, Decimal(1), Decimal(100), Decimal(-2), "USD", NOON)
    portfolio = Portfolio("USD", {1: X}, decimal_number, Decimal(1000))
    portfolio.book(fill)
    portfolio.mark(1, 100.0)
    assert portfolio.equity() == 1002


def test_equity_is_unknown_while_a_holding_has_no_mark():
    portfolio = Portfolio("USD", {1: X}, decimal_number, Decimal(1000))
    portfolio.book(
        Fill(uuid4(), "a", 1, 1, 1, Side.BUY, Decimal(1), Decimal(10), Decimal(0), "USD", NOON)
    )
    assert portfolio.equity() is None


def test_equity_is_unknown_in_another_currency():
    portfolio = Portfolio(
        "USD", {1: an_instrument(quote_asset="EUR")}, decimal_number, Decimal(1000)
    )
    portfolio.restore(1, 1, Position(Decimal(1), Decimal(10)))
    portfolio.mark(1, 10.0)
    portfolio.balances["BTC"] = Decimal(1)
    assert portfolio.equity() is None
