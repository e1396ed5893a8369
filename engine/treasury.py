"""Money commands: what each books in its running account. Booked and settled in one commit, so once or never.

Entries carry the command's id as their reference. A transfer is two commits, one an account: between
them the money is in transit, and an engine that starts looks for what has not arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import structlog
from msgspec.structs import replace

from engine import accounting, settling
from engine.accounting import BY_HAND, CannotBook, Slip
from engine.actions import Posted
from engine.core import FAILURES
from engine.desk import Denied
from engine.journal import LeaseLost, Settlement, is_away
from engine.live import AccountLoop
from engine.narrator import stopped_at_error
from engine.portfolio import Portfolio
from engine.waiting import answered
from shared.db.trading import AccountRow, LedgerEntryRow
from shared.domain.ledger import TRANSIT
from shared.domain.lots import Method, is_dust
from shared.messages import (
    Adjust,
    BookIncome,
    ChangeSymbol,
    Deposit,
    EditBooks,
    ResetPaper,
    Split,
    TopUpPaper,
    Transfer,
    Withdraw,
    WriteOffDust,
)

log = structlog.get_logger()

MONEY: Final = (
    Adjust,
    BookIncome,
    ChangeSymbol,
    Deposit,
    EditBooks,
    ResetPaper,
    Split,
    TopUpPaper,
    Transfer,
    Withdraw,
    WriteOffDust,
)
"""Commands that are done here."""

LARGEST: Final = Decimal(10) ** 15
LINK: Final = "/books/account"


class Treasury:
    """Does money commands in the loops of running accounts."""

    def __init__(self, db: sa.Engine, loops: Mapping[int, AccountLoop]) -> None:
        self._db = db
        self._loops = loops

    async def do(self, command_id: UUID, command: Any, actor: str) -> None:
        """Do it and settle it; what cannot be done is denied with the field and the remedy."""
        try:
            if isinstance(command, EditBooks):
                await answered(self._edit_books, command_id, command)
            else:
                await self._book(command_id, command, actor)
        except Denied as wrong:
            await answered(self._deny, command_id, str(wrong), wrong.field)
        except CannotBook as wrong:
            await answered(self._deny, command_id, str(wrong), str(wrong).partition(":")[0])
        except LeaseLost:
            raise
        except sa.exc.DBAPIError as error:
            if is_away(error):
                raise
            await self._failed(command_id, error)
        except FAILURES as error:  # one command nobody foresaw must not stop trading
            await self._failed(command_id, error)
        if isinstance(command, Transfer):
            await self.arrivals()

    async def arrivals(self) -> None:
        """Book what left one account and has not come to the other yet."""
        for row in await answered(self._in_transit):
            loop = self._loops.get(int(row.reference.rpartition(":")[2]))
            if loop is None:
                continue
            async with loop.turn_lock:
                slip = Slip(loop.account_id, loop.market_time(), row.reference, row.note)
                posted = accounting.transfer(
                    loop.core.portfolio, slip, row.asset, row.amount, arrives=True
                )
                text = f"{_plain(row.amount)} {row.asset} arrived from another account"
                flow = accounting.external_flow(loop.core.portfolio, posted)
                await loop.post(replace(posted, text=text))
                _shift_peak(loop.core.portfolio, flow)

    async def _failed(self, command_id: UUID, error: BaseException) -> None:
        log.exception("command.failed", command=str(command_id))
        text = f"it could not be done: {stopped_at_error(error)}"
        await answered(self._deny, command_id, text, "")

    def _deny(self, command_id: UUID, text: str, field: str) -> None:
        with self._db.begin() as connection:
            if settling.claim(connection, command_id):
                settling.settle(connection, command_id, "denied", {"text": text, "field": field})

    async def _book(self, command_id: UUID, command: Any, actor: str) -> None:
        loop = self._loops.get(command.account_id)
        if loop is None:
            raise Denied(
                f"account {command.account_id} is not trading now: open it first", "account_id"
            )
        account = await answered(self._account, loop.account_id)
        if isinstance(command, Transfer):
            await self._check_transfer(account, command)
        async with loop.turn_lock:
            slip = Slip(loop.account_id, loop.market_time(), f"command:{command_id}")
            posted, said = self._posted(loop, account, command, slip)
            flow = accounting.external_flow(loop.core.portfolio, posted)
            posted = replace(posted, text=f"{said} by {actor}")
            settlement = Settlement(command_id, said, LINK)
            await loop.obey(settlement, [posted], slip.at)
            if not await answered(self._is_booked, loop.account_id, posted):
                return  # the command was gone by then: the books in memory stay as the rows are
            loop.core.portfolio.post(posted)
            if isinstance(command, Split):
                _rescale_mark(loop.core.portfolio, command)
            if isinstance(command, ResetPaper):
                loop.core.portfolio.peak = loop.core.portfolio.cash
            else:
                _shift_peak(loop.core.portfolio, flow)

    def _posted(
        self, loop: AccountLoop, account: Any, command: Any, slip: Slip
    ) -> tuple[Posted, str]:
        """What the command books, and that in a sentence."""
        portfolio = loop.core.portfolio
        match command:
            case Deposit() | TopUpPaper():
                return _deposit(portfolio, account, command, slip)
            case Withdraw():
                amount = _amount("amount", command.amount)
                asset = _asset(portfolio, command.asset)
                posted = accounting.withdrawal(portfolio, _noted(slip, command.note), asset, amount)
                return posted, f"{_plain(amount)} {asset} withdrawn"
            case Transfer():
                amount = _amount("amount", command.amount)
                asset = _asset(portfolio, command.asset)
                slip = replace(
                    _noted(slip, command.note),
                    reference=f"transfer:{slip.reference.partition(':')[2]}:{command.to_account_id}",
                )
                posted = accounting.transfer(portfolio, slip, asset, amount, arrives=False)
                return posted, f"{_plain(amount)} {asset} sent to account {command.to_account_id}"
            case Adjust():
                amount = _amount("amount", command.amount, signed=True)
                asset = _asset(portfolio, command.asset)
                slip = _noted(slip, command.reason)
                posted = accounting.adjustment(portfolio, slip, asset, amount)
                return posted, f"Books adjusted by {_plain(amount)} {asset}: {slip.note}"
            case BookIncome():
                return _income(loop, command, slip)
            case Split():
                instrument = _instrument(loop, command.instrument_id)
                ratio = command.numerator, command.denominator
                posted = accounting.split(portfolio, slip, instrument.id, *ratio)
                _no_working_orders(loop, instrument.id)
                return posted, f"Split of {instrument.symbol}, {ratio[0]} for {ratio[1]}, booked"
            case ChangeSymbol():
                old = _instrument(loop, command.instrument_id)
                new = _instrument(loop, command.to_instrument_id, "to_instrument_id")
                if old.quote_asset != new.quote_asset:
                    raise Denied(
                        f"to_instrument_id: {new.symbol} is priced in {new.quote_asset},"
                        f" {old.symbol} in {old.quote_asset}",
                        "to_instrument_id",
                    )
                _no_working_orders(loop, old.id)
                posted = accounting.symbol_change(portfolio, slip, old.id, new.id)
                return posted, f"{old.symbol} goes on as {new.symbol}"
            case WriteOffDust():
                return _write_off(loop, account, command, slip)
            case ResetPaper():
                _paper_only(account)
                _nothing_at_work(loop)
                capital = _amount("capital", command.capital)
                posted = accounting.started_over(portfolio, _noted(slip, "reset"), capital)
                return posted, f"Account {account.name} starts over with {_plain(capital)}"
        raise Denied(f"{type(command).__name__} is not done here")

    def _edit_books(self, command_id: UUID, command: EditBooks) -> None:
        if command.lot_method not in tuple(Method):
            known = ", ".join(Method)
            raise Denied(f"lot_method: {command.lot_method!r} is not one of {known}", "lot_method")
        dust = _amount("dust_value", command.dust_value) if command.dust_value.strip() else None
        with self._db.begin() as connection:
            if not settling.claim(connection, command_id):
                return
            changed = connection.execute(
                sa.update(AccountRow)
                .where(AccountRow.id == command.account_id)
                .values(lot_method=command.lot_method, dust_value=dust)
            )
            state, text = "done", f"Lots are chosen by {command.lot_method} from the beginning on"
            if not changed.rowcount:
                state, text = "denied", f"account_id: there is no account {command.account_id}"
            settling.settle(connection, command_id, state, {"text": text, "link": LINK})

    def _is_booked(self, account_id: int, posted: Posted) -> bool:
        first = posted.entries[0]
        query = sa.select(LedgerEntryRow.id).where(
            LedgerEntryRow.account_id == account_id,
            LedgerEntryRow.reference == first.reference,
            LedgerEntryRow.leg == first.leg,
        )
        with self._db.connect() as connection:
            return connection.scalar(query) is not None

    def _account(self, account_id: int) -> Any:
        with self._db.connect() as connection:
            query = sa.select(AccountRow.__table__).where(AccountRow.id == account_id)
            return connection.execute(query).one()

    async def _check_transfer(self, account: Any, command: Transfer) -> None:
        if command.to_account_id == command.account_id:
            raise Denied("to_account_id: choose another account than the one it comes from",
                         "to_account_id")  # fmt: skip
        if command.to_account_id not in self._loops:
            raise Denied(
                f"to_account_id: account {command.to_account_id} is not trading now",
                "to_account_id",
            )
        to = await answered(self._account, command.to_account_id)
        if (to.kind == "live") != (account.kind == "live"):
            raise Denied("to_account_id: paper money and real money do not mix", "to_account_id")
        if to.base_asset != account.base_asset or command.asset.strip() != account.base_asset:
            raise Denied(
                f"asset: only {account.base_asset}, the base asset of both accounts, can be sent",
                "asset",
            )

    def _in_transit(self) -> list[Any]:
        """Outgoing halves of transfers whose other half is not booked."""
        out, back = LedgerEntryRow, sa.orm.aliased(LedgerEntryRow)
        there = sa.exists().where(back.reference == out.reference, back.credit == TRANSIT)
        query = sa.select(out.reference, out.asset, out.amount, out.note).where(
            out.kind == "transfer", out.debit == TRANSIT, ~there
        )
        with self._db.connect() as connection:
            return list(connection.execute(query))


def _deposit(portfolio: Portfolio, account: Any, command: Any, slip: Slip) -> tuple[Posted, str]:
    amount = _amount("amount", command.amount)
    if isinstance(command, TopUpPaper):
        _paper_only(account)
        asset, note, said = portfolio.base_asset, "paper top-up", "topped up"
    else:
        asset, note, said = _asset(portfolio, command.asset), command.note, "deposited"
    posted = accounting.deposit(portfolio, _noted(slip, note), asset, amount)
    return posted, f"{_plain(amount)} {asset} {said}"


def _income(loop: AccountLoop, command: BookIncome, slip: Slip) -> tuple[Posted, str]:
    portfolio = loop.core.portfolio
    amount = _amount("amount", command.amount, signed=True)
    tax = _amount("tax", command.tax) if command.tax.strip() else Decimal(0)
    asset = _asset(portfolio, command.asset)
    about = ""
    if command.instrument_id is not None:
        about = f" of {_instrument(loop, command.instrument_id).symbol}"
    posted = accounting.income(
        portfolio,
        _noted(slip, command.note),
        command.kind,
        asset,
        amount,
        instrument_id=command.instrument_id,
        owner=command.strategy_id or BY_HAND,
        tax=tax,
    )
    return posted, f"{command.kind.capitalize()}{about} booked: {_plain(amount)} {asset}"


def _write_off(
    loop: AccountLoop, account: Any, command: WriteOffDust, slip: Slip
) -> tuple[Posted, str]:
    instrument, portfolio = _instrument(loop, command.instrument_id), loop.core.portfolio
    owner = command.strategy_id or BY_HAND
    quantity = portfolio.position(owner, instrument.id).quantity
    mark = portfolio.marks.get(instrument.id)
    price = None if mark is None else portfolio.number(mark)
    if not is_dust(quantity, price, instrument.lot_size, account.dust_value):
        raise Denied(
            f"instrument_id: {_plain(quantity)} {instrument.base_asset} is no dust: it is a lot or more,"
            " and worth more than the account's dust value",
            "instrument_id",
        )
    posted = accounting.write_off(portfolio, _noted(slip, "dust"), instrument.id, owner)
    return posted, f"{_plain(quantity)} {instrument.base_asset} written off as dust"


def _shift_peak(portfolio: Portfolio, flow: Any) -> None:
    """Money that comes or goes is no gain and no drawdown."""
    if flow:
        portfolio.peak = max(portfolio.peak + flow, 0 * flow)


def _rescale_mark(portfolio: Portfolio, command: Split) -> None:
    """Until the next price the last one counts for the new quantities: nothing is gained by a split."""
    mark = portfolio.marks.get(command.instrument_id)
    if mark is not None:
        portfolio.mark(command.instrument_id, mark * command.denominator / command.numerator)


def _amount(name: str, text: str, *, signed: bool = False) -> Decimal:
    try:
        amount = Decimal("".join(text.split()).replace(",", ""))
    except InvalidOperation:
        raise Denied(f"{name}: {text!r} is not an amount", name) from None
    if not amount.is_finite() or abs(amount) > LARGEST:
        raise Denied(f"{name}: {text!r} is more than an account can mean", name)
    if amount == 0 or (amount < 0 and not signed):
        raise Denied(f"{name}: {text!r} must be {'other than' if signed else 'above'} 0", name)
    if amount != round(amount, 12):
        raise Denied(f"{name}: {text!r} has more than 12 decimals", name)
    return amount


def _asset(portfolio: Portfolio, text: str) -> str:
    """An asset the account has, or that something it trades is made of or priced in."""
    asset = text.strip().upper()
    known = set(portfolio.balances)
    for instrument in portfolio.instruments.values():
        known |= {instrument.base_asset, instrument.quote_asset}
    if asset not in known:
        some = ", ".join(sorted(known)[:12])
        raise Denied(f"asset: nothing here is called {text!r} (known: {some})", "asset")
    return asset


def _instrument(loop: AccountLoop, instrument_id: int, field: str = "instrument_id") -> Any:
    if instrument_id not in loop.instruments:
        raise Denied(f"{field}: the account trades no instrument {instrument_id}", field)
    return loop.instruments[instrument_id]


def _paper_only(account: Any) -> None:
    if account.kind != "internal":
        raise Denied(f"account {account.name} is not paper: its money is real, or its venue's")


def _no_working_orders(loop: AccountLoop, instrument_id: int) -> None:
    """Prices and quantities of orders do not change with a split: they would be wrong afterwards."""
    if any(o.request.instrument_id == instrument_id for o in loop.core.orders.values()):
        symbol = loop.instruments[instrument_id].symbol
        raise Denied(f"orders work in {symbol}: cancel them first", "instrument_id")


def _nothing_at_work(loop: AccountLoop) -> None:
    if loop.live:
        raise Denied("strategies run on this account: stop them first")
    if loop.core.orders:
        raise Denied("orders work on this account: cancel them first")


def _noted(slip: Slip, note: str) -> Slip:
    return replace(slip, note=note.strip()[:200])


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
