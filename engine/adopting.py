"""Handing a position from one owner to another of the same account, at its cost."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from engine.actions import Posted
from engine.portfolio import Portfolio
from shared.domain.ledger import HOLDING, LedgerEntry
from shared.domain.orders import Number
from shared.domain.positions import Position

TRANSFER = "transfer"


class NotToHand(ValueError):
    """The position cannot be handed over as asked."""


def handed_over(
    portfolio: Portfolio,
    account_id: int,
    instrument_id: int,
    giver: int,
    taker: int,
    quantity: Number,
    at: datetime,
    key: UUID,
) -> Posted:
    """`quantity` base units (above 0) change owners, with their share of the cost; nothing is realised.

    In the ledger the taker's sub-ledger pays the giver's what the position cost.
    """
    given = portfolio.position(giver, instrument_id)
    taken = portfolio.position(taker, instrument_id)
    if giver == taker:
        raise NotToHand("giver and taker are the same")
    if given.is_flat or quantity <= 0 or quantity > abs(given.quantity):
        raise NotToHand(f"{quantity} is not part of the {given.quantity} held")
    if taken.quantity * given.quantity < 0:
        raise NotToHand("the other owner holds the opposite: close one of them first")
    share = quantity / abs(given.quantity)
    moved = quantity if given.quantity > 0 else -quantity
    cost = given.cost if quantity == abs(given.quantity) else given.cost * share
    left = replace(given, quantity=given.quantity - moved, cost=given.cost - cost)
    if left.is_flat:
        left = replace(left, cost=0 * cost, opened_at=None)
    grown = replace(
        taken,
        quantity=taken.quantity + moved,
        cost=taken.cost + cost,
        opened_at=taken.opened_at or given.opened_at,
    )
    instrument = portfolio.instruments[instrument_id]
    entries = (
        *_across(account_id, giver, taker, at, instrument.base_asset, moved, key, "base"),
        *_across(account_id, taker, giver, at, instrument.quote_asset, cost, key, "quote"),
    )
    positions: tuple[tuple[int, int, Position], ...] = (
        (giver, instrument_id, left),
        (taker, instrument_id, grown),
    )
    named = tuple(replace(entry, instrument_id=instrument_id) for entry in entries)
    return Posted(named, positions, f"{quantity} {instrument.symbol} handed over at cost")


def _across(
    account_id: int,
    giver: int,
    taker: int,
    at: datetime,
    asset: str,
    amount: Number,
    key: UUID,
    leg: str,
) -> tuple[LedgerEntry, LedgerEntry]:
    """An amount leaves one sub-ledger's holding and enters the other's; a negative one goes the other way."""
    if amount < 0:
        giver, taker, amount = taker, giver, -amount
    owners = ((giver, TRANSFER, HOLDING, "out"), (taker, HOLDING, TRANSFER, "in"))
    first, second = (
        LedgerEntry(
            account_id, owner or None, at, "adopt", asset, amount, debit, credit,
            f"adopt:{key}", f"{leg}.{way}",
        )
        for owner, debit, credit, way in owners
    )  # fmt: skip
    return first, second
