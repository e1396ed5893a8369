"""A backtest as a job: rows in, the core over stored bars, rows out, all of them or none."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine import catalogue, series_content
from engine.backtest import bars_policy, memory, provenance, storing
from engine.backtest.metrics import Curve, Metric, as_json, measure
from engine.backtest.report import report_parts
from engine.backtest.results import Simulated, Trades
from engine.backtest.simulation import simulate
from engine.backtest.specification import Specification, quote_asset
from engine.backtest.trades import round_trips
from engine.bar_hash import used_hash
from engine.bars import BadInterval, Bars, nanoseconds
from engine.books import as_instrument
from engine.costs import Costs
from engine.history import NoSuchSeries, series_bars
from engine.journal import plain
from engine.lookahead.gate import budget, examine
from engine.margin import Margin
from engine.matching import Intrabar, Matching
from engine.risk.rules import policy_from
from engine.sizing import Sizing
from engine.strategies.base import BadParameter
from engine.strategies.evaluation import BadSignal, BoundInput, traded_inputs
from engine.strategies.registry import NoSuchStrategy
from engine.work import JobRefused, Work
from shared.db.backtests import (
    RunRow,
)
from shared.db.market import InstrumentRow, SeriesRow
from shared.domain.instruments import Instrument
from shared.domain.market import interval_text
from shared.jobs import BacktestRequest


@dataclass(frozen=True, slots=True)
class Chosen:
    """Out of how many runs one was chosen, and the variance of their yearly Sharpe ratios where it is known."""

    trials: int = 1
    variance: float | None = None

    def __post_init__(self) -> None:
        if type(self.trials) is not int or self.trials < 1:
            raise ValueError(
                f"trials: {self.trials!r} must be a whole number from 1: this run is one"
            )
        known = self.variance
        if known is not None and not (isinstance(known, int | float) and 0 <= known < math.inf):
            raise ValueError(f"trials_variance: {known!r} must be a number from 0; leave it out")


ONE_TRIAL: Final = Chosen()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with everything looked up and checked."""

    specification: Specification
    inputs: dict[str, Any]
    code_hash: str
    simulated: bool
    data: bars_policy.Looked
    """What is wrong with the bars. To look takes its time."""
    chosen: Chosen


def run(request: BacktestRequest, work: Work) -> dict[str, Any]:
    """The body of a backtest job; {"run_id", "link", "text"}."""
    with memory.no_search_for_garbage(), ThreadPoolExecutor(1) as aside:
        return _run(request, work, aside)


def _run(request: BacktestRequest, work: Work, aside: Executor) -> dict[str, Any]:
    started = time.monotonic()
    tree = aside.submit(provenance.work_tree)  # git answers meanwhile
    origin = provenance.origin()  # before the run: the files may change while it goes on
    work.progress(0.0, "reading bars")
    with work.sessions() as session:
        series_content.one_moment(session)  # bars and their hash belong together
        asked = look_up(session, request)
    bars = sum(len(b) for b in asked.specification.bars.values())

    def progress(fraction: float) -> None:
        work.progress(0.9 * fraction, f"{fraction * bars:,.0f} of {bars:,} bars")

    provenance.start_chance(request.seed)
    try:
        simulated = simulate(asked.specification, progress=progress)
    except BadSignal as error:
        raise JobRefused(f"{request.strategy_type}: {error}") from error
    # Not before: it would take turns with the core, which leaves Python's lock to nobody.
    data = aside.submit(asked.data)
    result = conclude(asked.specification, simulated, asked.chosen)
    elapsed = time.monotonic() - started
    gate = _examined(request, asked, simulated, elapsed, work)
    work.progress(0.95, "storing")
    with work.sessions() as session:
        work.hold(session)
        row = _run_row(request, asked, data.result(), simulated, result, bars, elapsed, work)
        row.gate = gate
        replace(origin, tree=tree.result()).record(session, row, request)
        session.add(row)
        session.flush()
        _store(session, row.id, asked, simulated, result)
        answer = {"run_id": row.id, "link": f"/research/runs/{row.id}", "text": _summary(result)}
        work.finish(session, answer)
        session.commit()
    return answer


def _examined(
    request: BacktestRequest, asked: Asked, simulated: Simulated, elapsed: float, work: Work
) -> dict[str, Any] | None:
    """What the look-ahead gate finds; None if it was not to look."""
    if not request.gate:
        return None
    work.progress(0.92, "looking whether it looks ahead")
    verdict = examine(asked.specification, decided_at(simulated), budget(elapsed), simulated.fills)
    return verdict.as_json()


