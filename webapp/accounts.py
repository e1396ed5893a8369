"""What an account is worth, holds and may do: the questions several pages ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

import sqlalchemy as sa
from flask import g, session

from shared.db.market import InstrumentRow
from shared.db.trading import (
    AccountRow,
    EquitySnapshotRow,
    FillRow,
    LedgerEntryRow,
    OrderRow,
    PositionRow,
    StrategyRow,
    TradingStateRow,
)
from shared.domain.ledger import EXTERNAL, FLOWS
from webapp.db import db
from webapp.formats import day_start, decimal
from webapp.live import quotes

DONE_STATES: Final = ("filled", "cancelled", "expired", "rejected")
ORDER_TONES: Final = {
    "filled": "good",
    "working": "info",
    "submitted": "info",
    "new": "info",
    "held": "",
    "cancelling": "warning",
    "unknown": "bad",
    "cancelled": "",
    "expired": "",
    "rejected": "bad",
}
STATE_WORDS: Final = {"running": "Running", "reduce_only": "Reduce-only", "halted": "Halted"}
STATE_TONES: Final = {"running": "good", "reduce_only": "warning", "halted": "bad"}
_STRICTNESS: Final = ("running", "reduce_only", "halted")


def accounts() -> list[AccountRow]:
    """All accounts: those on a running market first, then replays, newest first. Read once a request."""
    if "accounts" not in g:
        is_replay = sa.case((AccountRow.clock == "replay", 1), else_=0)
        query = sa.select(AccountRow).order_by(
            is_replay, sa.case((is_replay == 1, -AccountRow.id), else_=AccountRow.id)
        )
        g.accounts = list(db.session.scalars(query))
    return cast("list[AccountRow]", g.accounts)


def chosen() -> AccountRow | None:
    """The account the user looks at: their choice, or the first."""
    wanted = session.get("account")
    every = accounts()
    return next((a for a in every if a.id == wanted), every[0] if every else None)


def choose(account_id: int) -> bool:
    """Look at this account from now on; False when there is none."""
    if not any(account.id == account_id for account in accounts()):
        return False
    session["account"] = account_id
    return True


def kind_text(account: AccountRow) -> str:
    """paper or LIVE: the one word that must never be wrong."""
    return "LIVE" if account.kind == "live" else "paper"


def account_text(account: AccountRow) -> str:
    """`paper · main`; an account named like its kind is not said twice."""
    kind = kind_text(account)
    return kind if account.name == kind else f"{kind} · {account.name}"


def clock_text(account: AccountRow) -> str:
    """`simulated` or `replay` and how much faster than life, or nothing for a real market."""
    if account.clock == "real":
        return ""
    speed = f"{account.clock_speed:g}\N{MULTIPLICATION SIGN}" if account.clock_speed != 1 else ""
    return f"{account.clock} · {speed}" if speed else account.clock


def market_now(account: AccountRow) -> datetime:
    """The account's own time: its market's, which need not be ours."""
    if account.clock == "real" or account.market_time is None:
        return datetime.now(UTC)
    return account.market_time


def newest_snapshot(account_id: int, at: datetime | None = None) -> EquitySnapshotRow | None:
    """The last marked equity, or the last one at or before `at`."""
    query = sa.select(EquitySnapshotRow).where(EquitySnapshotRow.account_id == account_id)
    if at is not None:
        query = query.where(EquitySnapshotRow.at <= at)
    return db.session.scalar(query.order_by(EquitySnapshotRow.at.desc()).limit(1))


@dataclass(frozen=True, slots=True)
class Today:
    """The day so far in the user's zone, by the account's own clock."""

    equity: Decimal | None
    pnl: Decimal | None
    fraction: Decimal | None
    realised: Decimal
    fees: Decimal
    trades: int
    began_at: datetime


def today(account: AccountRow, zone: str) -> Today:
    """Equity now less equity at midnight less what was paid in since; unknown stays unknown."""
    midnight = day_start(market_now(account), zone)
    now, then = newest_snapshot(account.id), newest_snapshot(account.id, midnight)
    equity = now.equity if now else None
    start = then.equity if then else Decimal(0)
    paid_in = _capital(account, then.at if then else None, now.at if now else None)
    pnl = None if equity is None or start is None else equity - start - paid_in
    base = None if start is None else start + paid_in
    realised, fees, trades = _traded_since(account, midnight)
    return Today(
        equity=equity,
        pnl=pnl,
        fraction=pnl / base if pnl is not None and base else None,
        realised=realised,
        fees=fees,
        trades=trades,
        began_at=midnight,
    )


def _capital(account: AccountRow, after: datetime | None, until: datetime | None = None) -> Decimal:
    """What came from outside less what went there, in the base asset: after one time and until another.

    What came after the equity it is compared with is not in that equity yet.
    """
    entry = LedgerEntryRow
    worth = sa.case((entry.asset == account.base_asset, entry.amount), else_=entry.worth)
    query = sa.select(
        sa.func.coalesce(sa.func.sum(sa.case((entry.credit.in_(EXTERNAL), worth), else_=-worth)), 0)
    ).where(
        entry.account_id == account.id,
        entry.kind.in_(FLOWS),
        sa.or_(entry.debit.in_(EXTERNAL), entry.credit.in_(EXTERNAL)),
    )
    if after is not None:
        query = query.where(entry.at > after)
    if until is not None:
        query = query.where(entry.at <= until)
    return Decimal(db.session.scalar(query) or 0)


def capital(account: AccountRow) -> Decimal:
    """All that was ever paid in, less what was taken out."""
    return _capital(account, None)


def _traded_since(account: AccountRow, since: datetime) -> tuple[Decimal, Decimal, int]:
    """(realised P&L, fees in the base asset, number of fills)."""
    fee = sa.case((FillRow.fee_asset == account.base_asset, FillRow.fee), else_=0)
    query = sa.select(
        sa.func.coalesce(sa.func.sum(FillRow.realised), 0),
        sa.func.coalesce(sa.func.sum(fee), 0),
        sa.func.count(),
    ).where(FillRow.account_id == account.id, FillRow.filled_at >= since)
    realised, fees, trades = db.session.execute(query).one()
    return Decimal(realised), Decimal(fees), int(trades)


def standing_requests() -> list[TradingStateRow]:
    """Trading-state requests neither expired nor lifted, oldest first. Read once a request."""
    if "standing_requests" not in g:
        lift = sa.orm.aliased(TradingStateRow)
        g.standing_requests = list(
            db.session.scalars(
                sa.select(TradingStateRow)
                .where(
                    ~sa.exists().where(lift.lifts == TradingStateRow.id),
                    TradingStateRow.lifts.is_(None),
                    TradingStateRow.state != "running",
                    sa.or_(
                        TradingStateRow.expires_at.is_(None),
                        TradingStateRow.expires_at > sa.func.clock_timestamp(),
                    ),
                )
                .order_by(TradingStateRow.id)
            )
        )
    return cast("list[TradingStateRow]", g.standing_requests)


def requests_on(account: AccountRow) -> list[TradingStateRow]:
    """The standing requests that bind the whole account."""
    scopes = {("all", ""), ("account", str(account.id)), ("venue", account.venue)}
    return [r for r in standing_requests() if r.scope == "all" or (r.scope, r.scope_id) in scopes]


def trading_state(account: AccountRow) -> str:
    """running, reduce_only or halted: the most restrictive request rules."""
    return max((r.state for r in requests_on(account)), key=_STRICTNESS.index, default="running")


def working_orders(account_id: int | None) -> int:
    """Orders not over yet, held protective legs included."""
    query = sa.select(sa.func.count()).where(OrderRow.state.not_in(DONE_STATES))
    if account_id is not None:
        query = query.where(OrderRow.account_id == account_id)
    return db.session.scalar(query) or 0


@dataclass(frozen=True, slots=True)
class Holding:
    """An open position, valued at `mark` in the instrument's quote asset."""

    position: PositionRow
    instrument: InstrumentRow
    strategy: StrategyRow | None
    mark: Decimal | None

    @property
    def average(self) -> Decimal:
        return self.position.cost / self.position.quantity

    @property
    def value(self) -> Decimal | None:
        return None if self.mark is None else self.position.quantity * self.mark

    @property
    def unrealised(self) -> Decimal | None:
        return None if self.value is None else self.value - self.position.cost

    @property
    def gain(self) -> Decimal | None:
        """Unrealised P&L as a fraction of what was paid."""
        paid = abs(self.position.cost)
        return None if self.unrealised is None or not paid else self.unrealised / paid


