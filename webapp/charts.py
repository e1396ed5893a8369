"""Numbers for pictures: equity over time, candles with their trades. As JSON, and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.dialects.postgresql import distinct_on

from shared.db.market import BarRow, InstrumentRow, SeriesRow
from shared.db.trading import (
    AccountRow,
    EquitySnapshotRow,
    FillRow,
    OrderIntentRow,
    OrderRow,
)
from webapp import accounts, auth
from webapp.db import db
from webapp.formats import seconds
from webapp.partials import partial

bp = Blueprint("charts", __name__, url_prefix="/charts")

POINTS: Final = 1_200
"""As many as a wide screen can show; more are thinned by time."""

RANGES: Final[dict[str, timedelta | None]] = {
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
    "1m": timedelta(days=31),
    "all": None,
}
CANDLES: Final = 600
EPOCH: Final = datetime(2000, 1, 3, tzinfo=UTC)
"""A Monday: buckets of whole weeks start where weeks do."""

INTERVALS: Final = (60, 300, 900, 3_600, 14_400, 86_400, 604_800)


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """Equity at one time, and how far it stood below the highest before, as a fraction <= 0."""

    at: datetime
    equity: float
    drawdown: float


def equity_points(account: AccountRow, span: timedelta | None) -> list[EquityPoint]:
    """The last `span` of market time, at most `POINTS` of it. Times without known equity are left out."""
    times = sa.select(sa.func.min(EquitySnapshotRow.at), sa.func.max(EquitySnapshotRow.at)).where(
        EquitySnapshotRow.account_id == account.id
    )
    first, last = db.session.execute(times).one()
    if first is None:
        return []
    start = first if span is None else max(first, last - span)
    step = max(timedelta(seconds=1), (last - start) / POINTS)
    bucket = sa.func.date_bin(step, EquitySnapshotRow.at, EPOCH).label("bucket")
    inside = (
        sa.select(bucket, EquitySnapshotRow.at, EquitySnapshotRow.equity)
        .where(
            EquitySnapshotRow.account_id == account.id,
            EquitySnapshotRow.at >= start,
            EquitySnapshotRow.equity.is_not(None),
        )
        .subquery()
    )
    query = (
        sa.select(
            sa.func.max(inside.c.at),
            sa.func.array_agg(sa.text("equity ORDER BY at DESC"))[1],
            sa.func.max(inside.c.equity),
            sa.func.min(inside.c.equity),
        )
        .group_by(inside.c.bucket)
        .order_by(inside.c.bucket)
    )
    return _with_drawdown(db.session.execute(query).all())


def _with_drawdown(buckets: Sequence[Any]) -> list[EquityPoint]:
    """Against the highest equity of the buckets before, to the picture's own resolution."""
    points = []
    peak = Decimal(0)
    for at, last, high, low in buckets:
        depth = min(Decimal(0), low / peak - 1) if peak else Decimal(0)
        peak = max(peak, high)
        points.append(EquityPoint(at, float(last), float(depth)))
    return points