def decided_at(simulated: Simulated) -> npt.NDArray[np.int64]:
    """When each decision was made, in nanoseconds."""
    if simulated.told:
        return np.array([nanoseconds(d.decided_at) for d in simulated.told], dtype=np.int64)
    return np.ascontiguousarray(simulated.decisions["at"])


# Looking up ------------------------------------------------------------------------------------


def look_up(session: Session, request: BacktestRequest) -> Asked:
    """Rows and classes for a request; JobRefused names what cannot be, and what to give instead."""
    connection = session.connection()
    starts_at, ends_at = _range(request)
    try:
        code_hash = request.code_hash or catalogue.newest_hash(connection, request.strategy_type)
        cls = catalogue.strategy_class(connection, request.strategy_type, code_hash)
        costs = Costs.from_json(request.costs)
        sizing = Sizing.from_json(request.sizing)
        policy = policy_from(request.risk_policy)
        matching = Matching.from_json(request.matching)
        margin = Margin.from_json(request.margin)
        chosen = Chosen(request.trials, request.trials_variance)
    except (NoSuchStrategy, ValueError) as error:
        raise JobRefused(str(error)) from error
    declared = cls.series()
    if set(request.inputs) != set(declared):
        raise JobRefused(f"inputs: give one series for each of {', '.join(declared)}")
    found = {
        key: _input(session, key, request.inputs[key], ends_at, trades=declared[key].trades)
        for key in declared
    }
    instruments = {f.instrument.id: f.instrument for f in found.values()}
    quotes = {f.instrument.quote_asset for f in found.values() if f.bound.trades}
    if len(quotes) != 1:
        raise JobRefused(
            f"inputs: traded instruments must share a quote asset, not {sorted(quotes)}"
        )
    specification = Specification(
        strategy=cls,
        inputs=tuple(f.bound for f in found.values()),
        bars={key: f.bars for key, f in found.items()},
        instruments=instruments,
        parameters=request.parameters,
        capital=_capital(request.capital),
        costs=costs,
        sizing=sizing,
        policy=policy,
        matching=matching,
        margin=margin,
        finer=_finer(session, found.values(), matching, ends_at),
        admits=bars_policy.admits(session, request.universe_id),
        starts_at=starts_at,
    )
    try:
        cls(request.parameters, {})
    except BadParameter as error:
        raise JobRefused(str(error)) from error
    _check_range(specification)
    return Asked(
        specification,
        {key: f.row for key, f in found.items()},
        code_hash,
        any(f.simulated for f in found.values()),
        bars_policy.looked_over(session, request, map(_used, found.values()), starts_at),
        chosen,
    )


def _used(found: _Found) -> bars_policy.Used:
    instrument = found.instrument
    source = str(found.row["source"])
    return found.bound.key, found.bars, source, instrument.calendar, instrument.tick_size


@dataclass(frozen=True, slots=True)
class _Found:
    bound: BoundInput
    instrument: Instrument
    bars: Bars
    row: dict[str, Any]
    simulated: bool


def _input(
    session: Session, key: str, given: Mapping[str, Any], ends_at: datetime | None, *, trades: bool
) -> _Found:
    series = session.get(SeriesRow, given.get("series_id"))
    if series is None:
        raise JobRefused(
            f"{key}: there is no series {given.get('series_id')!r}; choose one under Data"
        )
    instrument = as_instrument(session.get_one(InstrumentRow, series.instrument_id))
    try:
        bars = series_bars(session, series.id, None, ends_at, interval=_interval(key, given))
    except (NoSuchSeries, BadInterval) as error:
        raise JobRefused(f"{key}: {error}") from error
    bound = BoundInput(key, instrument.id, instrument.symbol, bars.interval, trades)
    row = {
        "series_id": series.id,
        "instrument_id": instrument.id,
        "symbol": instrument.symbol,
        "source": series.source,
        "interval": bars.interval,
        "trades": trades,
        "data_hash": series_content.content_hash(session, series.id),
        "content": str(series.content),
        "appended": series.appended,
        "used_hash": used_hash(bars),
    }
    return _Found(bound, instrument, bars, row, series.simulated)


def _interval(key: str, given: Mapping[str, Any]) -> int:
    """The seconds of longer bars that are asked for; 0 for the stored ones."""
    interval = given.get("interval") or 0
    if not isinstance(interval, int) or interval < 0:
        raise JobRefused(f"{key}: interval {interval!r} is no number of seconds; leave it out")
    return interval