def holdings(account_id: int, strategy_id: int | None = None) -> list[Holding]:
    """Every position that is not flat, by symbol and strategy, so that rows keep their place."""
    query = (
        sa.select(PositionRow, InstrumentRow, StrategyRow)
        .join(InstrumentRow, InstrumentRow.id == PositionRow.instrument_id)
        .outerjoin(StrategyRow, StrategyRow.id == PositionRow.strategy_id)
        .where(PositionRow.account_id == account_id, PositionRow.quantity != 0)
        .order_by(InstrumentRow.symbol, PositionRow.id)
    )
    if strategy_id is not None:
        query = query.where(PositionRow.strategy_id == strategy_id)
    rows = db.session.execute(query).all()
    mark_of = marks(account_id, [instrument for _, instrument, _ in rows])
    return [Holding(p, i, s, mark_of.get(i.id)) for p, i, s in rows]


def marks(account_id: int, instruments: list[InstrumentRow]) -> dict[int, Decimal]:
    """Mark prices: the live quote where there is one, else the mark of the last equity snapshot."""
    snapshot = newest_snapshot(account_id) if instruments else None
    stored = {h["asset"]: decimal(h.get("mark")) for h in (snapshot.holdings if snapshot else [])}
    live = quotes(instruments)
    found: dict[int, Decimal] = {}
    for instrument in instruments:
        quote = live.get(instrument.id)
        mark = decimal(quote.mark) if quote else stored.get(instrument.base_asset)
        if mark is not None:
            found[instrument.id] = mark
    return found


def drawdown(account: AccountRow, equity: Decimal | None) -> Decimal | None:
    """How far equity stands below its peak, as a fraction; 0 at the peak."""
    if equity is None or not account.peak_equity:
        return None
    return max(Decimal(0), 1 - equity / max(account.peak_equity, equity))


def names(model: type[Any], ids: set[int | None]) -> dict[int, Any]:
    """Rows by id, for lists that show names."""
    wanted = {i for i in ids if i is not None}
    if not wanted:
        return {}
    return {row.id: row for row in db.session.scalars(sa.select(model).where(model.id.in_(wanted)))}
