"""Rows as the engine would leave them: small, consistent, with every table a page shows in use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from shared.db.market import BarRow, InstrumentRow, SeriesRow
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    EquitySnapshotRow,
    EventRow,
    FillRow,
    LedgerEntryRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
    StrategyCodeRow,
    StrategyRow,
    StrategyTypeRow,
)

NOON = datetime(2026, 9, 12, 12, 0, tzinfo=UTC)
"""The account's market time: 14:00 in Berlin."""

SCHEMA = [
    {"name": "window", "type": "int", "default": 14, "ge": 2, "le": 200, "gt": None, "lt": None,
     "choices": None, "help": "Bars looked at."},
    {"name": "threshold", "type": "float", "default": 30.0, "ge": None, "le": None, "gt": 0,
     "lt": 100, "choices": None, "help": "Buy below this."},
    {"name": "average", "type": "choice", "default": "wilder", "ge": None, "le": None, "gt": None,
     "lt": None, "choices": ["wilder", "cutler"], "help": ""},
    {"name": "both_sides", "type": "bool", "default": False, "ge": None, "le": None, "gt": None,
     "lt": None, "choices": None, "help": "Also sell short."},
]  # fmt: skip

CHECKS = [
    {"rule": "position_size", "allowed": True, "value": 0.048, "limit": 0.05, "unit": "%",
     "text": "order value of equity 4.80%, within the limit 5.00%"},
    {"rule": "concentration", "allowed": False, "value": 0.208, "limit": 0.20, "unit": "%",
     "text": "instrument of equity 20.80%, over the limit 20.00%"},
]  # fmt: skip


@dataclass(frozen=True)
class World:
    account: AccountRow
    btc: InstrumentRow
    eth: InstrumentRow
    type: StrategyTypeRow
    strategy: StrategyRow
    order: UUID
    stop_order: UUID
    decision: UUID
    denied: UUID


def a_world(session: Session) -> World:
    """One paper account: bought 0.5 BTC at 100, marked at 110, a stop loss working, one denial."""
    account = an_account(session)
    btc, eth = an_instrument(session, "BTC/USD"), an_instrument(session, "ETH/USD")
    type_ = a_type(session)
    strategy = a_strategy(session, account, btc, "BTC dips")
    bars(session, btc, count=90)
    decision, order = a_filled_order(session, account, strategy, btc)
    _, stop_order = a_working_stop(session, account, strategy, btc)
    denied = a_decision(session, account, strategy, eth, outcome="denied")
    session.add(
        PositionRow(
            account_id=account.id, strategy_id=strategy.id, instrument_id=btc.id,
            quantity=Decimal("0.5"), cost=Decimal(50), realised=Decimal(0), fees=Decimal("0.05"),
            opened_at=NOON, updated_at=NOON,
        )
    )  # fmt: skip
    equity(session, account, {NOON - timedelta(days=1): "1000", NOON: "1004.95"})
    session.commit()
    return World(account, btc, eth, type_, strategy, order, stop_order, decision, denied)


def an_account(session: Session, name: str = "paper", **changed: object) -> AccountRow:
    given = {
        "kind": "internal", "venue": "simulated", "base_asset": "USD", "clock": "simulated",
        "clock_speed": 60.0, "feed": {}, "costs": {}, "risk_policy": {}, "peak_equity": Decimal(1010),
        "market_time": NOON, "market_started_at": NOON - timedelta(days=2),
    }  # fmt: skip
    account = AccountRow(name=name, **{**given, **changed})
    session.add(account)
    session.flush()
    deposit(session, account, "1000", NOON - timedelta(days=2))
    return account


def deposit(session: Session, account: AccountRow, amount: str, at: datetime) -> None:
    session.add(
        LedgerEntryRow(
            account_id=account.id, at=at, kind="deposit", asset="USD", amount=Decimal(amount),
            debit="holding", credit="capital", reference=f"deposit:{at.isoformat()}", leg="deposit",
        )
    )  # fmt: skip
    session.flush()