def _finer(
    session: Session, found: Iterable[_Found], matching: Matching, ends_at: datetime | None
) -> tuple[Bars, ...]:
    """The finest stored bars of each traded instrument, for runs in which a lower interval decides."""
    if matching.intrabar is not Intrabar.LOWER_INTERVAL:
        return ()
    finer = []
    for one in found:
        if not one.bound.trades:
            continue
        query = (
            sa.select(SeriesRow.id)
            .where(
                SeriesRow.instrument_id == one.instrument.id,
                SeriesRow.interval < one.bound.interval,
                SeriesRow.bars > 0,
            )
            .order_by(SeriesRow.interval, SeriesRow.source)
        )
        series_id = session.scalars(query).first()
        if series_id is None:
            raise JobRefused(
                f"intrabar: there are no bars of {one.instrument.symbol} below"
                f" {interval_text(one.bound.interval)}; import them, or choose another rule"
            )
        finer.append(series_bars(session, series_id, None, ends_at))
    return tuple(finer)


def _range(request: BacktestRequest) -> tuple[datetime | None, datetime | None]:
    ends = []
    for name in ("starts_at", "ends_at"):
        text = getattr(request, name)
        try:
            at = datetime.fromisoformat(text) if text else None
        except ValueError:
            raise JobRefused(f"{name}: {text!r} is no date; write 2024-01-31") from None
        ends.append(at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at)
    if ends[0] and ends[1] and ends[0] >= ends[1]:
        raise JobRefused(f"starts_at: {request.starts_at} must be before ends_at {request.ends_at}")
    return ends[0], ends[1]


def _check_range(specification: Specification) -> None:
    clock = next(bound.key for bound in specification.inputs if bound.trades)
    bars = specification.bars[clock]
    traded = (
        bars if specification.starts_at is None else bars.between(specification.starts_at, None)
    )
    if len(traded) < 2:
        raise JobRefused(
            f"{clock}: there are {len(traded)} bars in that range; at least 2 are needed"
        )
    _check_finest(specification, int(traded.opened_at[0]), int(traded.closed_at[-1]))


def _check_finest(specification: Specification, start: int, end: int) -> None:
    """Fills come from an instrument's finest bars: they must be there for the whole of the run."""
    for bound in specification.inputs:
        bars = specification.bars[bound.key]
        coarser = any(
            other.instrument_id == bound.instrument_id and other.interval > bound.interval
            for other in specification.inputs
        )
        if coarser and (not len(bars) or bars.opened_at[0] > start or bars.closed_at[-1] < end):
            raise JobRefused(
                f"{bound.key}: {bound.symbol} at {interval_text(bound.interval)} does not cover the whole "
                "range, and fills are taken from it; shorten the range or leave the finer input out"
            )
    for finer in specification.finer:
        if finer.opened_at[0] > start or finer.closed_at[-1] < end:
            raise JobRefused(
                f"intrabar: the bars at {interval_text(finer.interval)} do not cover the whole range; "
                "shorten it, or choose another rule"
            )


def _capital(text: str) -> float:
    try:
        capital = Decimal(text.replace(" ", "").replace(",", ""))
    except (InvalidOperation, AttributeError):
        raise JobRefused(f"capital: {text!r} is not an amount") from None
    if not capital.is_finite() or not 0 < capital <= Decimal(10) ** 12:
        raise JobRefused(f"capital: {text!r} must be above 0 and at most 1,000,000,000,000")
    return float(capital)


# What came of it -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """A run's numbers: what its page shows."""

    trades: Trades
    metrics: tuple[Metric, ...]
    curve: Curve
    calendar: str
    held: list[Bars]
    """The bars of what was traded, as far as the run goes."""

    @property
    def digest(self) -> str:
        """SHA-256 of trades and metric values: equal digests are equal runs."""
        values = [[metric.name, metric.value] for metric in self.metrics]
        content = [list(self.trades.rows()), self.trades.tags, values]
        return hashlib.sha256(orjson.dumps(content)).hexdigest()


