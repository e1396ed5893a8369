"""What time costs an account that owes: borrow for what is sold short, interest for money, and margin calls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from engine.actions import Posted
from engine.portfolio import Portfolio
from shared.domain.ledger import HOLDING, LedgerEntry
from shared.domain.orders import Number
from shared.domain.positions import Position

BORROWING: Final = "borrowing"
"""The book that carrying costs go to."""

DAYS_A_YEAR: Final = 365


def accrued(
    portfolio: Portfolio, account_id: int, before: datetime, at: datetime
) -> Iterator[Posted]:
    """The costs of the days that began after `before`, up to `at`; one posting a position, one for money owed."""
    days = (at.date() - before.date()).days
    rate = portfolio.margin.borrow_rate
    if days <= 0 or not portfolio.margin.enabled or rate == 0:
        return
    share = portfolio.number(rate * days / DAYS_A_YEAR)
    for (strategy_id, instrument_id), position in sorted(portfolio.positions.items()):
        mark = portfolio.marks.get(instrument_id)
        if position.quantity < 0 and mark is not None:
            cost = -position.quantity * portfolio.number(mark) * share
            asset = portfolio.instruments[instrument_id].quote_asset
            reference = f"borrow:{strategy_id}:{instrument_id}:{at.date()}"
            entry = _entry(account_id, strategy_id, at, "borrow", asset, cost, reference)
            yield _charged(replace(entry, instrument_id=instrument_id), position)
    for asset, owed in sorted(portfolio.balances.items()):
        if owed < 0 and asset in _money(portfolio):
            reference = f"interest:{asset}:{at.date()}"
            yield Posted((_entry(account_id, 0, at, "interest", asset, -owed * share, reference),))


def _money(portfolio: Portfolio) -> set[str]:
    """Assets that prices are told in: owing one of them is a loan, owing another is a short position."""
    quotes = {instrument.quote_asset for instrument in portfolio.instruments.values()}
    return quotes | {portfolio.base_asset}


def _charged(entry: LedgerEntry, position: Position) -> Posted:
    """The cost is the position's own: it lowers its P&L like a fee."""
    assert entry.instrument_id is not None
    after = replace(position, fees=position.fees + entry.amount)
    return Posted((entry,), ((entry.strategy_id or 0, entry.instrument_id, after),))


def _entry(
    account_id: int,
    strategy_id: int,
    at: datetime,
    kind: str,
    asset: str,
    amount: Number,
    reference: str,
) -> LedgerEntry:
    return LedgerEntry(
        account_id,
        strategy_id or None,
        at,
        kind,
        asset,
        amount,
        BORROWING,
        HOLDING,
        reference,
        "cost",
    )


def margin_level(portfolio: Portfolio) -> float | None:
    """Equity over used margin; None while it is unknown or nothing is held."""
    equity, gross = portfolio.equity(), portfolio.gross()
    if not portfolio.margin.enabled or equity is None or not gross:
        return None
    return portfolio.margin.level(float(equity), gross)


def to_liquidate(portfolio: Portfolio) -> int | None:
    """The instrument whose positions are closed first: the one that ties up most."""
    worth = {
        instrument_id: abs(float(quantity)) * portfolio.marks.get(instrument_id, 0.0)
        for instrument_id, quantity in portfolio.held_all().items()
        if quantity != 0
    }
    return max(worth, key=lambda id_: (worth[id_], -id_)) if worth else None
