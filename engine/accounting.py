"""What is not a fill, as balanced ledger entries and the positions after it.

Each function answers with `Posted`: nothing has happened until the account's loop posts it. The
reference is unique in an account, so an event that is told twice is refused by the database.

What is the base asset of an instrument of the account is a position, and comes and goes at its mark;
everything else is a balance.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from engine.actions import Posted
from engine.portfolio import Portfolio
from shared.domain.instruments import Instrument
from shared.domain.ledger import (
    ADJUSTMENTS,
    BORROWING,
    CAPITAL,
    CONVERSION,
    DIVIDENDS,
    EXTERNAL,
    FEES,
    FUNDING,
    HOLDING,
    INTEREST,
    STAKING,
    TAX,
    TRADING,
    TRANSIT,
    LedgerEntry,
)
from shared.domain.lots import rounded
from shared.domain.orders import Fill, Number, Side
from shared.domain.positions import Position

INCOME: Final = {
    "interest": INTEREST,
    "borrow": BORROWING,
    "dividend": DIVIDENDS,
    "staking": STAKING,
    "funding": FUNDING,
    "rebate": FEES,
    "fee": FEES,
}
"""Kind of income (or, below 0, of expense) -> the book it comes from."""

BY_HAND: Final = 0


class CannotBook(ValueError):
    """The event cannot be booked as told; the text says what is wrong and what would help."""


class Slip(Struct, frozen=True):
    """What every entry of one event has in common."""

    account_id: int
    at: datetime
    reference: str
    note: str = ""


def deposit(portfolio: Portfolio, slip: Slip, asset: str, amount: Number) -> Posted:
    """Money or a thing comes from outside: no gain."""
    return _moved(portfolio, slip, "deposit", CAPITAL, asset, _above_zero(amount))


def withdrawal(
    portfolio: Portfolio, slip: Slip, asset: str, amount: Number, owner: int = BY_HAND
) -> Posted:
    """Money or a thing leaves for outside: no loss."""
    amount = _above_zero(amount)
    _has(portfolio, asset, amount)
    return _moved(portfolio, slip, "withdrawal", CAPITAL, asset, -amount, owner)


def transfer(
    portfolio: Portfolio, slip: Slip, asset: str, amount: Number, *, arrives: bool
) -> Posted:
    """One half of a transfer between two of our accounts; both halves carry one reference."""
    amount = _above_zero(amount)
    if not arrives:
        _has(portfolio, asset, amount)
    return _moved(portfolio, slip, "transfer", TRANSIT, asset, amount if arrives else -amount)


def adjustment(
    portfolio: Portfolio, slip: Slip, asset: str, amount: Number, owner: int = BY_HAND
) -> Posted:
    """What the books did not know: found (above 0) or lost, with the reason in the slip's note."""
    if not amount:
        raise CannotBook("amount: 0 changes nothing")
    if not slip.note:
        raise CannotBook("reason: say why the books are to be changed")
    if amount < 0:
        _has(portfolio, asset, -amount)
        return _lost(portfolio, slip, "adjustment", asset, -amount, owner)
    return _moved(portfolio, slip, "adjustment", ADJUSTMENTS, asset, amount, owner)


def write_off(portfolio: Portfolio, slip: Slip, instrument_id: int, owner: int) -> Posted:
    """A remainder too small to sell goes to adjustments, and its cost with it."""
    position = portfolio.position(owner, instrument_id)
    if position.is_flat:
        raise CannotBook("nothing is held there")
    instrument = portfolio.instruments[instrument_id]
    entry, after = _gone(portfolio, slip, "dust", instrument, position.quantity, owner)
    return Posted((entry,), ((owner, instrument_id, after),))