def conclude(
    specification: Specification, simulated: Simulated, chosen: Chosen = ONE_TRIAL
) -> Result:
    """Trades and metrics."""
    traded = [bound for bound in specification.inputs if bound.trades]
    bars = {bound.instrument_id: specification.bars[bound.key] for bound in reversed(traded)}
    trades = round_trips(simulated.fills, bars)
    curve = Curve(
        started_at=began(specification, bars[traded[0].instrument_id]),
        capital=specification.capital,
        times=simulated.times,
        equity=simulated.equity,
        exposure=simulated.exposure,
    )
    held = [
        b if specification.starts_at is None else b.between(specification.starts_at, None)
        for b in bars.values()
    ]
    calendar = specification.instruments[traded[0].instrument_id].calendar
    metrics = measure(
        curve,
        trades,
        fills=simulated.fills,
        paid=simulated.paid,
        counts=simulated.counts,
        calendar=calendar,
        hold=held,
        trials=chosen.trials,
        trials_variance=chosen.variance,
    )
    return Result(trades, metrics, curve, calendar, held)


def began(specification: Specification, bars: Bars) -> int:
    if specification.starts_at is not None:
        return int(specification.starts_at.timestamp()) * 1_000_000_000
    return int(bars.opened_at[0])


def _summary(result: Result) -> str:
    values = {metric.name: metric.value for metric in result.metrics}
    total = values["total_return"]
    gained = "return unknown" if total is None else f"{total:+.2%}"
    return f"{gained}, {len(result.trades)} trades"


# Storing ---------------------------------------------------------------------------------------


def _run_row(
    request: BacktestRequest,
    asked: Asked,
    data: dict[str, Any],
    simulated: Simulated,
    result: Result,
    bars: int,
    elapsed: float,
    work: Work,
) -> RunRow:
    specification = asked.specification
    clock = next(bound.key for bound in specification.inputs if bound.trades)
    closing = specification.bars[clock]
    first = specification.starts_at or closing.bar(0).opened_at
    return RunRow(
        job_id=work.job_id,
        strategy_type=request.strategy_type,
        code_hash=asked.code_hash,
        parameters=specification.strategy.checked(request.parameters),
        inputs=asked.inputs,
        options={
            "capital": request.capital,
            "quote_asset": quote_asset(specification),
            "costs": asdict(specification.costs),
            "sizing": request.sizing or {"method": "fraction", "fraction": 1.0},
            "risk_policy": specification.policy.as_json(),
            "matching": specification.matching.as_json(),
            "margin": specification.margin.as_json(),
            "starts_at": request.starts_at,
            "ends_at": request.ends_at,
            "data": data,
            "universe_id": request.universe_id,
            "ambiguous_bars": simulated.counts.ambiguous_bars,
            "why_core": simulated.why,
        },
        starts_at=first,
        ends_at=closing.bar(len(closing) - 1).closed_at,
        bars=bars,
        engine=simulated.engine,
        elapsed_seconds=elapsed,
        metrics=plain(as_json(result.metrics)),
        digest=result.digest,
        simulated=asked.simulated,
        requested_by=work.actor,
    )


def _store(
    session: Session, run_id: int, asked: Asked, simulated: Simulated, result: Result
) -> None:
    """What is stored next is put into words while PostgreSQL takes what was stored before."""
    specification = asked.specification
    traded = [bound.instrument_id for bound in traded_inputs(specification.inputs)]
    with ThreadPoolExecutor(1) as aside:
        fills = aside.submit(storing.fill_lines, run_id, simulated.fills)
        trades = aside.submit(storing.trade_lines, run_id, result.trades)
        decisions = aside.submit(storing.decisions, simulated, traded)
        ledger = aside.submit(storing.ledger, simulated)
        columns = {
            "equity": simulated.equity.astype("<f8"),
            "exposure": simulated.exposure.astype("<f8"),
            "close": _closes(specification, simulated.times),
        }
        storing.keep(session, run_id, storing.times(simulated.times) | storing.columns(columns))
        storing.copy_fills(session, fills.result())
        storing.copy_trades(session, trades.result())
        parts = report_parts(
            result.curve,
            result.trades,
            calendar=result.calendar,
            hold=result.held,
            symbols={number: one.symbol for number, one in specification.instruments.items()},
        )
        storing.keep(session, run_id, parts | decisions.result() | ledger.result())


def _closes(specification: Specification, times: Any) -> Any:
    """The clock's close as it was known at each moment."""
    bars = specification.bars[next(b.key for b in specification.inputs if b.trades)]
    if np.array_equal(times, bars.closed_at):
        return bars.close.astype("<f8")
    rows = np.searchsorted(bars.closed_at, times, side="right") - 1
    return np.where(rows >= 0, bars.close[np.maximum(rows, 0)], np.nan).astype("<f8")
