"""What the engine would answer to orders by hand: commands settled by hand, and rows of such orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import DecisionRow, OrderIntentRow, OrderRow, PositionRow
from tests.webapp.world import NOON

CHECKS = [
    {"rule": "funds", "allowed": True, "value": "10.01", "limit": "950", "unit": "USD",
     "text": "costs 10.01 of 950.00 USD free cash"},
    {"rule": "position_size", "allowed": True, "value": "0.00995", "limit": "0.05", "unit": "%",
     "text": "order value of equity 1.00%, within the limit 5.00%"},
]  # fmt: skip

PREVIEW = {
    "instrument": "BTC/USD", "side": "buy", "type": "limit", "quantity": "0.1", "price": "100",
    "value": "10", "fee": "0.01", "fee_asset": "USD", "cost": "10.01", "cash_before": "950",
    "cash_after": "939.99", "position_before": "0", "position_after": "0.1",
    "margin": {"enabled": False, "used_before": None, "used_after": None, "free_after": None,
               "level_after": None},
    "checks": CHECKS, "steps": [{"name": "lot", "value": "0.1", "text": "down to whole lots of 0.0001"}],
    "legs": [{"leg": "entry", "type": "limit", "side": "buy", "quantity": "0.1", "limit_price": "100",
              "stop_price": None, "trail": None, "time_in_force": "gtc"}],
    "outcome": "ordered", "reason": "", "warnings": [],
}  # fmt: skip


def previewed(**changed: object) -> dict:
    """The result of a preview, as `PlaceOrder` documents it."""
    return {"text": "Previewed.", "link": "", "preview": {**PREVIEW, **changed}}


def settle(rows, command_id: UUID, state: str, result: dict, *, ago: float = 0) -> None:
    """The engine's last word on a command, so many seconds ago."""
    rows.rollback()
    row = rows.get(CommandRow, command_id)
    row.state, row.result = state, result
    row.settled_at = datetime.now(UTC) - timedelta(seconds=ago)
    rows.commit()


def asked(rows, kind: str) -> list[CommandRow]:
    """The commands of a kind, oldest first."""
    rows.rollback()
    query = sa.select(CommandRow).where(CommandRow.kind == kind).order_by(CommandRow.created_at)
    return list(rows.scalars(query))


def an_order_by_hand(
    rows, account, instrument, *, state="working", side="buy", type_="limit", leg="entry",
    parent=None, strategy=None, **levels,
) -> UUID:  # fmt: skip
    """A working order; `levels` are its limit_price, stop_price, fraction ... as decimal strings."""
    prices = {name: Decimal(text) for name, text in levels.items()}
    decision, id_ = uuid4(), uuid4()
    owner = strategy.id if strategy else None
    rows.add(
        DecisionRow(
            id=decision, account_id=account.id, strategy_id=owner, instrument_id=instrument.id,
            decided_at=NOON, kind="manual", target=None, previous=0, because="by trader", bar=None,
            price=Decimal(100), checks=[], steps=[], outcome="ordered", reason="",
        )
    )  # fmt: skip
    rows.flush()
    rows.add(
        OrderIntentRow(
            client_order_id=id_, decision_id=decision, account_id=account.id, strategy_id=owner,
            instrument_id=instrument.id, leg=leg, side=side, type=type_, decided_at=NOON,
            quantity=None if parent else Decimal("0.1"), parent_id=parent,
            reduce_only=leg != "entry", **prices,
        )
    )  # fmt: skip
    rows.flush()
    rows.add(
        OrderRow(
            client_order_id=id_, account_id=account.id, strategy_id=owner,
            instrument_id=instrument.id, decided_at=NOON, state=state,
            quantity=None if parent else Decimal("0.1"), updated_at=NOON,
            limit_price=prices.get("limit_price"), stop_price=prices.get("stop_price"),
        )
    )  # fmt: skip
    rows.commit()
    return id_


def a_position_by_hand(rows, account, instrument, quantity="0.2", cost="20") -> int:
    row = PositionRow(
        account_id=account.id, strategy_id=None, instrument_id=instrument.id,
        quantity=Decimal(quantity), cost=Decimal(cost), realised=Decimal(0), fees=Decimal(0),
        opened_at=NOON, updated_at=NOON,
    )  # fmt: skip
    rows.add(row)
    rows.commit()
    return row.id
