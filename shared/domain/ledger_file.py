"""A ledger as a CSV file, read back to the entries it was written from and to their totals."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from shared.domain.ledger import LedgerEntry, books
from shared.domain.lots import Key, Method, lots_of_entries

COLUMNS: Final = (
    "id", "account_id", "at", "kind", "asset", "amount", "debit", "credit", "reference", "leg",
    "strategy_id", "instrument_id", "worth", "note",
)  # fmt: skip
"""What a file must have; more columns do not matter, nor does their order."""


class NotALedger(ValueError):
    """The file is no ledger: names line, column, value and what is wrong."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a ledger comes to: sums by (book, asset), and by (owner, instrument) what was gained and is open."""

    entries: int
    books: dict[tuple[str, str], Decimal]
    gains: dict[Key, Decimal]
    open: dict[Key, tuple[Decimal, Decimal]]

    @property
    def out_of_balance(self) -> dict[str, Decimal]:
        """Assets whose books do not sum to zero: none, unless the file was changed."""
        sums: dict[str, Decimal] = {}
        for (_, asset), amount in self.books.items():
            sums[asset] = sums.get(asset, Decimal(0)) + amount
        return {asset: amount for asset, amount in sums.items() if amount}


def read(lines: Iterable[str]) -> list[LedgerEntry]:
    """The entries of a file in the order they were booked, however it is sorted.

    `NotALedger` names what cannot be read.
    """
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise NotALedger(f"line 1: the column {missing[0]} is missing; export the ledger again")
    numbered = [(_number(row, reader.line_num), _entry(row, reader.line_num)) for row in reader]
    numbered.sort(key=lambda pair: pair[0])
    return [entry for _, entry in numbered]


def totals(entries: Iterable[Any], method: Method = Method.FIFO) -> Totals:
    """Sums and lots of entries in the order they were booked."""
    listed = list(entries)
    open_lots, closed = lots_of_entries(listed, method)
    gains: dict[Key, Decimal] = {}
    for lot in closed:
        gains[lot.key] = gains.get(lot.key, Decimal(0)) + lot.gain
    held: dict[Key, tuple[Decimal, Decimal]] = {}
    for left in open_lots:
        quantity, cost = held.get(left.key, (Decimal(0), Decimal(0)))
        held[left.key] = (quantity + left.quantity, cost + left.cost + left.fees)
    return Totals(len(listed), books(listed), gains, held)


def _number(row: Mapping[str, str], line: int) -> int:
    try:
        return int(row["id"])
    except (TypeError, ValueError):
        raise NotALedger(f"line {line}, id: {row['id']!r} is no number") from None


def _entry(row: Mapping[str, str], line: int) -> LedgerEntry:
    def text(name: str) -> str:
        value = row[name] or ""
        # Written so that no spreadsheet takes it for a formula.
        return value[1:] if value[:1] == "'" and value[1:2] in ("=", "+", "-", "@", "\t") else value

    def made(name: str, maker: Any, *, empty: bool = False) -> Any:
        value = row[name]
        if not value and empty:
            return None
        try:
            return maker(value)
        except (InvalidOperation, TypeError, ValueError):
            raise NotALedger(f"line {line}, {name}: {value!r} cannot be read") from None

    amount = made("amount", Decimal)
    if not amount > 0:
        raise NotALedger(f"line {line}, amount: {amount} must be above 0")
    return LedgerEntry(
        account_id=made("account_id", int),
        strategy_id=made("strategy_id", int, empty=True),
        at=made("at", datetime.fromisoformat),
        kind=text("kind"),
        asset=text("asset"),
        amount=amount,
        debit=text("debit"),
        credit=text("credit"),
        reference=text("reference"),
        leg=text("leg"),
        instrument_id=made("instrument_id", int, empty=True),
        note=text("note"),
        worth=made("worth", Decimal, empty=True),
    )