def income(
    portfolio: Portfolio,
    slip: Slip,
    kind: str,
    asset: str,
    amount: Number,
    *,
    instrument_id: int | None = None,
    owner: int = BY_HAND,
    tax: Number = Decimal(0),
) -> Posted:
    """Interest, a dividend, a staking reward, funding, a rebate: received above 0, paid below.

    `tax` is the part of it that was withheld. With an instrument it counts for the position that
    earned it. A reward in a thing that is traded comes at its mark, and that is its cost.
    """
    if kind not in INCOME:
        raise CannotBook(f"kind: {kind!r} is not one of {', '.join(INCOME)}")
    if not amount:
        raise CannotBook("amount: 0 changes nothing")
    if tax < 0 or (tax and tax > amount):
        raise CannotBook(f"tax: {tax} must be from 0 to the amount, {amount}")
    if amount < 0:
        _has(portfolio, asset, -amount)
    posted = _moved(portfolio, slip, kind, INCOME[kind], asset, amount, owner, is_result=True)
    if tax:
        if posted.positions:
            raise CannotBook("tax: what is withheld of a reward in kind is a withdrawal of its own")
        posted = replace(
            posted,
            entries=(
                *posted.entries,
                _entry(portfolio, slip, "tax", "tax", asset, -tax, TAX, owner),
            ),
        )
    if instrument_id is None or posted.positions:
        return posted
    return _for_position(portfolio, posted, kind, asset, amount - tax, instrument_id, owner)


def split(
    portfolio: Portfolio, slip: Slip, instrument_id: int, numerator: int, denominator: int
) -> Posted:
    """`numerator` new for `denominator` old: quantities change, costs stay, nothing is gained."""
    if numerator < 1 or denominator < 1 or numerator == denominator:
        raise CannotBook(f"ratio: {numerator} for {denominator} is no split")
    instrument = portfolio.instruments[instrument_id]
    entries, positions = [], []
    for owner, position in _owners(portfolio, instrument_id):
        after = rounded(position.quantity * numerator / denominator)
        if not after:
            raise CannotBook(f"ratio: {position.quantity} would become nothing; sell it first")
        change = after - position.quantity
        leg = f"split:{owner}"
        entries.append(
            _entry(portfolio, slip, "split", leg, instrument.base_asset, change, CONVERSION, owner)
        )
        positions.append((owner, instrument_id, replace(position, quantity=after)))
    if not entries:
        raise CannotBook(f"nobody holds {instrument.symbol}")
    named = tuple(replace(entry, instrument_id=instrument_id) for entry in entries)
    return Posted(named, tuple(positions))


def symbol_change(portfolio: Portfolio, slip: Slip, instrument_id: int, to: int) -> Posted:
    """What is held of one instrument goes on as another, at its cost."""
    if to == instrument_id:
        raise CannotBook("to: that is the same instrument")
    entries: list[LedgerEntry] = []
    positions: list[tuple[int, int, Position]] = []
    for owner, _ in _owners(portfolio, instrument_id):
        part = _renamed(portfolio, slip, owner, instrument_id, to)
        entries.extend(part.entries)
        positions.extend(part.positions)
    if not entries:
        raise CannotBook(f"nobody holds {portfolio.instruments[instrument_id].symbol}")
    return Posted(tuple(entries), tuple(positions))


def started_over(portfolio: Portfolio, slip: Slip, capital: Number) -> Posted:
    """Everything the account has or owes goes out at its mark, and `capital` comes in."""
    scratch = _copy(portfolio)
    entries: list[LedgerEntry] = []
    positions: dict[tuple[int, int], Position] = {}

    def put(kind: str, asset: str, amount: Number, owner: int = BY_HAND) -> None:
        numbered = replace(slip, reference=f"{slip.reference}:{len(entries)}")
        posted = _moved(scratch, numbered, kind, CAPITAL, asset, amount, owner)
        scratch.post(posted)
        entries.extend(posted.entries)
        positions.update({(who, id_): after for who, id_, after in posted.positions})

    for (owner, instrument_id), position in sorted(scratch.positions.items()):
        if not position.is_flat:
            asset = scratch.instruments[instrument_id].base_asset
            put(
                "withdrawal" if position.quantity > 0 else "deposit",
                asset,
                -position.quantity,
                owner,
            )
    for asset, amount in sorted(scratch.balances.items()):
        if amount:
            put("withdrawal" if amount > 0 else "deposit", asset, -amount)
    put("deposit", portfolio.base_asset, _above_zero(capital))
    return Posted(tuple(entries), tuple((*key, after) for key, after in positions.items()))