def thinned(values: Sequence[float], most: int = 60) -> list[float]:
    """Evenly chosen values for a sparkline, the last one always among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(i * step)] for i in range(most)]


@bp.get("/equity.json")
@auth.viewer
def equity() -> Response:
    """{"times": [...], "equity": [...], "drawdown": [...]} of the account looked at; times in seconds."""
    points = _asked_equity()
    return json_answer(
        {
            "times": [round(p.at.timestamp(), 3) for p in points],
            "equity": [p.equity for p in points],
            "drawdown": [p.drawdown for p in points],
        }
    )


@bp.get("/equity/table")
@auth.viewer
def equity_table() -> Response:
    """The same numbers, newest first."""
    points = _asked_equity()[::-1][:500]
    return partial(render_template("charts/_equity_table.html", points=points))


def _asked_equity() -> list[EquityPoint]:
    account = accounts.chosen()
    span = request.args.get("range", "1d")
    if account is None:
        return []
    if span not in RANGES:
        abort(400, f"range {span!r}: use one of {', '.join(RANGES)}")
    return equity_points(account, RANGES[span])


@dataclass(frozen=True, slots=True)
class Candle:
    """OHLCV of [opened_at, opened_at + interval)."""

    opened_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def best_series(instrument_id: int, interval: int) -> SeriesRow | None:
    """The series to draw `interval` from: the same interval, else the coarsest that fits into it."""
    query = (
        sa.select(SeriesRow)
        .where(
            SeriesRow.instrument_id == instrument_id,
            SeriesRow.bars > 0,
            SeriesRow.interval <= interval,
            sa.literal(interval) % SeriesRow.interval == 0,
        )
        .order_by(SeriesRow.interval.desc(), SeriesRow.last_closed_at.desc())
        .limit(1)
    )
    return db.session.scalar(query)


def intervals_of(instrument_id: int) -> list[int]:
    """Intervals that can be drawn: those stored, and the usual ones above the finest."""
    query = sa.select(SeriesRow.interval).where(
        SeriesRow.instrument_id == instrument_id, SeriesRow.bars > 0
    )
    stored = sorted(set(db.session.scalars(query)))
    usual = {i for i in INTERVALS if any(i % have == 0 for have in stored)}
    return sorted({*stored, *usual})


def candles(
    series: SeriesRow, interval: int, before: datetime | None = None, limit: int = CANDLES
) -> list[Candle]:
    """The last `limit` candles that opened before a time, oldest first, from the newest revisions."""
    end = before or (series.last_closed_at or datetime.now(UTC)) + timedelta(seconds=1)
    start = _start_of(series, interval, end, limit)
    if start is None:
        return []
    newest = (
        sa.select(BarRow)
        .where(
            BarRow.instrument_id == series.instrument_id,
            BarRow.source == series.source,
            BarRow.interval == series.interval,
            BarRow.opened_at >= start,
            BarRow.opened_at < end,
        )
        .ext(distinct_on(BarRow.opened_at))
        .order_by(BarRow.opened_at, BarRow.revision.desc())
        .subquery()
    )
    if series.interval == interval:
        rows = db.session.execute(
            sa.select(
                newest.c.opened_at, newest.c.open, newest.c.high, newest.c.low, newest.c.close,
                newest.c.volume,
            ).order_by(newest.c.opened_at)
        ).all()  # fmt: skip
    else:
        bucket = sa.func.date_bin(timedelta(seconds=interval), newest.c.opened_at, EPOCH)
        rows = db.session.execute(
            sa.select(
                bucket,
                sa.func.array_agg(sa.text("open ORDER BY opened_at"))[1],
                sa.func.max(newest.c.high),
                sa.func.min(newest.c.low),
                sa.func.array_agg(sa.text("close ORDER BY opened_at DESC"))[1],
                sa.func.sum(newest.c.volume),
            )
            .select_from(newest)
            .group_by(bucket)
            .order_by(bucket)
        ).all()
    return [Candle(*row) for row in rows][-limit:]


def _start_of(series: SeriesRow, interval: int, end: datetime, limit: int) -> datetime | None:
    """Where `limit` candles before `end` begin, found in the stored bars, so that gaps cost nothing."""
    wanted = limit * (interval // series.interval)
    opened = (
        sa.select(BarRow.opened_at)
        .where(
            BarRow.instrument_id == series.instrument_id,
            BarRow.source == series.source,
            BarRow.interval == series.interval,
            BarRow.opened_at < end,
        )
        .order_by(BarRow.opened_at.desc())
        .limit(wanted)
        .subquery()
    )
    first: datetime | None = db.session.scalar(sa.select(sa.func.min(opened.c.opened_at)))
    if first is None or series.interval == interval:
        return first
    into = (first - EPOCH) % timedelta(seconds=interval)
    return first if not into else first - into + timedelta(seconds=interval)


@bp.get("/candles/<int:instrument_id>.json")
@auth.viewer
def candles_json(instrument_id: int) -> ResponseReturnValue:
    """{"candles": [[t, o, h, l, c, v]], "markers": [...], "lines": [...], ...}.

    `?interval=` seconds, `?before=` seconds for older ones, `?strategy=` to mark only its trades,
    `?account=` to mark another account's than the one looked at.
    """
    instrument = db.session.get(InstrumentRow, instrument_id)
    if instrument is None:
        abort(404)
    shown = _asked_candles(instrument)
    asked = request.args.get("account", type=int)
    account = next((a for a in accounts.accounts() if a.id == asked), None) or accounts.chosen()
    strategy_id = request.args.get("strategy", type=int)
    return json_answer(
        {
            "candles": [
                [
                    int(c.opened_at.timestamp()),
                    *map(float, (c.open, c.high, c.low, c.close, c.volume)),
                ]
                for c in shown
            ],
            "markers": _markers(instrument, account, strategy_id, shown),
            "lines": _lines(instrument, account, strategy_id),
            "decimals": decimals(instrument, shown),
        }
    )


@bp.get("/candles/<int:instrument_id>/table")
@auth.viewer
def candles_table(instrument_id: int) -> Response:
    """The newest candles as rows."""
    instrument = db.session.get(InstrumentRow, instrument_id)
    if instrument is None:
        abort(404)
    shown = _asked_candles(instrument)[::-1][:300]
    return partial(
        render_template("charts/_candles_table.html", candles=shown, instrument=instrument)
    )


def _asked_candles(instrument: InstrumentRow) -> list[Candle]:
    interval = request.args.get("interval", 60, type=int)
    before = request.args.get("before", type=seconds)
    if interval < 1:
        abort(400, "interval: seconds, 1 or more")
    series = best_series(instrument.id, interval)
    if series is None:
        return []
    return candles(series, interval, datetime.fromtimestamp(before, UTC) if before else None)


def _markers(
    instrument: InstrumentRow,
    account: AccountRow | None,
    strategy_id: int | None,
    shown: list[Candle],
) -> list[dict[str, Any]]:
    """Own fills inside the candles shown."""
    if account is None or not shown:
        return []
    query = sa.select(FillRow).where(
        FillRow.account_id == account.id,
        FillRow.instrument_id == instrument.id,
        FillRow.filled_at >= shown[0].opened_at,
    )
    if strategy_id is not None:
        query = query.where(FillRow.strategy_id == strategy_id)
    fills = db.session.scalars(query.order_by(FillRow.filled_at.desc()).limit(400))
    return [
        {
            "time": fill.filled_at.timestamp(),
            "side": fill.side,
            "quantity": f"{fill.quantity.normalize():f}",
            "price": float(fill.price),
        }
        for fill in reversed(list(fills))
    ]


def _lines(
    instrument: InstrumentRow, account: AccountRow | None, strategy_id: int | None
) -> list[dict[str, Any]]:
    """Working orders with a price, and what was paid for what is held."""
    if account is None:
        return []
    query = (
        sa.select(OrderRow, OrderIntentRow)
        .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
        .where(
            OrderRow.account_id == account.id,
            OrderRow.instrument_id == instrument.id,
            OrderRow.state.not_in(accounts.DONE_STATES),
        )
        .order_by(OrderRow.client_order_id)
    )
    if strategy_id is not None:
        query = query.where(OrderRow.strategy_id == strategy_id)
    lines = [_line(order, intent) for order, intent in db.session.execute(query)]
    held = [
        {"price": float(holding.average), "kind": "position", "text": "average"}
        for holding in accounts.holdings(account.id, strategy_id)
        if holding.instrument.id == instrument.id
    ]
    return [*(line for line in lines if line), *held]


def _line(order: OrderRow, intent: OrderIntentRow) -> dict[str, Any] | None:
    """Where a working order waits. `kind` is stop, target or order; None when it has no price yet."""
    level = order.stop_price if order.stop_price is not None else order.limit_price
    if level is None:
        return None
    if intent.leg in ("stop_loss", "trailing_stop"):
        kind, text = "stop", intent.leg.replace("_", " ")
    elif intent.leg == "take_profit":
        kind, text = "target", "target"
    else:
        kind, text = "order", f"{intent.side} {intent.type.replace('_', ' ')}"
    waits = " (waits)" if order.state == "held" else ""
    return {"price": float(level), "kind": kind, "text": text + waits}


def candle_rows(shown: list[Candle]) -> list[list[float]]:
    """[opened at (seconds), open, high, low, close, volume] of each, as the picture takes them."""
    return [
        [int(c.opened_at.timestamp()), *map(float, (c.open, c.high, c.low, c.close, c.volume))]
        for c in shown
    ]


def decimals(instrument: InstrumentRow, shown: list[Candle]) -> int:
    """Those of the tick; without one, as many as the last closes have, from 2 to 8."""
    steps = [instrument.tick_size] if instrument.tick_size else [c.close for c in shown[-100:]]
    exponents = [step.normalize().as_tuple().exponent for step in steps]
    found = max((-e for e in exponents if isinstance(e, int)), default=2)
    return max(0, found) if instrument.tick_size else min(max(2, found), 8)


def sparks(instrument_ids: list[int], count: int = 60) -> dict[int, list[float]]:
    """The last closes of each instrument's finest series, oldest first."""
    found: dict[int, list[float]] = {}
    for instrument_id in instrument_ids:
        series = finest_series(instrument_id)
        if series is not None:
            found[instrument_id] = [
                float(c.close) for c in candles(series, series.interval, limit=count)
            ]
    return found


def finest_series(instrument_id: int) -> SeriesRow | None:
    """The series with the shortest interval that has bars, the freshest first."""
    return db.session.scalar(
        sa.select(SeriesRow)
        .where(SeriesRow.instrument_id == instrument_id, SeriesRow.bars > 0)
        .order_by(SeriesRow.interval, SeriesRow.last_closed_at.desc())
        .limit(1)
    )


def json_answer(what: dict[str, Any]) -> Response:
    response = jsonify(what)
    response.headers["Cache-Control"] = "no-store"
    return response
