"""Keeps lots and sums of books in step with the ledger, from where they were left.

Both are read off the ledger alone, so they can be thrown away and made again: a change of an account's
method does. The clock calls this once a second; a long ledger is caught up with over several calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.db import schema  # noqa: F401  (lots refer to rows of other modules)
from shared.db.lots import LotBookRow, LotRow
from shared.db.trading import AccountRow, LedgerEntryRow
from shared.domain.ledger import books
from shared.domain.lots import ClosedLot, Key, LotBook, Method, Moved, OpenLot, events_of

CHUNK: Final = 5_000
CHUNKS_A_CALL: Final = 6


def keep(session: Session, chunk: int = CHUNK, chunks: int = CHUNKS_A_CALL) -> int:
    """Bring every account's lots nearer to its ledger; how many entries were read."""
    read = 0
    accounts = session.execute(sa.select(AccountRow.id, AccountRow.lot_method)).all()
    for account_id, method in accounts:
        for _ in range(chunks):
            entries = _advance(session, account_id, Method(method), chunk)
            session.commit()
            read += entries
            if entries < chunk:
                break
    return read


def _advance(session: Session, account_id: int, method: Method, chunk: int) -> int:
    """Take the next entries in, whole postings at a time; how many were read."""
    row = session.get(LotBookRow, account_id, with_for_update=True)
    if row is None or row.method != method:
        row = _begun_anew(session, account_id, method, row)
    if row.problem:
        return 0
    entry = LedgerEntryRow
    entries = session.execute(
        sa.select(entry.__table__)
        .where(entry.account_id == account_id, entry.id > row.entry_id)
        .order_by(entry.id)
        .limit(chunk)
    ).all()
    whole = _whole_postings(entries) if len(entries) == chunk else entries
    if not whole:
        return 0
    try:
        _take_in(session, account_id, method, whole)
    except (ArithmeticError, KeyError, ValueError) as error:
        # Nothing was written yet: lots are worked out before they are stored.
        row.problem = f"entry {whole[0].id} to {whole[-1].id}: {type(error).__name__}: {error}"[
            :500
        ]
        return 0
    row.entry_id = whole[-1].id
    row.books = _summed(row.books, whole)
    row.updated_at = sa.func.clock_timestamp()
    return len(entries)


def _whole_postings(entries: Sequence[Any]) -> Sequence[Any]:
    """Without the last posting, which may go on beyond what was read; all of it if it is one posting."""
    last = entries[-1].reference
    cut = len(entries)
    while cut and entries[cut - 1].reference == last:
        cut -= 1
    return entries[:cut] or entries


def _begun_anew(
    session: Session, account_id: int, method: Method, row: LotBookRow | None
) -> LotBookRow:
    session.execute(sa.delete(LotRow).where(LotRow.account_id == account_id))
    if row is None:
        row = LotBookRow(account_id=account_id)
        session.add(row)
    row.method, row.entry_id, row.books, row.problem = method.value, 0, {}, ""
    session.flush()
    return row


def _take_in(session: Session, account_id: int, method: Method, entries: Sequence[Any]) -> None:
    events = events_of(entries)
    keys: set[Key] = {event.key for event in events}
    keys |= {event.to for event in events if isinstance(event, Moved)}
    book = LotBook(method)
    for lot in _open(session, account_id, keys):
        book.restore(lot)
    closed = [lot for event in events for lot in book.apply(event)]
    for owner, instrument_id in keys:
        session.execute(
            sa.delete(LotRow).where(
                LotRow.account_id == account_id,
                LotRow.closed_at.is_(None),
                LotRow.instrument_id == instrument_id,
                LotRow.strategy_id.is_not_distinct_from(owner or None),
            )
        )
    rows = [_closed_row(account_id, lot) for lot in closed]
    rows += [_open_row(account_id, lot) for key in sorted(keys) for lot in book.lots_of(key)]
    if rows:
        session.execute(sa.insert(LotRow), rows)


def _open(session: Session, account_id: int, keys: set[Key]) -> list[OpenLot]:
    """The open lots of these owners and instruments, oldest first."""
    query = (
        sa.select(LotRow.__table__)
        .where(
            LotRow.account_id == account_id,
            LotRow.closed_at.is_(None),
            LotRow.instrument_id.in_({instrument_id for _, instrument_id in keys}),
        )
        .order_by(LotRow.opened_at, LotRow.id)
    )
    return [
        OpenLot(
            key=(row.strategy_id or 0, row.instrument_id),
            opened_at=row.opened_at,
            quantity=row.quantity,
            cost=row.cost,
            fees=row.fees,
            opened_by=row.opened_by,
            kind=row.kind,
        )
        for row in session.execute(query)
        if (row.strategy_id or 0, row.instrument_id) in keys
    ]


def _open_row(account_id: int, lot: OpenLot) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "strategy_id": lot.key[0] or None,
        "instrument_id": lot.key[1],
        "side": "long" if lot.quantity > 0 else "short",
        "kind": lot.kind,
        "quantity": lot.quantity,
        "opened_at": lot.opened_at,
        "opened_by": lot.opened_by,
        "closed_at": None,
        "closed_by": "",
        "proceeds": None,
        "cost": lot.cost,
        "fees": lot.fees,
        "gain": None,
        "term": None,
    }


def _closed_row(account_id: int, lot: ClosedLot) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "strategy_id": lot.key[0] or None,
        "instrument_id": lot.key[1],
        "side": "short" if lot.is_short else "long",
        "kind": lot.kind,
        "quantity": lot.quantity,
        "opened_at": lot.opened_at,
        "opened_by": lot.opened_by,
        "closed_at": lot.closed_at,
        "closed_by": lot.closed_by,
        "proceeds": lot.proceeds,
        "cost": lot.cost,
        "fees": lot.fees,
        "gain": lot.gain,
        "term": lot.term,
    }


def _summed(known: dict[str, Any], entries: Sequence[Any]) -> dict[str, dict[str, str]]:
    """{book: {asset: sum}} with the entries in it, as decimal strings."""
    sums: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    for book, assets in known.items():
        sums[book] = {asset: Decimal(amount) for asset, amount in assets.items()}
    for (book, asset), amount in books(entries).items():
        sums[book][asset] = sums[book].get(asset, Decimal(0)) + amount
    return {
        book: {asset: f"{amount:f}" for asset, amount in assets.items()}
        for book, assets in sums.items()
    }