def _copy(portfolio: Portfolio) -> Portfolio:
    """The same holdings and marks, to be changed without consequences."""
    copy = Portfolio(
        portfolio.base_asset,
        portfolio.instruments,
        portfolio.number,
        portfolio.cash,
        portfolio.peak,
    )
    copy.balances.update(portfolio.balances)
    copy.marks.update(portfolio.marks)
    for (owner, instrument_id), position in portfolio.positions.items():
        copy.restore(owner, instrument_id, position)
    return copy


def external_flow(portfolio: Portfolio, posted: Posted) -> Number | None:
    """What came from outside, less what went there, in the base asset; None where no rate is known."""
    total = portfolio.number(0.0)
    for entry in posted.entries:
        for book, sign in ((entry.credit, 1), (entry.debit, -1)):
            if book in EXTERNAL:
                worth = entry.amount if entry.asset == portfolio.base_asset else entry.worth
                if worth is None:
                    return None
                total += sign * worth
    return total


# Parts ---------------------------------------------------------------------------------------


def _moved(
    portfolio: Portfolio,
    slip: Slip,
    kind: str,
    book: str,
    asset: str,
    amount: Number,
    owner: int = BY_HAND,
    *,
    is_result: bool = False,
) -> Posted:
    """A signed amount comes from `book`, or goes there."""
    instrument = _traded_as(portfolio, asset)
    if instrument is None:
        return Posted((_entry(portfolio, slip, kind, "main", asset, amount, book, owner),))
    mark = portfolio.marks.get(instrument.id)
    if mark is None:
        raise CannotBook(f"asset: {asset} has no price yet; wait for one of {instrument.symbol}")
    if amount < 0 and portfolio.position(owner, instrument.id).quantity < -amount:
        raise CannotBook(f"amount: {-amount} {asset} is more than is held there by its owner")
    price = portfolio.number(mark)
    value = amount * price
    base = _entry(portfolio, slip, kind, "base", asset, amount, TRADING, owner, instrument.id)
    debit, credit = (TRADING, book) if amount > 0 else (book, TRADING)
    quote = replace(
        base,
        leg="quote",
        asset=instrument.quote_asset,
        amount=abs(value),
        debit=debit,
        credit=credit,
        worth=portfolio.worth(instrument.quote_asset, abs(value)),
    )
    position = _exchanged(portfolio.position(owner, instrument.id), amount, price, slip.at)
    if is_result:
        position = replace(position, realised=position.realised + value)
    return Posted((base, quote), ((owner, instrument.id, position),))


def _lost(
    portfolio: Portfolio, slip: Slip, kind: str, asset: str, amount: Number, owner: int
) -> Posted:
    instrument = _traded_as(portfolio, asset)
    if instrument is None:
        return Posted((_entry(portfolio, slip, kind, "main", asset, -amount, ADJUSTMENTS, owner),))
    if portfolio.position(owner, instrument.id).quantity < amount:
        raise CannotBook(f"amount: the owner holds less than {amount} {asset}")
    entry, after = _gone(portfolio, slip, kind, instrument, amount, owner)
    return Posted((entry,), ((owner, instrument.id, after),))


def _gone(
    portfolio: Portfolio, slip: Slip, kind: str, instrument: Instrument, amount: Number, owner: int
) -> tuple[LedgerEntry, Position]:
    """A signed quantity leaves for nothing: its cost is the loss."""
    entry = _entry(
        portfolio, slip, kind, "base", instrument.base_asset, -amount, ADJUSTMENTS, owner,
        instrument.id,
    )  # fmt: skip
    position = portfolio.position(owner, instrument.id)
    return entry, _exchanged(position, -amount, 0 * amount, slip.at)


