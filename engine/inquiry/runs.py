"""What a finished run left of one instrument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.bars import instant, nanoseconds
from engine.inquiry.again import Seen
from engine.inquiry.records import StrategyRecords, standing_of
from engine.why_facts import (
    PROTECTIVE,
    DecisionFacts,
    FillFacts,
    OrderFacts,
)
from shared.db.backtests import RunFillRow
from shared.db.market import InstrumentRow
from shared.db.run_decisions import decisions_of
from shared.domain.decided import DecidedRow, Kept


@dataclass(frozen=True)
class RunRecords:
    """What a run left of one instrument."""

    session: Session
    run_id: int
    instrument: InstrumentRow

    def decision(self, seen: Seen) -> DecisionFacts | None:
        rows = self._decided_at(seen.moment)
        found = StrategyRecords.pick([self._facts(row, seen.interval) for row in rows])
        if found is None:
            return None
        before = self.earlier(seen)
        previous = standing_of(None, before, self.held(seen.moment))
        return _previously(found, previous)

    def earlier(self, seen: Seen) -> DecisionFacts | None:
        row = self._decided_before(seen.moment)
        return None if row is None else self._facts(row, seen.interval)

    def held(self, moment: datetime) -> float:
        """Fills at the very moment are those of the open that follows it, so they do not count yet."""
        signed = sa.case(
            (RunFillRow.side == "buy", RunFillRow.quantity), else_=-RunFillRow.quantity
        )
        query = sa.select(sa.func.coalesce(sa.func.sum(signed), 0)).where(
            *self._fills_of, RunFillRow.filled_at < moment
        )
        held = float(self.session.scalar(query) or 0)
        return 0.0 if abs(held) < 1e-12 else held

    def fills(self, after: datetime, until: datetime) -> tuple[FillFacts, ...]:
        """Protective fills inside the bar: all others belong to a decision."""
        query = sa.select(RunFillRow).where(
            *self._fills_of,
            RunFillRow.filled_at >= after,
            RunFillRow.filled_at <= until,
            RunFillRow.leg.in_(PROTECTIVE),
        )
        rows = self.session.scalars(query.order_by(RunFillRow.number))
        return tuple(
            FillFacts(f.side, float(f.quantity), float(f.price), f.filled_at, f.leg) for f in rows
        )

    @property
    def _fills_of(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            RunFillRow.run_id == self.run_id,
            RunFillRow.instrument_id == self.instrument.id,
        )

    def _decided_at(self, moment: datetime) -> list[DecidedRow]:
        rows, at = self._decided()
        return [self._kept.row(int(row)) for row in rows[at == nanoseconds(moment)]]

    def _decided_before(self, moment: datetime) -> DecidedRow | None:
        rows, at = self._decided()
        before = rows[at < nanoseconds(moment)]
        return self._kept.row(int(before[-1])) if len(before) else None

    def _ordered_after(self, moment: datetime) -> datetime | None:
        """When the next decision that ordered something was made."""
        _, at = self._decided("ordered")
        later = at[at > nanoseconds(moment)]
        return instant(int(later[0])) if len(later) else None

    def _decided(self, outcome: str = "") -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
        """(which decisions were about this instrument, when each was made)."""
        rows = self._kept.rows_of(outcome=outcome, instrument_id=self.instrument.id)
        return rows, self._kept.columns["at"][rows]

    @cached_property
    def _kept(self) -> Kept:
        return decisions_of(self.session, self.run_id)

    def _facts(self, row: DecidedRow, interval: int) -> DecisionFacts:
        price = (row.bar or {}).get("close")
        return DecisionFacts(
            id=str(row.number),
            at=row.decided_at,
            kind=row.kind,
            outcome=row.outcome,
            target=row.target,
            previous=None,
            because=row.because,
            reason=row.reason,
            price=price,
            checks=tuple(row.checks),
            steps=tuple(row.steps),
            orders=tuple(self._orders(row, interval)) if row.outcome == "ordered" else (),
        )

    def _orders(self, row: DecidedRow, interval: int) -> Iterable[OrderFacts]:
        """A run keeps fills and no orders: those between this decision and the next are its."""
        following = self._ordered_after(row.decided_at)
        query = sa.select(RunFillRow).where(*self._fills_of, RunFillRow.filled_at >= row.decided_at)
        if following is not None:
            query = query.where(RunFillRow.filled_at < following)
        for fill in self.session.scalars(query.order_by(RunFillRow.number)):
            yield OrderFacts(
                id="",
                leg=fill.leg,
                side=fill.side,
                type="market" if fill.leg in ("entry", "exit") else fill.leg,
                state="filled",
                quantity=float(fill.quantity),
                filled=float(fill.quantity),
                average=float(fill.price),
                fees=float(fill.fee),
                ended_at=fill.filled_at,
            )


def _previously(decision: DecisionFacts, previous: float) -> DecisionFacts:
    return replace(decision, previous=previous)
