"""The body of a "why" job: facts collected, the sentence found.

A job, because the strategy's own code runs here: never in the console, never in the engine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.books import as_instrument
from engine.history import series_bars
from engine.inquiry.again import Seen, Subject, drawn, signal_of, subject_of
from engine.inquiry.circumstances import life_then, machine_time, market_then, notes_on, states_then
from engine.inquiry.market import bar_at, inputs_at, live_bars, span
from engine.inquiry.records import StrategyRecords, standing_of
from engine.inquiry.runs import RunRecords
from engine.journal import plain
from engine.margin import Margin
from engine.risk.rules import BadPolicy, policy_from
from engine.sizing import BadSizing, Sizing
from engine.strategies.evaluation import BoundInput
from engine.why import explain
from engine.why_facts import (
    Facts,
    Why,
)
from engine.work import JobRefused, Work
from shared.db.backtests import RunRow
from shared.db.market import InstrumentRow
from shared.db.trading import (
    AccountRow,
    StrategyRow,
)
from shared.jobs import WhyRequest


def run(request: WhyRequest, work: Work) -> dict[str, Any]:
    """The body of a "why" job: the answer as JSON, with the sentence as its text."""
    work.progress(0.1, "reading the record")
    at = _instant(request)
    with work.sessions() as session:
        if request.run_id:
            found = of_run(session, request, at)
        else:
            found = of_strategy(session, request, at)
    answer = explain(found.facts)
    return {"text": answer.sentence, "why": as_json(answer, found)}


@dataclass(frozen=True, slots=True)
class Found:
    """Facts, and what the picture draws besides candles: {feature: [(opened at in s, value)]}."""

    facts: Facts
    drawn: dict[str, list[tuple[int, float | None]]]


def as_json(answer: Why, found: Found) -> dict[str, Any]:
    facts = found.facts
    told: dict[str, Any] = plain(
        {
            **asdict(answer),
            "moment": facts.moment.isoformat(),
            "interval": facts.interval,
            "bar_opened_at": facts.bar.opened_at.isoformat() if facts.bar.opened_at else None,
            "symbol": facts.symbol,
            "decision": facts.decision.link if facts.decision else "",
            "features": [{"name": name, "points": points} for name, points in found.drawn.items()],
        }
    )
    return told


def _instant(request: WhyRequest) -> datetime:
    try:
        at = datetime.fromisoformat(request.at)
        ZoneInfo(request.timezone)
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise JobRefused(
            f"at: {request.at!r} in {request.timezone!r} is no time: {error}"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# A strategy ------------------------------------------------------------------------------------


def of_strategy(session: Session, request: WhyRequest, at: datetime) -> Found:
    """Everything about a strategy of an account at one moment."""
    row = session.get(StrategyRow, request.strategy_id)
    instrument = session.get(InstrumentRow, request.instrument_id)
    if row is None or instrument is None:
        what = "strategy" if row is None else "instrument"
        asked = request.strategy_id if row is None else request.instrument_id
        raise JobRefused(f"{what}: there is no {what} {asked}")
    account = session.get_one(AccountRow, row.account_id)
    subject = _strategy_subject(session, row, account)
    bars = {b.key: live_bars(session, account, b, at, subject.rows) for b in subject.inputs}
    seen = Seen.at(subject, bars, at)
    own = StrategyRecords(session, row.id, instrument.id)
    decisions = own.decisions(seen.moment, at)
    machine = machine_time(session, account, seen.moment)
    held = own.held(seen.moment)
    decision, earlier = own.pick(decisions), own.earlier(seen.moment)
    standing = standing_of(decision, earlier, held)
    use = own.worth(row.allocation, seen.moment)
    margin = Margin.from_json(account.margin)
    signal = signal_of(subject, seen, as_instrument(instrument), held, standing, use, margin)
    facts = Facts(
        name=row.name,
        symbol=instrument.symbol,
        base=instrument.base_asset,
        quote=instrument.quote_asset,
        at=at,
        moment=seen.moment,
        interval=seen.interval,
        zone=request.timezone,
        trades=subject.symbols(trading=True),
        reads=subject.symbols(trading=False),
        lot=instrument.lot_size,
        held=held,
        bar=bar_at(session, seen, instrument, at),
        inputs=inputs_at(subject, seen),
        signal=signal,
        decision=decision,
        earlier=earlier,
        fills=() if decision else own.fills(seen.moment - span(seen.interval), at, seen.moment),
        states=states_then(session, account, row.id, instrument.id, machine),
        life=life_then(session, row, seen.moment, machine),
        market=market_then(session, account, seen.moment),
        notes=notes_on(row, decision),
    )
    return Found(facts, drawn(seen))


def _strategy_subject(session: Session, row: StrategyRow, account: AccountRow) -> Subject:
    symbols = {
        i.id: i.symbol
        for i in session.scalars(
            sa.select(InstrumentRow).where(
                InstrumentRow.id.in_([c["instrument_id"] for c in row.inputs.values()])
            )
        )
    }
    inputs = [
        BoundInput(key, c["instrument_id"], symbols[c["instrument_id"]], c["interval"], c["trades"])
        for key, c in row.inputs.items()
    ]
    try:
        window = policy_from(account.risk_policy).window()
        sizing = Sizing.from_json(row.sizing)
    except (BadPolicy, BadSizing):
        window, sizing = 0, Sizing()
    return subject_of(session, row.type, row.code_hash, row.parameters, inputs, sizing, window)


def of_run(session: Session, request: WhyRequest, at: datetime) -> Found:
    """Everything about a finished backtest at one moment."""
    row = session.get(RunRow, request.run_id)
    instrument = session.get(InstrumentRow, request.instrument_id)
    if row is None or instrument is None:
        what = "run" if row is None else "instrument"
        raise JobRefused(f"{what}: there is no such {what}")
    inputs = [
        BoundInput(key, c["instrument_id"], c["symbol"], c["interval"], c["trades"])
        for key, c in row.inputs.items()
    ]
    sizing = Sizing.from_json(row.options.get("sizing", {}))
    subject = subject_of(
        session, row.strategy_type, row.code_hash, row.parameters, inputs, sizing, 0
    )
    ends = row.options.get("ends_at") or ""
    until = datetime.fromisoformat(ends) if ends else None
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    bars = {
        b.key: series_bars(
            session, row.inputs[b.key]["series_id"], None, until, interval=b.interval
        )
        for b in inputs
    }
    seen = Seen.at(subject, bars, at)
    own = RunRecords(session, row.id, instrument)
    decision, earlier = own.decision(seen), own.earlier(seen)
    held = own.held(seen.moment)
    standing = standing_of(decision, earlier, held)
    facts = Facts(
        name=f"Run {row.id}",
        symbol=instrument.symbol,
        base=instrument.base_asset,
        quote=instrument.quote_asset,
        at=at,
        moment=seen.moment,
        interval=seen.interval,
        zone=request.timezone,
        is_run=True,
        trades=subject.symbols(trading=True),
        reads=subject.symbols(trading=False),
        lot=instrument.lot_size,
        held=held,
        bar=bar_at(session, seen, instrument, at),
        inputs=inputs_at(subject, seen),
        signal=signal_of(subject, seen, as_instrument(instrument), held, standing),
        decision=decision,
        earlier=earlier,
        fills=() if decision else own.fills(seen.moment - span(seen.interval), seen.moment),
        range=_traded_range(row),
    )
    return Found(facts, drawn(seen))


def _traded_range(row: RunRow) -> tuple[datetime | None, datetime | None]:
    began = row.starts_at if row.options.get("starts_at") else None
    return began, row.ends_at