def _for_position(
    portfolio: Portfolio,
    posted: Posted,
    kind: str,
    asset: str,
    amount: Number,
    instrument_id: int,
    owner: int,
) -> Posted:
    """What a position earned counts as its own: a rebate as less fees, the rest as realised."""
    instrument = portfolio.instruments[instrument_id]
    position = portfolio.position(owner, instrument_id)
    gained = amount
    if asset != instrument.quote_asset:
        rate, quote = portfolio.rate(asset), portfolio.rate(instrument.quote_asset)
        if rate is None or not quote:
            raise CannotBook(f"asset: {asset} has no price in {instrument.quote_asset} yet")
        gained = amount * rate / quote
    if INCOME[kind] == FEES:
        position = replace(position, fees=position.fees - gained)
    else:
        position = replace(position, realised=position.realised + gained)
    named = tuple(replace(entry, instrument_id=instrument_id) for entry in posted.entries)
    return Posted(named, ((owner, instrument_id, position),))


def _renamed(portfolio: Portfolio, slip: Slip, owner: int, old: int, new: int) -> Posted:
    """One owner's position under another instrument: two entries, two positions, one cost."""
    position, there = portfolio.position(owner, old), portfolio.position(owner, new)
    if there.quantity * position.quantity < 0:
        raise CannotBook("to: the opposite is held there; close one of the two first")
    after = replace(
        position, quantity=0 * position.quantity, cost=0 * position.cost, opened_at=None
    )
    arrived = replace(
        there,
        quantity=there.quantity + position.quantity,
        cost=there.cost + position.cost,
        opened_at=min(filter(None, (there.opened_at, position.opened_at)), default=slip.at),
    )
    entries = []
    for leg, id_, change in (("out", old, -position.quantity), ("in", new, position.quantity)):
        asset = portfolio.instruments[id_].base_asset
        entries.append(
            _entry(
                portfolio, slip, "symbol_change", f"{leg}:{owner}", asset, change, CONVERSION, owner,
                id_,
            )
        )  # fmt: skip
    return Posted(tuple(entries), ((owner, old, after), (owner, new, arrived)))


def _entry(
    portfolio: Portfolio,
    slip: Slip,
    kind: str,
    leg: str,
    asset: str,
    change: Number,
    book: str,
    owner: int,
    instrument_id: int | None = None,
) -> LedgerEntry:
    """The holding changes by `change`; `book` is the other side."""
    debit, credit = (HOLDING, book) if change > 0 else (book, HOLDING)
    return LedgerEntry(
        account_id=slip.account_id,
        strategy_id=owner or None,
        at=slip.at,
        kind=kind,
        asset=asset,
        amount=abs(change),
        debit=debit,
        credit=credit,
        reference=slip.reference,
        leg=leg,
        instrument_id=instrument_id,
        note=slip.note,
        worth=portfolio.worth(asset, abs(change)) if instrument_id is None else None,
    )


def _exchanged(position: Position, change: Number, price: Number, at: datetime) -> Position:
    """The position as if `change` had traded at `price`, without a fee."""
    side = Side.BUY if change > 0 else Side.SELL
    nothing = 0 * price
    return position.after(Fill(UUID(int=0), "", 0, 0, 0, side, abs(change), price, nothing, "", at))


def _traded_as(portfolio: Portfolio, asset: str) -> Instrument | None:
    """The instrument whose position an asset is: one quoted in the base asset, else the first."""
    if asset == portfolio.base_asset:
        return None
    found = [i for _, i in sorted(portfolio.instruments.items()) if i.base_asset == asset]
    return next(
        (i for i in found if i.quote_asset == portfolio.base_asset), next(iter(found), None)
    )


def _owners(portfolio: Portfolio, instrument_id: int) -> Sequence[tuple[int, Position]]:
    return [
        (owner, position)
        for (owner, held), position in sorted(portfolio.positions.items())
        if held == instrument_id and not position.is_flat
    ]


def _above_zero(amount: Number) -> Number:
    if not amount > 0:
        raise CannotBook(f"amount: {amount} must be above 0")
    return amount


def _has(portfolio: Portfolio, asset: str, amount: Number) -> None:
    there = portfolio.balance(asset)
    if there < amount:
        raise CannotBook(f"amount: {amount} {asset} is more than there is: {max(there, 0)} {asset}")