def an_instrument(session: Session, symbol: str, venue: str = "simulated") -> InstrumentRow:
    base, _, quote = symbol.partition("/")
    row = InstrumentRow(
        venue=venue, symbol=symbol, name="", base_asset=base, quote_asset=quote or "USD",
        tick_size=Decimal("0.01"), lot_size=Decimal("0.0001"), calendar="24/7",
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def a_type(
    session: Session, name: str = "rsi_reversion", *, error: str | None = None
) -> StrategyTypeRow:
    code = StrategyCodeRow(
        hash=f"hash-{name}", file_name=f"{name}.py", source="# code", origin="user"
    )
    session.add(code)
    session.flush()
    row = StrategyTypeRow(
        name=name, title=name.replace("_", " ").capitalize(), doc="Buys dips.\n\nLeaves on recovery.",
        file_name=code.file_name, origin="user", code_hash=code.hash, schema=[] if error else SCHEMA,
        error=error,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def a_strategy(
    session: Session, account: AccountRow, instrument: InstrumentRow, name: str, **changed: object
) -> StrategyRow:
    given = {
        "type": "rsi_reversion", "code_hash": "hash-rsi_reversion", "parameters": {"window": 14},
        "inputs": {"main": {"instrument_id": instrument.id, "interval": 60, "trades": True}},
        "allocation": Decimal(200), "sizing": {"method": "fraction", "fraction": 1.0}, "state": {},
        "desired": "running", "status": "running", "started_at": NOON, "created_by": "trader",
    }  # fmt: skip
    row = StrategyRow(name=name, account_id=account.id, **{**given, **changed})
    session.add(row)
    session.flush()
    return row


def bars(
    session: Session, instrument: InstrumentRow, *, count: int, until: datetime = NOON
) -> None:
    """One-minute bars that end at `until`, each a little higher than the one before."""
    for n in range(count):
        opened = until - timedelta(minutes=count - n)
        close = Decimal(100) + n
        session.add(
            BarRow(
                instrument_id=instrument.id, source="simulated", interval=60, opened_at=opened,
                closed_at=opened + timedelta(minutes=1), open=close - 1, high=close + 1, low=close - 2,
                close=close, volume=Decimal(5),
            )
        )  # fmt: skip
    session.add(
        SeriesRow(
            instrument_id=instrument.id, source="simulated", interval=60, bars=count, simulated=True,
            first_opened_at=until - timedelta(minutes=count), last_closed_at=until,
        )
    )  # fmt: skip
    session.flush()


def a_decision(
    session: Session, account: AccountRow, strategy: StrategyRow, instrument: InstrumentRow,
    *, outcome: str = "ordered", at: datetime = NOON,
) -> UUID:  # fmt: skip
    id_ = uuid4()
    denied = outcome == "denied"
    session.add(
        DecisionRow(
            id=id_, account_id=account.id, strategy_id=strategy.id, instrument_id=instrument.id,
            decided_at=at, kind="signal", target=1.0, previous=0.0, because="RSI 24.1 below 30",
            bar={"opened_at": (at - timedelta(minutes=1)).isoformat(), "closed_at": at.isoformat(),
                 "open": 99.0, "high": 101.0, "low": 98.0, "close": 100.0, "volume": 5.0,
                 "filled": False},
            price=Decimal(100), checks=CHECKS if denied else CHECKS[:1],
            steps=[{"name": "change", "value": 0.5, "text": "50 at 100"}], outcome=outcome,
            reason="concentration: instrument of equity 20.80%, over the limit 20.00%" if denied else "",
        )
    )  # fmt: skip
    session.flush()
    return id_


def an_order(
    session: Session, decision: UUID, account: AccountRow, strategy: StrategyRow,
    instrument: InstrumentRow, *, state: str, side: str = "buy", leg: str = "entry",
    type_: str = "market", stop: str | None = None, at: datetime = NOON,
) -> UUID:  # fmt: skip
    id_ = uuid4()
    filled = Decimal("0.5") if state == "filled" else Decimal(0)
    stop_price = Decimal(stop) if stop else None
    session.add(
        OrderIntentRow(
            client_order_id=id_, decision_id=decision, account_id=account.id, strategy_id=strategy.id,
            instrument_id=instrument.id, leg=leg, side=side, type=type_, quantity=Decimal("0.5"),
            stop_price=stop_price, decided_at=at,
        )
    )  # fmt: skip
    session.flush()
    session.add(
        OrderRow(
            client_order_id=id_, account_id=account.id, strategy_id=strategy.id,
            instrument_id=instrument.id, decided_at=at, state=state, quantity=Decimal("0.5"),
            filled_quantity=filled, filled_value=filled * 100, fees=filled / 10, stop_price=stop_price,
            updated_at=at,
        )
    )  # fmt: skip
    session.add(
        OrderEventRow(
            client_order_id=id_, kind="submitted", key="submitted", happened_at=at, data={}
        )
    )
    session.flush()
    return id_


def a_filled_order(
    session: Session, account: AccountRow, strategy: StrategyRow, instrument: InstrumentRow,
    *, at: datetime = NOON, side: str = "buy", realised: str = "0",
) -> tuple[UUID, UUID]:  # fmt: skip
    decision = a_decision(session, account, strategy, instrument, at=at)
    order = an_order(
        session, decision, account, strategy, instrument, state="filled", side=side, at=at
    )
    fill_id = str(uuid4())
    session.add(
        OrderEventRow(client_order_id=order, kind="fill", key=fill_id, happened_at=at, data={})
    )
    session.add(
        FillRow(
            venue="simulated", account_id=account.id, venue_fill_id=fill_id, client_order_id=order,
            strategy_id=strategy.id, instrument_id=instrument.id, side=side, quantity=Decimal("0.5"),
            price=Decimal(100), fee=Decimal("0.05"), fee_asset="USD", liquidity="taker",
            realised=Decimal(realised), filled_at=at,
        )
    )  # fmt: skip
    session.flush()
    return decision, order


def a_working_stop(
    session: Session, account: AccountRow, strategy: StrategyRow, instrument: InstrumentRow
) -> tuple[UUID, UUID]:
    decision = a_decision(session, account, strategy, instrument)
    order = an_order(
        session, decision, account, strategy, instrument,
        state="working", side="sell", leg="stop_loss", type_="stop", stop="90",
    )  # fmt: skip
    return decision, order


def equity(session: Session, account: AccountRow, at: dict[datetime, str]) -> None:
    for moment, amount in at.items():
        session.add(
            EquitySnapshotRow(
                account_id=account.id, at=moment, equity=Decimal(amount), cash=Decimal(950),
                holdings=[{"asset": "BTC", "quantity": "0.5", "mark": "110", "value": "55"}],
            )
        )  # fmt: skip
    session.flush()


def an_event(
    session: Session, text: str, *, severity: str = "info", kind: str = "note",
    account: AccountRow | None = None, link: str = "",
) -> EventRow:  # fmt: skip
    row = EventRow(
        account_id=account.id if account else None, kind=kind, severity=severity, text=text, link=link,
        happened_at=NOON,
    )  # fmt: skip
    session.add(row)
    session.commit()
    return row
