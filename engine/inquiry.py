"""The facts behind "why did it (not) trade?": rows where there are rows, the strategy again where there are none.

A job's body, because the strategy's own code runs here: never in the console, never in the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine import catalogue
from engine.bars import SECOND, Bars, instant, nanoseconds
from engine.core import FAILURES
from engine.history import series_bars
from engine.journal import plain
from engine.narrator import stopped_at_error
from engine.risk.rules import BadPolicy, policy_from
from engine.sizing import BadSizing, Sizing
from engine.strategies.base import BaseStrategy, Input
from engine.strategies.evaluation import BoundInput, Evaluation, needed_rows
from engine.strategies.registry import NoSuchStrategy
from engine.why import explain
from engine.why_facts import (
    DAY,
    PROTECTIVE,
    BarFacts,
    DecisionFacts,
    Facts,
    FeatureFacts,
    FillFacts,
    InputFacts,
    LifeFacts,
    MarketFacts,
    OrderFacts,
    SignalFacts,
    StateFacts,
    Why,
)
from engine.work import JobRefused, Work
from shared.db.backtests import RunDecisionRow, RunFillRow, RunRow
from shared.db.console import CommandRow
from shared.db.market import BarRow, InstrumentRow, SeriesRow
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    EngineLeaseRow,
    EquitySnapshotRow,
    EventRow,
    FillRow,
    OrderIntentRow,
    OrderRow,
    StrategyRow,
    TradingStateRow,
)
from shared.domain.market import interval_text
from shared.domain.sessions import trading_spans
from shared.jobs import WhyRequest

DONE: Final = ("filled", "cancelled", "expired", "rejected")
PICTURED: Final = 90
"""Bars before the moment of which features are told, for the picture."""


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
    bars = {b.key: _live_bars(session, account, b, at, subject.rows) for b in subject.inputs}
    seen = _Seen.at(subject, bars, at)
    own = _Own(session, row.id, instrument.id)
    decisions = own.decisions(seen.moment, at)
    machine = machine_time(session, account, seen.moment)
    held = own.held(seen.moment)
    decision, earlier = own.pick(decisions), own.earlier(seen.moment)
    standing = _standing(decision, earlier, held)
    use = own.worth(row.allocation, seen.moment)
    signal = _signal(subject, seen, instrument.id, held, standing, use)
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
        bar=_bar(session, seen, instrument, at),
        inputs=_inputs(subject, seen),
        signal=signal,
        decision=decision,
        earlier=earlier,
        fills=() if decision else own.fills(seen.moment - _span(seen.interval), at, seen.moment),
        states=_states(session, account, row.id, instrument.id, machine),
        life=_life(session, row, seen.moment, machine),
        market=_market(session, account, seen.moment),
        notes=_notes(row, decision),
    )
    return Found(facts, _drawn(seen))


def _strategy_subject(session: Session, row: StrategyRow, account: AccountRow) -> _Subject:
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
    return _subject(session, row.type, row.code_hash, row.parameters, inputs, sizing, window)


# What is evaluated again -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Subject:
    """A strategy of the catalogue with its parameters; without one, `error` says why."""

    inputs: tuple[BoundInput, ...]
    sizing: Sizing
    rows: int
    needed: int
    strategy: BaseStrategy | None = None
    error: str = ""

    @property
    def clock(self) -> BoundInput:
        return next(bound for bound in self.inputs if bound.trades)

    def symbols(self, *, trading: bool) -> tuple[str, ...]:
        found = [b.symbol for b in self.inputs if b.trades is trading or not trading]
        return tuple(dict.fromkeys(found))


def _subject(
    session: Session,
    type_: str,
    code_hash: str,
    parameters: Mapping[str, Any],
    inputs: Sequence[BoundInput],
    sizing: Sizing,
    window: int,
) -> _Subject:
    named = {b.key: Input(b.symbol, interval_text(b.interval), b.trades) for b in inputs}
    try:
        cls = catalogue.strategy_class(session.connection(), type_, code_hash)
        strategy = cls(parameters, named)
        needed = strategy.memory()
        rows = needed_rows(strategy, window, sizing.window + 1)
    except NoSuchStrategy as error:
        return _Subject(tuple(inputs), sizing, 300, 0, error=str(error))
    except FAILURES as error:
        return _Subject(tuple(inputs), sizing, 300, 0, error=stopped_at_error(error))
    return _Subject(tuple(inputs), sizing, rows, needed, strategy)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The bars up to the asked time, the clock's moment in them, and the strategy over them."""

    bars: Mapping[str, Bars]
    clock: BoundInput
    moment: datetime
    row: int
    evaluation: Evaluation | None = None
    error: str = ""

    @property
    def interval(self) -> int:
        return self.clock.interval

    @property
    def has_bar(self) -> bool:
        return self.row >= 0

    @classmethod
    def at(cls, subject: _Subject, bars: Mapping[str, Bars], at: datetime) -> _Seen:
        """The clock's newest bar that closed at or before `at`, if it is no older than one interval."""
        clock = subject.clock
        closed = bars[clock.key].closed_at
        row = int(np.searchsorted(closed, nanoseconds(at), side="right")) - 1
        if row < 0 or nanoseconds(at) - int(closed[row]) >= clock.interval * SECOND:
            return cls(bars, clock, _on_grid(at, clock.interval), -1)
        moment = instant(int(closed[row]))
        if subject.strategy is None:
            return cls(bars, clock, moment, row, error=subject.error)
        try:
            evaluation = Evaluation(subject.strategy, subject.inputs, bars)
        except FAILURES as error:
            return cls(bars, clock, moment, row, error=stopped_at_error(error))
        return cls(bars, clock, moment, row, evaluation)


