"""Double entry: every row moves one amount of one asset from one book to another.

A row cannot be unbalanced: what it takes from `credit` it gives to `debit`. Sums to zero per asset
therefore hold by construction; balances, P&L and equity are queries over the rows.

What is bought or sold against money is two rows through the book `trading`: one of the thing, one of
the money. Income in kind (a staking reward, a deposit of shares) is written the same way, as if it
had been bought with the money it was worth, so that its lot has a cost and its value is in the books.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from shared.domain.instruments import Instrument
from shared.domain.orders import Fill, Number, Side

HOLDING: Final = "holding"  # what the account has at the venue; below zero, what it owes
TRADING: Final = "trading"  # the other side of exchanges
FEES: Final = "fees"
CAPITAL: Final = "capital"  # deposits and withdrawals
TRANSIT: Final = "transit"  # on its way between two of our accounts
INTEREST: Final = "interest"  # received, and paid
BORROWING: Final = "borrowing"  # what short selling and margin cost
FUNDING: Final = "funding"
DIVIDENDS: Final = "dividends"
STAKING: Final = "staking"
TAX: Final = "tax"  # withheld at the source
CONVERSION: Final = "conversion"  # splits, symbol changes, holdings that change hands inside
ADJUSTMENTS: Final = "adjustments"
TRANSFER: Final = "transfer"  # between owners inside one account

EXTERNAL: Final = (CAPITAL, TRANSIT)
"""Books beyond the account: what comes from or goes to them is neither gain nor loss."""

FLOWS: Final = ("deposit", "withdrawal", "transfer")
"""Kinds of entries that may touch an external book."""

RESULTS: Final = (FEES, INTEREST, BORROWING, FUNDING, DIVIDENDS, STAKING, TAX, ADJUSTMENTS)
"""Books of gain and loss beside trading: what an account got from them less what it gave."""

KINDS: Final = (
    "fill",
    "fee",
    "rebate",
    "funding",
    "interest",
    "borrow",
    "dividend",
    "tax",
    "staking",
    "deposit",
    "withdrawal",
    "transfer",
    "split",
    "symbol_change",
    "adopt",
    "adjustment",
    "dust",
)

Worth = Callable[[str, Number], "Number | None"]
"""(asset, amount) -> what it is worth in the account's base asset, None where that is not known."""


class LedgerEntry(Struct, frozen=True):
    """`amount` > 0 of `asset` leaves book `credit` and enters book `debit`.

    `worth` is the amount in the account's base asset at that time, where the asset is another one and
    a rate was known: the rate used is thereby on record.
    """

    account_id: int
    strategy_id: int | None
    at: datetime
    kind: str
    asset: str
    amount: Number
    debit: str
    credit: str
    reference: str
    leg: str
    instrument_id: int | None = None
    note: str = ""
    worth: Number | None = None


def entries_of(
    fill: Fill, instrument: Instrument, worth: Worth | None = None
) -> tuple[LedgerEntry, ...]:
    """The base asset one way, the quote asset the other, and the fee."""
    debit, credit = (HOLDING, TRADING) if fill.side is Side.BUY else (TRADING, HOLDING)
    base = LedgerEntry(
        account_id=fill.account_id,
        strategy_id=fill.strategy_id or None,
        at=fill.at,
        kind="fill",
        asset=instrument.base_asset,
        amount=fill.quantity,
        debit=debit,
        credit=credit,
        reference=f"fill:{fill.venue_fill_id}",
        leg="base",
        instrument_id=fill.instrument_id,
    )

    def beside(kind: str, leg: str, asset: str, amount: Number, *books: str) -> LedgerEntry:
        debit, credit = books
        valued = None if worth is None else worth(asset, amount)
        return replace(
            base, kind=kind, leg=leg, asset=asset, amount=amount, debit=debit, credit=credit,
            worth=valued,
        )  # fmt: skip

    quote = beside(
        "fill", "quote", instrument.quote_asset, fill.quantity * fill.price, credit, debit
    )
    if fill.fee > 0:
        return base, quote, beside("fee", "fee", fill.fee_asset, fill.fee, FEES, HOLDING)
    if fill.fee < 0:  # a rebate is a fee the venue pays
        return base, quote, beside("rebate", "fee", fill.fee_asset, -fill.fee, HOLDING, FEES)
    return base, quote


def books(entries: Iterable[Any]) -> dict[tuple[str, str], Decimal]:
    """(book, asset) -> what is in it: the sum of what entered less what left. Never rounded."""
    sums: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for entry in entries:
        sums[entry.debit, entry.asset] += entry.amount
        sums[entry.credit, entry.asset] -= entry.amount
    return dict(sums)


def holdings(entries: Iterable[Any]) -> dict[str, Decimal]:
    """What the account has of each asset it ever had."""
    return {asset: amount for (book, asset), amount in books(entries).items() if book == HOLDING}
