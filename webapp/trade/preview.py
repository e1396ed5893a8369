"""What would happen if it were sent: the engine's answer to a preview, ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from shared.db.console import CommandRow
from shared.domain.identity import derived_id
from webapp.formats import decimal

STALE_AFTER: Final = timedelta(seconds=30)
"""Prices and cash move: what was previewed longer ago has to be previewed again."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One risk check: `value` of `limit`, both in `unit`."""

    name: str
    allowed: bool
    value: Decimal | None
    limit: Decimal | None
    unit: str
    text: str

    @property
    def bar(self) -> tuple[float, float | None]:
        """(value, limit) on a scale that a picture can hold, however large they are."""
        value, limit = self.value or Decimal(0), self.limit
        if limit is None or limit <= 0:
            return (0.0, None)
        return float(min(value / limit, Decimal(4))), 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """A number now and afterwards."""

    before: Decimal | None
    after: Decimal | None


@dataclass(frozen=True, slots=True)
class Preview:
    """The answer, numbers as numbers. `send_id` is the id of the one command its Send makes."""

    id: UUID
    at: datetime
    outcome: str
    reason: str
    side: str
    type: str
    quantity: Decimal | None
    price: Decimal | None
    value: Decimal | None
    fee: Decimal | None
    fee_asset: str
    cost: Decimal | None
    cash: Change
    position: Change
    margin: Change | None
    free_margin: Decimal | None
    margin_level: Decimal | None
    rules: tuple[Rule, ...]
    steps: tuple[Mapping[str, Any], ...]
    legs: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]

    @property
    def send_id(self) -> UUID:
        return sent_by(self.id)

    @property
    def pays(self) -> Decimal | None:
        """What goes out, or with a sale what comes in: never negative but where fees eat it all."""
        return -self.cost if self.side == "sell" and self.cost is not None else self.cost

    @property
    def stale_at(self) -> datetime:
        return self.at + STALE_AFTER

    @property
    def would_be_sent(self) -> bool:
        return self.outcome == "ordered"


def sent_by(preview_id: UUID) -> UUID:
    """The command that sending this preview makes: the same however often and wherever it is pressed."""
    return derived_id(preview_id, "send")


def is_stale(row: CommandRow, now: datetime) -> bool:
    return row.settled_at is None or now - row.settled_at > STALE_AFTER


def read(row: CommandRow) -> Preview | None:
    """Of a settled preview; None when the engine gave none."""
    said = (row.result or {}).get("preview")
    if not isinstance(said, dict) or row.settled_at is None:
        return None
    margin = said.get("margin") or {}
    return Preview(
        id=row.id,
        at=row.settled_at,
        outcome=str(said.get("outcome", "")),
        reason=str(said.get("reason") or ""),
        side=str(said.get("side", "")),
        type=str(said.get("type", "")),
        quantity=decimal(said.get("quantity")),
        price=decimal(said.get("price")),
        value=decimal(said.get("value")),
        fee=decimal(said.get("fee")),
        fee_asset=str(said.get("fee_asset") or ""),
        cost=decimal(said.get("cost")),
        cash=_change(said, "cash"),
        position=_change(said, "position"),
        margin=_change(margin, "used") if margin.get("enabled") else None,
        free_margin=decimal(margin.get("free_after")),
        margin_level=decimal(margin.get("level_after")),
        rules=tuple(_rule(check) for check in said.get("checks") or ()),
        steps=tuple(said.get("steps") or ()),
        legs=tuple(said.get("legs") or ()),
        warnings=tuple(map(str, said.get("warnings") or ())),
    )


def _change(said: Mapping[str, Any], name: str) -> Change:
    return Change(decimal(said.get(f"{name}_before")), decimal(said.get(f"{name}_after")))


def _rule(check: Mapping[str, Any]) -> Rule:
    return Rule(
        name=str(check.get("rule", "")),
        allowed=bool(check.get("allowed")),
        value=decimal(check.get("value")),
        limit=decimal(check.get("limit")),
        unit=str(check.get("unit") or ""),
        text=str(check.get("text") or ""),
    )