def _on_grid(at: datetime, interval: int) -> datetime:
    """The last multiple of the interval since 1970: when a bar would close. Days keep their time."""
    if interval >= DAY:
        return at
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % interval, UTC)


def _signal(
    subject: _Subject,
    seen: _Seen,
    instrument_id: int,
    held: float,
    standing: float,
    worth: float | None,
) -> SignalFacts | None:
    """What the strategy says at the moment and said at the one before."""
    if not seen.has_bar:
        return None
    had = seen.row + 1
    evaluation = seen.evaluation
    if evaluation is None:
        error = seen.error or subject.error
        return SignalFacts(needed=subject.needed, had=had, standing=standing, error=error)
    place = [b.instrument_id for b in evaluation.traded]
    if instrument_id not in place:
        return None
    bound = evaluation.traded[place.index(instrument_id)]
    try:
        now, before, because = _said(evaluation, bound, seen.row, held)
    except FAILURES as error:
        text = stopped_at_error(error)
        return SignalFacts(needed=subject.needed, had=had, standing=standing, error=text)
    bar = evaluation.bar_of(bound, seen.row)
    exposure = held * bar.close / worth if bar is not None and worth else None
    return SignalFacts(
        target=now,
        before=before,
        standing=standing,
        because=because,
        needed=subject.needed,
        had=had,
        features=tuple(_features(evaluation, seen.row)),
        caveat=_caveat(evaluation),
        exposure=exposure,
        wanted=now * subject.sizing.fraction if not math.isnan(now) else None,
        band=subject.sizing.band,
    )


def _said(
    evaluation: Evaluation, bound: BoundInput, row: int, held: float
) -> tuple[float, float, str]:
    """(target now, target the moment before, its reason)."""

    def holdings() -> tuple[dict[str, float], dict[str, float]]:
        return {bound.symbol: held}, {}

    strategy = evaluation.strategy
    if strategy.is_array():
        column = [b.instrument_id for b in evaluation.traded].index(bound.instrument_id)
        targets = evaluation.targets[column]
        now, before = targets[row], targets[row - 1] if row else math.nan
    else:
        now = _scalar(evaluation, bound, row, holdings)
        before = _scalar(evaluation, bound, row - 1, holdings) if row else math.nan
    because = str(strategy.because(evaluation.moment(row, holdings)) or "")
    return now, before, because


def _scalar(evaluation: Evaluation, bound: BoundInput, row: int, holdings: Any) -> float:
    kept = dict(evaluation.strategy.state)
    said = evaluation.scalar_signals(row, holdings)
    evaluation.strategy.state = kept
    found = next((signal.target for signal in said if signal.instrument == bound.symbol), None)
    return math.nan if found is None else float(found)


