"""Double entry: every row moves one amount of one asset from one book to another.

A row cannot be unbalanced: what it takes from `credit` it gives to `debit`. Sums to zero per asset
therefore hold by construction; balances, P&L and equity are queries over the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.domain.instruments import Instrument
from shared.domain.orders import Fill, Number, Side

HOLDING: Final = "holding"  # what the account has at the venue
TRADING: Final = "trading"  # the other side of exchanges
FEES: Final = "fees"
CAPITAL: Final = "capital"  # deposits and withdrawals


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """`amount` > 0 of `asset` leaves book `credit` and enters book `debit`."""

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


def entries_of(fill: Fill, instrument: Instrument) -> tuple[LedgerEntry, ...]:
    """The base asset one way, the quote asset the other, and the fee."""
    value = fill.quantity * fill.price
    base = (HOLDING, TRADING) if fill.side is Side.BUY else (TRADING, HOLDING)
    legs = [
        ("base", instrument.base_asset, fill.quantity, *base),
        ("quote", instrument.quote_asset, value, *reversed(base)),
    ]
    if fill.fee > 0:
        legs.append(("fee", fill.fee_asset, fill.fee, FEES, HOLDING))
    elif fill.fee < 0:  # a rebate is a fee the venue pays
        legs.append(("fee", fill.fee_asset, -fill.fee, HOLDING, FEES))
    reference = f"fill:{fill.venue_fill_id}"
    return tuple(
        LedgerEntry(
            account_id=fill.account_id,
            strategy_id=fill.strategy_id or None,
            at=fill.at,
            kind="fee" if leg == "fee" else "fill",
            asset=asset,
            amount=amount,
            debit=debit,
            credit=credit,
            reference=reference,
            leg=leg,
            instrument_id=fill.instrument_id,
        )
        for leg, asset, amount, debit, credit in legs
    )
