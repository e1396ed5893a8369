"""The account: what it holds and is worth, what it returned and by which formula, and money that comes and goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Response, abort, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.lots import LotBookRow
from shared.db.market import InstrumentRow
from shared.db.trading import (
    AccountRow,
    EquitySnapshotRow,
    LedgerEntryRow,
    PositionRow,
    StrategyRow,
)
from shared.domain.ledger import EXTERNAL, FLOWS, HOLDING
from shared.domain.returns import Flow, Point, Return, money_weighted, time_weighted
from shared.messages import (
    Adjust,
    BookIncome,
    ChangeSymbol,
    Command,
    Deposit,
    EditBooks,
    ResetPaper,
    Split,
    TopUpPaper,
    Transfer,
    Withdraw,
    WriteOffDust,
)
from webapp import accounts, auth, charts, commands
from webapp.books.blueprint import account_looked_at, bp, shown
from webapp.db import db
from webapp.formats import decimal

LOOKED_AT: Final = 400
"""More deposits and withdrawals than this are not looked at one by one."""

METHODS: Final = (
    ("fifo", "First in, first out"),
    ("lifo", "Last in, first out"),
    ("hifo", "Highest cost first"),
    ("average", "Average cost"),
)
INCOME: Final = (
    ("dividend", "Dividend"),
    ("interest", "Interest"),
    ("staking", "Staking reward"),
    ("funding", "Funding"),
    ("rebate", "Rebate"),
    ("borrow", "Borrow cost"),
    ("fee", "Fee"),
)
ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Balance:
    """What there is of one asset, and what it is worth; None where no price leads to the base asset."""

    asset: str
    amount: Decimal
    rate: Decimal | None

    @property
    def value(self) -> Decimal | None:
        return None if self.rate is None else self.amount * self.rate


@dataclass(frozen=True, slots=True)
class Part:
    """One owner's share of the account's profit: a strategy, the hand, or the account itself."""

    name: str
    link: str
    realised: Decimal
    unrealised: Decimal | None
    fees: Decimal

    @property
    def profit(self) -> Decimal | None:
        return None if self.unrealised is None else self.realised + self.unrealised - self.fees


@bp.get("/books/account")
@auth.viewer
def account() -> str:
    return _page()


def _page(problems: dict[str, str] | None = None, action: str = "", answer: str = "") -> str:
    looked_at = account_looked_at()
    snapshot = accounts.newest_snapshot(looked_at.id)
    equity = snapshot.equity if snapshot else None
    flows = _flows(looked_at)
    points = _points(looked_at, flows)
    in_equity = [f for f in flows if snapshot is None or f.at <= snapshot.at]
    paid_in = None
    if all(flow.amount is not None for flow in in_equity):
        paid_in = sum((flow.amount or ZERO for flow in in_equity), ZERO)
    span = request.args.get("range", "all")
    parts = _parts(looked_at, snapshot)
    return shown(
        "books/account.html",
        snapshot=snapshot,
        equity=equity,
        paid_in=paid_in,
        profit=None if equity is None or paid_in is None else equity - paid_in,
        time=time_weighted(points, flows),
        money=money_weighted(points, flows),
        flows=_flow_rows(looked_at),
        balances=_balances(looked_at),
        parts=parts,
        rest=_rest(equity, paid_in, parts),
        span=span if span in charts.RANGES else "all",
        ranges=list(charts.RANGES),
        methods=METHODS,
        income_kinds=INCOME,
        instruments=_instruments(looked_at),
        strategies=_strategies(looked_at),
        others=[a for a in accounts.accounts() if a.id != looked_at.id and a.clock != "replay"],
        assets=_assets(looked_at),
        problems=problems or {},
        action=action,
        answer=answer,
        entered=request.form,
    )


@bp.get("/books/account/equity.json")
@auth.viewer
def account_equity() -> Response:
    """Equity of the account looked at, and beside it what had been paid in by then: flows are its steps."""
    looked_at = accounts.chosen()
    span = request.args.get("range", "all")
    if span not in charts.RANGES:
        abort(400, f"range {span!r}: use one of {', '.join(charts.RANGES)}")
    points = charts.equity_points(looked_at, charts.RANGES[span]) if looked_at else []
    flows = _flows(looked_at) if looked_at else []
    return charts.json_answer(
        {**_without_flows(points, flows), "equity": [p.equity for p in points]}
    )


def _without_flows(points: list[charts.EquityPoint], flows: list[Flow]) -> dict[str, list[float]]:
    """What had been paid in at each point, what was returned since the first, and how deep that had fallen."""
    found: dict[str, list[float]] = {"times": [], "benchmark": [], "returned": [], "drawdown": []}
    paid, index, peak, place, before = 0.0, 1.0, 1.0, 0, 0.0
    for point in points:
        came = 0.0
        while place < len(flows) and flows[place].at <= point.at:
            came += float(flows[place].amount or 0)
            place += 1
        if before > 0:
            index *= max(0.0, (point.equity - came) / before)
        peak, before, paid = max(peak, index), point.equity, paid + came
        found["times"].append(round(point.at.timestamp(), 3))
        found["benchmark"].append(paid)
        found["returned"].append(index - 1)
        found["drawdown"].append(index / peak - 1)
    return found


# What there is -------------------------------------------------------------------------------


def _balances(account: AccountRow) -> list[Balance]:
    """Sums of the ledger: those that are kept, and what came after them."""
    book = db.session.get(LotBookRow, account.id)
    kept = (book.books if book else {}).get(HOLDING, {})
    sums = {asset: Decimal(amount) for asset, amount in kept.items()}
    entry = LedgerEntryRow
    change = sa.case((entry.debit == HOLDING, entry.amount), else_=-entry.amount)
    tail = (
        sa.select(entry.asset, sa.func.sum(change))
        .where(
            entry.account_id == account.id,
            entry.id > (book.entry_id if book else 0),
            sa.or_(entry.debit == HOLDING, entry.credit == HOLDING),
        )
        .group_by(entry.asset)
    )
    for asset, amount in db.session.execute(tail):
        sums[asset] = sums.get(asset, ZERO) + amount
    rates = _rates(account)
    return [
        Balance(asset, amount, rates.get(asset))
        for asset, amount in sorted(
            sums.items(), key=lambda item: (item[0] != account.base_asset, item)
        )
        if amount or asset == account.base_asset
    ]


def _rates(account: AccountRow) -> dict[str, Decimal]:
    """Asset -> what one of it is worth in the base asset, over at most two instruments."""
    instruments = list(
        db.session.scalars(sa.select(InstrumentRow).where(InstrumentRow.venue == account.venue))
    )
    marks = accounts.marks(account.id, instruments)
    rates = {account.base_asset: Decimal(1)}
    for _ in range(2):
        for instrument in instruments:
            mark = marks.get(instrument.id)
            if mark and instrument.quote_asset in rates:
                rates.setdefault(instrument.base_asset, mark * rates[instrument.quote_asset])
            if mark and instrument.base_asset in rates:
                rates.setdefault(instrument.quote_asset, rates[instrument.base_asset] / mark)
    return rates


def _parts(account: AccountRow, snapshot: EquitySnapshotRow | None) -> list[Part]:
    """Profit by owner, at the prices equity was told at: strategies by name, then what was traded by hand."""
    query = (
        sa.select(PositionRow, InstrumentRow, StrategyRow)
        .join(InstrumentRow, InstrumentRow.id == PositionRow.instrument_id)
        .outerjoin(StrategyRow, StrategyRow.id == PositionRow.strategy_id)
        .where(PositionRow.account_id == account.id)
    )
    rows = db.session.execute(query).all()
    marks = accounts.marks(account.id, list({i.id: i for _, i, _ in rows}.values()))
    for told in snapshot.holdings if snapshot else ():
        if "instrument_id" in told and (mark := decimal(told.get("mark"))) is not None:
            marks[told["instrument_id"]] = mark
    parts: dict[int, Part] = {}
    for position, instrument, strategy in rows:
        owner = strategy.id if strategy else 0
        held = accounts.Holding(position, instrument, strategy, marks.get(instrument.id))
        gained = held.unrealised if position.quantity else ZERO
        before = parts.get(owner) or _nobody(strategy)
        unknown = before.unrealised is None or gained is None
        parts[owner] = Part(
            before.name,
            before.link,
            before.realised + position.realised,
            None if unknown else (before.unrealised or ZERO) + (gained or ZERO),
            before.fees + position.fees,
        )
    return sorted(parts.values(), key=lambda part: (part.link == "", part.name.lower()))


def _nobody(strategy: StrategyRow | None) -> Part:
    if strategy is None:
        return Part("By hand", "", ZERO, ZERO, ZERO)
    link = url_for("strategies.detail", strategy_id=strategy.id)
    return Part(strategy.name, "" if strategy.deleted_at else link, ZERO, ZERO, ZERO)


def _rest(equity: Decimal | None, paid_in: Decimal | None, parts: list[Part]) -> Decimal | None:
    """Profit that no position has: interest on money, adjustments; and marks that moved since the snapshot."""
    if equity is None or paid_in is None or any(part.profit is None for part in parts):
        return None
    return equity - paid_in - sum((part.profit or ZERO for part in parts), ZERO)


# Returns -------------------------------------------------------------------------------------


def _external(account: AccountRow) -> Any:
    entry = LedgerEntryRow
    return sa.and_(
        entry.account_id == account.id,
        entry.kind.in_(FLOWS),
        sa.or_(entry.debit.in_(EXTERNAL), entry.credit.in_(EXTERNAL)),
    )


def _flow_rows(account: AccountRow, limit: int = 8) -> list[LedgerEntryRow]:
    """The newest deposits and withdrawals, newest first."""
    query = sa.select(LedgerEntryRow).where(_external(account))
    order = (LedgerEntryRow.at.desc(), LedgerEntryRow.id.desc())
    return list(db.session.scalars(query.order_by(*order).limit(limit)))


def _flows(account: AccountRow) -> list[Flow]:
    """Everything that came from outside or went there, in the base asset, oldest first."""
    entry = LedgerEntryRow
    query = sa.select(entry.at, entry.asset, entry.amount, entry.worth, entry.credit).where(
        _external(account)
    )
    flows = []
    for row in db.session.execute(query.order_by(entry.at, entry.id)):
        worth = row.amount if row.asset == account.base_asset else row.worth
        sign = 1 if row.credit in EXTERNAL else -1
        flows.append(Flow(row.at, None if worth is None else sign * worth))
    return flows


def _points(account: AccountRow, flows: list[Flow]) -> list[Point]:
    """The first and the newest equity, and those just before and just after each flow: no other matters."""
    snap = EquitySnapshotRow
    known = sa.select(snap.at, snap.equity).where(
        snap.account_id == account.id, snap.equity.is_not(None)
    )
    queries = [known.order_by(snap.at).limit(1), known.order_by(snap.at.desc()).limit(1)]
    for at in _sample([flow.at for flow in flows]):
        queries.append(known.where(snap.at < at).order_by(snap.at.desc()).limit(1))
        queries.append(known.where(snap.at >= at).order_by(snap.at).limit(1))
    found: dict[datetime, Decimal] = {}
    for start in range(0, len(queries), 100):
        some = [sa.select(query.subquery()) for query in queries[start : start + 100]]
        found.update({row.at: row.equity for row in db.session.execute(sa.union_all(*some))})
    return [Point(at, equity) for at, equity in sorted(found.items())]


def _sample(times: list[datetime]) -> list[datetime]:
    distinct = sorted(set(times))
    step = max(1, -(-len(distinct) // LOOKED_AT))
    return distinct[::step]


# Money that comes and goes -------------------------------------------------------------------


def _instruments(account: AccountRow) -> list[InstrumentRow]:
    query = sa.select(InstrumentRow).where(InstrumentRow.venue == account.venue)
    return list(db.session.scalars(query.order_by(InstrumentRow.symbol)))


def _strategies(account: AccountRow) -> list[StrategyRow]:
    query = sa.select(StrategyRow).where(
        StrategyRow.account_id == account.id, StrategyRow.deleted_at.is_(None)
    )
    return list(db.session.scalars(query.order_by(StrategyRow.name)))


def _assets(account: AccountRow) -> list[str]:
    assets = {account.base_asset}
    for instrument in _instruments(account):
        assets |= {instrument.base_asset, instrument.quote_asset}
    return sorted(assets, key=lambda asset: (asset != account.base_asset, asset))


def _command(action: str, account_id: int) -> Command:
    """The command a submitted form asks for."""
    form = request.form
    amount, asset = form.get("amount", ""), form.get("asset", "")
    note = form.get("note", "")
    whole: Any = lambda name: form.get(name, type=int)  # noqa: E731
    match action:
        case "deposit":
            return Deposit(account_id, asset, amount, note)
        case "withdraw":
            return Withdraw(account_id, asset, amount, note)
        case "transfer":
            return Transfer(account_id, whole("to_account_id") or 0, asset, amount, note)
        case "adjust":
            return Adjust(account_id, asset, amount, form.get("reason", ""))
        case "income":
            return BookIncome(
                account_id, form.get("kind", ""), asset, amount, form.get("tax", ""),
                whole("instrument_id"), whole("strategy_id"), note,
            )  # fmt: skip
        case "split":
            return Split(
                account_id, whole("instrument_id") or 0, whole("numerator") or 0,
                whole("denominator") or 0,
            )  # fmt: skip
        case "symbol":
            return ChangeSymbol(
                account_id, whole("instrument_id") or 0, whole("to_instrument_id") or 0
            )
        case "dust":
            return WriteOffDust(account_id, whole("instrument_id") or 0, whole("strategy_id"))
        case "top-up":
            return TopUpPaper(account_id, amount)
        case "reset":
            return ResetPaper(account_id, form.get("capital", ""))
        case _:
            return EditBooks(account_id, form.get("lot_method", ""), form.get("dust_value", ""))


ACTIONS: Final = (
    "deposit", "withdraw", "transfer", "adjust", "income", "split", "symbol", "dust", "top-up",
    "reset", "settings",
)  # fmt: skip


@bp.post("/books/account/<action>")
@auth.trader
def book_money(action: str) -> AnyResponse | tuple[str, int]:
    """Ask the engine; what it denies stands beside the field, with what was typed."""
    if action not in ACTIONS:
        abort(404)
    asked = request.form.get("account", type=int)
    if not any(a.id == asked for a in accounts.accounts()):
        abort(400, "account: there is no such account. Load the page again.")
    accounts.choose(asked or 0)
    row = commands.ask_and_wait(_command(action, asked or 0))
    if row.state in ("denied", "expired"):
        field = str((row.result or {}).get("field", ""))
        text = commands.text_of(row)
        said = text.removeprefix(f"{field}: ") if field else text
        return _page({field: said} if field else {}, action, text), 409
    return commands.settled_page(row, url_for("books.account"))


@bp.app_template_filter("number_or_nothing")
def number_or_nothing(value: Return) -> Decimal | None:
    """A return's value as a number a template can format."""
    return decimal(value.value)