def _caveat(evaluation: Evaluation) -> str:
    if evaluation.strategy.is_array():
        return ""
    return (
        "In scalar form with nothing in its own state: what it remembered at that moment is not stored, "
        "so a strategy that keeps state may have said something else."
    )


def _features(evaluation: Evaluation, row: int) -> Iterator[FeatureFacts]:
    for name, column in evaluation.columns.items():
        before = float(column[row - 1]) if row else math.nan
        yield FeatureFacts(name, float(column[row]), before)


def _drawn(seen: _Seen) -> dict[str, list[tuple[int, float | None]]]:
    """Features that are prices, as lines: those that stay within the bars' own range, a little beyond."""
    evaluation = seen.evaluation
    if evaluation is None or not seen.has_bar:
        return {}
    bars = seen.bars[seen.clock.key]
    rows = slice(max(0, seen.row + 1 - PICTURED), min(len(bars), seen.row + 1 + PICTURED // 2))
    low, high = float(bars.low[rows].min()), float(bars.high[rows].max())
    room = high - low
    opened = (bars.opened_at[rows] // SECOND).tolist()
    found = {}
    for name, column in evaluation.columns.items():
        values = column[rows]
        known = values[~np.isnan(values)]
        if len(known) and low - room <= known.min() and known.max() <= high + room and room > 0:
            found[name] = [
                (second, None if math.isnan(value) else value)
                for second, value in zip(opened, values.tolist(), strict=True)
            ]
    return found


# Bars ------------------------------------------------------------------------------------------


def _live_bars(
    session: Session, account: AccountRow, bound: BoundInput, at: datetime, rows: int
) -> Bars:
    """As many stored bars of an input as the engine reads, up to a time; of a finer series where need be."""
    for series in _series(session, account, bound):
        count = rows * (bound.interval // series.interval)
        bars = series_bars(session, series.id, _start(session, series, at, count), at)
        if series.interval != bound.interval:
            bars = gathered(bars, bound.interval)
        if len(bars):
            return bars[-rows:]
    return Bars.empty(bound.instrument_id, bound.interval)


def _series(session: Session, account: AccountRow, bound: BoundInput) -> list[SeriesRow]:
    """Series an input can be read from: its own interval's, the fullest first, then finer ones."""
    query = sa.select(SeriesRow).where(
        SeriesRow.instrument_id == bound.instrument_id,
        SeriesRow.bars > 0,
        SeriesRow.interval <= bound.interval,
        sa.literal(bound.interval) % SeriesRow.interval == 0,
    )
    if account.clock == "replay":
        playing = account.feed.get("series_ids", [])
        query = query.where(SeriesRow.id.in_(playing), SeriesRow.interval == bound.interval)
    found = list(session.scalars(query))
    span = {
        s.id: (s.last_closed_at - s.first_opened_at)
        for s in found
        if s.last_closed_at and s.first_opened_at
    }
    none = timedelta(0)
    # A series of the very interval is kept only while a strategy reads it: the finer one may reach further.
    return sorted(found, key=lambda s: (-span.get(s.id, none), -s.interval))


def _start(session: Session, series: SeriesRow, at: datetime, count: int) -> datetime | None:
    """Where the newest `count` stored bars up to a time begin."""
    newest = (
        sa.select(BarRow.opened_at)
        .where(
            BarRow.instrument_id == series.instrument_id,
            BarRow.source == series.source,
            BarRow.interval == series.interval,
            BarRow.closed_at <= at,
            BarRow.opened_at < at,
        )
        .order_by(BarRow.opened_at.desc())
        .limit(count)
        .subquery()
    )
    found: datetime | None = session.scalar(sa.select(sa.func.min(newest.c.opened_at)))
    return found


def gathered(bars: Bars, interval: int) -> Bars:
    """Bars of a longer interval on the grid since 1970, as the engine builds them; whole ones only."""
    if not len(bars):
        return Bars.empty(bars.instrument_id, interval)
    step = interval * SECOND
    opened = bars.opened_at // step * step
    first = np.flatnonzero(np.concatenate(([True], opened[1:] != opened[:-1])))
    last = np.concatenate((first[1:], [len(opened)])) - 1
    made = Bars(
        bars.instrument_id,
        interval,
        opened[first],
        opened[first] + step,
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        np.add.reduceat(bars.volume, first),
        np.logical_and.reduceat(bars.filled, first),
    )
    whole = bars.closed_at[-1] >= made.closed_at[-1]
    return made if whole else made[:-1]


def _bar(session: Session, seen: _Seen, instrument: InstrumentRow, at: datetime) -> BarFacts:
    """The instrument's own bar at the moment, or why there is none."""
    key = next(
        (k for k, b in seen.bars.items() if b.instrument_id == instrument.id), seen.clock.key
    )
    bars = seen.bars[key]
    if seen.has_bar:
        row = int(np.searchsorted(bars.closed_at, nanoseconds(seen.moment), side="right")) - 1
        if row >= 0:
            return _bar_facts(bars, row, instrument.calendar)
    calendar = instrument.calendar
    if not _was_open(calendar, seen.moment, seen.interval):
        return BarFacts("closed", calendar=calendar)
    first, last = _reach(session, bars)
    if first is None or last is None:
        return BarFacts("none", calendar=calendar)
    if at < first + _span(seen.interval):
        return BarFacts("before", hole=(first, last), calendar=calendar)
    following = _next_opened(session, bars, at)
    if following is None:
        return BarFacts("after", hole=(first, last), calendar=calendar)
    begins = instant(int(bars.closed_at[-1])) if len(bars) else first
    return BarFacts("gap", hole=(begins, following), calendar=calendar)


def _bar_facts(bars: Bars, row: int, calendar: str) -> BarFacts:
    bar = bars.bar(row)
    return BarFacts(
        "quiet" if bar.filled else "found",
        bar.opened_at,
        bar.closed_at,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        calendar=calendar,
    )


def _was_open(calendar: str, moment: datetime, interval: int) -> bool:
    """Whether the bar that would close at the moment lies inside trading."""
    day = moment.astimezone(UTC).date()
    if interval >= DAY:
        return bool(trading_spans(calendar, day))
    opened = moment - _span(interval)
    days = {day, opened.astimezone(UTC).date()}
    spans = [span for each in days for span in trading_spans(calendar, each)]
    return any(starts <= opened < ends or starts < moment <= ends for starts, ends in spans)


def _reach(session: Session, bars: Bars) -> tuple[datetime | None, datetime | None]:
    query = sa.select(
        sa.func.min(SeriesRow.first_opened_at), sa.func.max(SeriesRow.last_closed_at)
    ).where(
        SeriesRow.instrument_id == bars.instrument_id,
        SeriesRow.bars > 0,
        SeriesRow.interval <= bars.interval,
    )
    first, last = session.execute(query).one()
    return first, last


def _next_opened(session: Session, bars: Bars, at: datetime) -> datetime | None:
    query = sa.select(sa.func.min(BarRow.opened_at)).where(
        BarRow.instrument_id == bars.instrument_id,
        BarRow.interval <= bars.interval,
        BarRow.opened_at >= at,
    )
    found: datetime | None = session.scalar(query)
    return found


def _inputs(subject: _Subject, seen: _Seen) -> tuple[InputFacts, ...]:
    return tuple(_input(bound, seen) for bound in subject.inputs)


def _input(bound: BoundInput, seen: _Seen) -> InputFacts:
    bars = seen.bars[bound.key]
    row = int(np.searchsorted(bars.closed_at, nanoseconds(seen.moment), side="right"))
    closed = instant(int(bars.closed_at[row - 1])) if row else None
    return InputFacts(bound.key, bound.symbol, bound.interval, bound.trades, closed, row)


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


# Rows of a strategy ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Own:
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
            quantity=_float(order.quantity),
            value=_float(intent.value),
            limit=_float(order.limit_price),
            stop=_float(order.stop_price),
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
        return _float(low), _float(high)


def _standing(decision: DecisionFacts | None, earlier: DecisionFacts | None, held: float) -> float:
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


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


# The market, the machine, and the strategy's life ----------------------------------------------------


def machine_time(session: Session, account: AccountRow, moment: datetime) -> datetime:
    """When this machine heard of a market moment: when the first equity at or after it was recorded."""
    if account.clock == "real":
        return moment
    query = sa.select(EquitySnapshotRow.recorded_at).where(
        EquitySnapshotRow.account_id == account.id, EquitySnapshotRow.at >= moment
    )
    found = session.scalars(query.order_by(EquitySnapshotRow.at).limit(1)).first()
    return found or datetime.now(UTC)


def market_time(session: Session, account: AccountRow, machine: datetime) -> datetime | None:
    """What the market's clock said at a machine time; None while nothing was recorded."""
    if account.clock == "real":
        return machine
    query = sa.select(EquitySnapshotRow.at).where(
        EquitySnapshotRow.account_id == account.id, EquitySnapshotRow.recorded_at <= machine
    )
    return session.scalars(query.order_by(EquitySnapshotRow.at.desc()).limit(1)).first()


def _states(
    session: Session, account: AccountRow, strategy_id: int, instrument_id: int, machine: datetime
) -> tuple[StateFacts, ...]:
    """Requests about trading in force at a machine time, for what this strategy does."""
    lift = sa.orm.aliased(TradingStateRow)
    query = sa.select(TradingStateRow).where(
        TradingStateRow.state != "running",
        TradingStateRow.created_at <= machine,
        sa.or_(TradingStateRow.expires_at.is_(None), TradingStateRow.expires_at > machine),
        ~sa.exists().where(lift.lifts == TradingStateRow.id, lift.created_at <= machine),
    )
    scopes = (
        ("account", str(account.id)),
        ("venue", account.venue),
        ("strategy", str(strategy_id)),
        ("instrument", str(instrument_id)),
    )
    rows = list(session.scalars(query.order_by(TradingStateRow.id)))
    wanted = {("all", ""), *scopes}
    return tuple(
        StateFacts(
            row.scope,
            row.scope_id,
            row.state,
            row.actor,
            row.reason,
            market_time(session, account, row.created_at),
            row.expires_at,
        )
        for row in rows
        if (row.scope, row.scope_id) in wanted
    )


def _life(session: Session, row: StrategyRow, moment: datetime, machine: datetime) -> LifeFacts:
    """Whether the strategy was at work at the moment."""
    now = row.status if row.deleted_at is None else "deleted"
    base = LifeFacts(now=now, version=row.version)
    decided_later = row.last_moment_at is not None and row.last_moment_at >= moment
    asked = _last_command(session, row, machine)
    if asked is not None and asked.kind == "StopStrategy":
        return _with(base, "stopped", asked.settled_at, asked.actor)
    if asked is None and machine < row.created_at and not decided_later:
        return _with(base, "not_created", row.created_at, row.created_by)
    if decided_later:
        return base
    if row.status in ("failed", "quarantined"):
        return _with(base, row.status, _failed_at(session, row), "", row.status_text)
    if row.status == "stopped":
        if row.last_moment_at is None and row.started_at is None:
            return _with(base, "not_started", None, "")
        last = _last_command(session, row, None, "StopStrategy")
        return _with(base, "stopped", last.settled_at if last else None, last.actor if last else "")
    if row.started_at is not None and row.started_at > machine:
        first = _last_command(session, row, None, "StartStrategy")
        return _with(base, "not_started", row.started_at, first.actor if first else row.created_by)
    return base


def _with(
    base: LifeFacts, status: str, since: datetime | None, by: str, text: str = ""
) -> LifeFacts:
    return LifeFacts(status, since, by, text, base.now, base.version)


def _last_command(
    session: Session, row: StrategyRow, machine: datetime | None, *kinds: str
) -> CommandRow | None:
    """The newest start or stop of the strategy that was carried out (by a time)."""
    query = sa.select(CommandRow).where(
        CommandRow.kind.in_(kinds or ("StartStrategy", "StopStrategy")),
        CommandRow.state == "done",
        CommandRow.arguments["strategy_id"].astext == str(row.id),
    )
    if machine is not None:
        query = query.where(CommandRow.settled_at <= machine)
    return session.scalars(query.order_by(CommandRow.settled_at.desc()).limit(1)).one_or_none()


def _failed_at(session: Session, row: StrategyRow) -> datetime | None:
    query = sa.select(EventRow.happened_at).where(
        EventRow.kind == "strategy.failed", EventRow.link == f"/strategies/{row.id}"
    )
    return session.scalars(query.order_by(EventRow.id.desc()).limit(1)).first()


def _market(session: Session, account: AccountRow, moment: datetime) -> MarketFacts:
    """How far the account's market was heard, and what holds it up where it was not heard so far."""
    heard = account.market_time
    now = datetime.now(UTC) if account.clock == "real" else heard
    if account.clock == "replay" and account.feed.get("state") != "playing":
        return MarketFacts(str(account.feed.get("state", "waiting")), heard, None, now)
    lease = session.execute(
        sa.select(
            EngineLeaseRow.expires_at, EngineLeaseRow.expires_at < sa.func.clock_timestamp()
        ).where(EngineLeaseRow.engine_group == account.engine_group)
    ).one_or_none()
    if lease is None or lease[1]:
        since = market_time(session, account, lease[0]) if lease else None
        return MarketFacts("away", heard, since, now)
    is_behind = heard is not None and now is not None and heard < moment <= now
    return MarketFacts("behind" if is_behind else "live", heard, None, now)


def _notes(row: StrategyRow, decision: DecisionFacts | None) -> tuple[str, ...]:
    if decision is not None or row.version == 1:
        return ()
    return (
        f"It is version {row.version} now; what is computed again uses the code and settings of today.",
    )


# A run -----------------------------------------------------------------------------------------


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
    subject = _subject(session, row.strategy_type, row.code_hash, row.parameters, inputs, sizing, 0)
    ends = row.options.get("ends_at") or ""
    until = datetime.fromisoformat(ends) if ends else None
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    bars = {
        b.key: series_bars(session, row.inputs[b.key]["series_id"], None, until) for b in inputs
    }
    seen = _Seen.at(subject, bars, at)
    own = _OwnRun(session, row.id, instrument)
    decision, earlier = own.decision(seen), own.earlier(seen)
    held = own.held(seen.moment)
    standing = _standing(decision, earlier, held)
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
        bar=_bar(session, seen, instrument, at),
        inputs=_inputs(subject, seen),
        signal=_signal(subject, seen, instrument.id, held, standing, None),
        decision=decision,
        earlier=earlier,
        fills=() if decision else own.fills(seen.moment - _span(seen.interval), seen.moment),
        range=_traded_range(row),
    )
    return Found(facts, _drawn(seen))


def _traded_range(row: RunRow) -> tuple[datetime | None, datetime | None]:
    began = row.starts_at if row.options.get("starts_at") else None
    return began, row.ends_at


@dataclass(frozen=True, slots=True)
class _OwnRun:
    """What a run left of one instrument."""

    session: Session
    run_id: int
    instrument: InstrumentRow

    def decision(self, seen: _Seen) -> DecisionFacts | None:
        query = self._decisions().where(RunDecisionRow.decided_at == seen.moment)
        rows = list(self.session.scalars(query.order_by(RunDecisionRow.number)))
        found = _Own.pick([self._facts(row, seen.interval) for row in rows])
        if found is None:
            return None
        before = self.earlier(seen)
        previous = _standing(None, before, self.held(seen.moment))
        return _previously(found, previous)

    def earlier(self, seen: _Seen) -> DecisionFacts | None:
        query = self._decisions().where(RunDecisionRow.decided_at < seen.moment)
        row = self.session.scalars(query.order_by(RunDecisionRow.number.desc()).limit(1)).first()
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

    def _decisions(self) -> sa.Select[RunDecisionRow]:
        return sa.select(RunDecisionRow).where(
            RunDecisionRow.run_id == self.run_id,
            RunDecisionRow.instrument_id == self.instrument.id,
        )

    def _facts(self, row: RunDecisionRow, interval: int) -> DecisionFacts:
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

    def _orders(self, row: RunDecisionRow, interval: int) -> Iterable[OrderFacts]:
        """A run keeps fills and no orders: those between this decision and the next are its."""
        following = self.session.scalar(
            sa.select(sa.func.min(RunDecisionRow.decided_at)).where(
                RunDecisionRow.run_id == self.run_id,
                RunDecisionRow.instrument_id == self.instrument.id,
                RunDecisionRow.outcome == "ordered",
                RunDecisionRow.decided_at > row.decided_at,
            )
        )
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
