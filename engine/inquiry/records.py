"""What an account's rows say of a strategy in one instrument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.why_facts import (
    PROTECTIVE,
    DecisionFacts,
    FillFacts,
    OrderFacts,
)
from shared.db.console import CommandRow
from shared.db.market import BarRow
from shared.db.trading import (
    DecisionRow,
    FillRow,
    OrderIntentRow,
    OrderRow,
)

DONE: Final = ("filled", "cancelled", "expired", "rejected")


@dataclass(frozen=True, slots=True)
class StrategyRecords:
    """What the engine wrote for one strategy in one instrument."""

    session: Session
    strategy_id: int
    instrument_id: int

    def decisions(self, moment: datetime, at: datetime) -> list[DecisionFacts]:
        """Those of the moment, and any until the time asked about."""
        query = self._mine(DecisionRow).where(
            DecisionRow.decided_at >= moment, DecisionRow.decided_at <= max(at, moment)
        )
        rows = self.session.scalars(query.order_by(DecisionRow.decided_at, DecisionRow.recorded_at))
        return [self._decision(row) for row in rows]

    @staticmethod
    def pick(decisions: Sequence[DecisionFacts]) -> DecisionFacts | None:
        """The one that says most: what traded, what was ordered, else the strategy's own signal."""
        ordered = [d for d in decisions if d.outcome == "ordered"]
        ordered.sort(key=lambda d: any(o.filled and o.leg not in PROTECTIVE for o in d.orders))
        signals = [d for d in decisions if d.kind == "signal"]
        found = ordered or signals or list(decisions)
        return found[-1] if found else None

    def earlier(self, moment: datetime) -> DecisionFacts | None:
        query = self._mine(DecisionRow).where(DecisionRow.decided_at < moment)
        newest = query.order_by(DecisionRow.decided_at.desc(), DecisionRow.recorded_at.desc())
        row = self.session.scalars(newest.limit(1)).one_or_none()
        return None if row is None else self._decision(row, until=moment)

    def held(self, moment: datetime) -> float:
        """Signed base units after every fill up to the moment."""
        signed = sa.case((FillRow.side == "buy", FillRow.quantity), else_=-FillRow.quantity)
        query = sa.select(sa.func.coalesce(sa.func.sum(signed), 0)).where(
            *self._fills_of, FillRow.filled_at <= moment
        )
        return float(self.session.scalar(query) or 0)

    def worth(self, allocation: Decimal, moment: datetime) -> float:
        """The allocation with what the strategy has realised by then: what a full target is a part of."""
        query = sa.select(sa.func.coalesce(sa.func.sum(FillRow.realised - FillRow.fee), 0)).where(
            FillRow.strategy_id == self.strategy_id, FillRow.filled_at <= moment
        )
        return float(allocation) + float(self.session.scalar(query) or 0)

    def fills(self, after: datetime, at: datetime, moment: datetime) -> tuple[FillFacts, ...]:
        """Fills inside the bar, and on to the time asked about."""
        query = (
            sa.select(FillRow, OrderIntentRow.leg)
            .join(OrderIntentRow, OrderIntentRow.client_order_id == FillRow.client_order_id)
            .where(*self._fills_of, FillRow.filled_at > after, FillRow.filled_at <= max(at, moment))
            .order_by(FillRow.filled_at, FillRow.id)
        )
        return tuple(
            FillFacts(
                fill.side,
                float(fill.quantity),
                float(fill.price),
                fill.filled_at,
                leg,
                f"/books/orders/{fill.client_order_id}",
            )
            for fill, leg in self.session.execute(query)
        )

    @property
    def _fills_of(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            FillRow.strategy_id == self.strategy_id,
            FillRow.instrument_id == self.instrument_id,
        )

    def _mine(self, model: type[DecisionRow]) -> sa.Select[DecisionRow]:
        return sa.select(model).where(
            model.strategy_id == self.strategy_id, model.instrument_id == self.instrument_id
        )

    def _decision(self, row: DecisionRow, until: datetime | None = None) -> DecisionFacts:
        query = (
            sa.select(OrderIntentRow, OrderRow)
            .join(OrderRow, OrderRow.client_order_id == OrderIntentRow.client_order_id)
            .where(OrderIntentRow.decision_id == row.id)
            .order_by(OrderIntentRow.parent_id.is_not(None), OrderIntentRow.leg.desc())
        )
        orders = [self._order(i, o, until) for i, o in self.session.execute(query)]
        return DecisionFacts(
            id=str(row.id),
            at=row.decided_at,
            kind=row.kind,
            outcome=row.outcome,
            target=row.target,
            previous=row.previous,
            because=row.because,
            reason=row.reason,
            price=None if row.price is None else float(row.price),
            checks=tuple(row.checks),
            steps=tuple(row.steps),
            orders=tuple(orders),
            link=f"/decisions/{row.id}",
        )

    def _order(self, intent: OrderIntentRow, order: OrderRow, until: datetime | None) -> OrderFacts:
        """How it stands now, or (`until`) how it stood at a moment as far as its end tells."""
        is_over = order.state in DONE
        ended = order.updated_at if is_over else None
        then_open = until is not None and ended is not None and ended > until
        filled = float(order.filled_quantity)
        low, high = self._extremes(order.decided_at, ended) if not filled else (None, None)
        return OrderFacts(
            id=str(order.client_order_id),
            leg=intent.leg,
            side=intent.side,
            type=intent.type,
            state="working" if then_open else order.state,
            quantity=as_float(order.quantity),
            value=as_float(intent.value),
            limit=as_float(order.limit_price),
            stop=as_float(order.stop_price),
            filled=0.0 if then_open else filled,
            average=float(order.filled_value) / filled if filled else None,
            fees=float(order.fees),
            reason=order.reason,
            ended_at=ended,
            ended_by=self._cancelled_by(order),
            lowest=low,
            highest=high,
        )

    def _cancelled_by(self, order: OrderRow) -> str:
        """Who asked for its cancel, when a person did."""
        if order.state != "cancelled":
            return ""
        asked = sa.select(CommandRow.actor).where(
            CommandRow.kind == "CancelOrder",
            CommandRow.arguments["order_id"].astext == str(order.client_order_id),
        )
        return (
            self.session.scalars(asked.order_by(CommandRow.created_at.desc()).limit(1)).first()
            or ""
        )

    def _extremes(
        self, since: datetime, until: datetime | None
    ) -> tuple[float | None, float | None]:
        """The market's lowest and highest price between an order's decision and its end."""
        query = sa.select(sa.func.min(BarRow.low), sa.func.max(BarRow.high)).where(
            BarRow.instrument_id == self.instrument_id, BarRow.opened_at >= since
        )
        if until is not None:
            query = query.where(BarRow.closed_at <= until)
        low, high = self.session.execute(query).one()
        return as_float(low), as_float(high)


def standing_of(
    decision: DecisionFacts | None, earlier: DecisionFacts | None, held: float
) -> float:
    """What the strategy stood for before the moment: as recorded with a decision, else from the one before."""
    if decision is not None and decision.previous is not None:
        return decision.previous
    if earlier is None:
        return 0.0
    mains = [o for o in earlier.orders if o.leg not in PROTECTIVE]
    works = any(o.state not in DONE for o in mains)
    if held == 0 and not works:
        return 0.0
    if earlier.outcome == "ordered" and (works or any(o.filled for o in mains)):
        return earlier.target or 0.0
    met = earlier.outcome == "nothing" and earlier.reason == "what is held is what is wanted"
    return (earlier.target if met else earlier.previous) or 0.0


def as_float(value: Any) -> float | None:
    return None if value is None else float(value)
