"""The run's curve and its candles with fills, as numbers for pictures and as tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from flask import Response, abort, request
from flask.typing import ResponseReturnValue

from shared.db.backtests import RunRow
from shared.db.market import BarRow
from webapp import auth, charts, run_columns, series
from webapp.db import db
from webapp.formats import seconds
from webapp.runs import reading
from webapp.runs.blueprint import a_run, bp
from webapp.runs.words import significant

CANDLES: Final = 1_200
MOST_MARKERS: Final = 3_000


@bp.get("/<int:run_id>/equity.json")
@auth.viewer
def equity(run_id: int) -> Response:
    """{"times" (seconds), "equity", "drawdown"[, "benchmark"]}: at most 2,000 points, highs and lows kept."""
    found = run_columns.curve(a_run(run_id)).thin()
    answer: dict[str, Any] = {
        "times": [round(t, 3) for t in found.times.tolist()],
        "equity": found.equity.tolist(),
        "drawdown": found.drawdown.tolist(),
    }
    if len(found.hold):
        answer["benchmark"] = found.hold.tolist()
    return charts.json_answer(answer)


# Candles ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Charted:
    """The candles of one traded input."""

    key: str
    stored: series.Stored
    interval: int


def charted(run: RunRow) -> list[Charted]:
    """Traded inputs whose series is still there, one an instrument."""
    found: dict[int, Charted] = {}
    for key, chosen in run.inputs.items():
        stored = series.stored(int(chosen["series_id"]))
        if stored is not None and chosen.get("trades", True):
            found.setdefault(stored.instrument.id, Charted(key, stored, int(chosen["interval"])))
    return list(found.values())


def chosen(pictures: list[Charted]) -> Charted | None:
    wanted = request.args.get("candles", "")
    return next((p for p in pictures if p.key == wanted), pictures[0] if pictures else None)


@bp.get("/<int:run_id>/candles/<key>.json")
@auth.viewer
def candles(run_id: int, key: str) -> ResponseReturnValue:
    """Candles of one input with the run's fills: the last ones of the run, or those of a place in time.

    `?before=`, `?after=` or `?around=` in seconds.
    """
    run = a_run(run_id)
    picture = next((p for p in charted(run) if p.key == key), None)
    if picture is None:
        abort(404)
    end = _end_of_window(run, picture)
    shown = charts.candles(picture.stored.row, picture.interval, end, limit=CANDLES)
    return charts.json_answer(
        {
            "candles": charts.candle_rows(shown),
            "markers": _markers(run, picture, shown),
            "lines": [],
            "decimals": charts.decimals(picture.stored.instrument, shown),
        }
    )


def _end_of_window(run: RunRow, picture: Charted) -> datetime:
    """Candles are read backwards from here."""
    asked = {name: request.args.get(name, type=seconds) for name in ("before", "after", "around")}
    if asked["before"] is not None:
        return run_columns.moment(asked["before"])
    if asked["after"] is not None:
        return _opened_after(picture, run_columns.moment(asked["after"]), CANDLES)
    if asked["around"] is not None:
        return _opened_after(picture, run_columns.moment(asked["around"]), CANDLES // 2)
    return run.ends_at


def _opened_after(picture: Charted, at: datetime, count: int) -> datetime:
    """Just after the opening of the `count`-th bar from `at` on, or of the last one there is."""
    row = picture.stored.row
    opened = (
        sa.select(BarRow.opened_at)
        .where(
            BarRow.instrument_id == row.instrument_id,
            BarRow.source == row.source,
            BarRow.interval == row.interval,
            BarRow.revision == 0,
            BarRow.opened_at > at,
        )
        .order_by(BarRow.opened_at)
        .limit(count * (picture.interval // row.interval))
        .subquery()
    )
    last = db.session.scalar(sa.select(sa.func.max(opened.c.opened_at)))
    return (last or row.last_closed_at or at) + timedelta(seconds=1)


def _markers(run: RunRow, picture: Charted, shown: list[charts.Candle]) -> list[dict[str, Any]]:
    """The run's fills inside the candles shown."""
    if not shown:
        return []
    found = reading.fills_between(
        run,
        picture.stored.instrument.id,
        shown[0].opened_at,
        shown[-1].opened_at + timedelta(seconds=picture.interval),
        MOST_MARKERS,
    )
    return [
        {
            "time": fill.filled_at.timestamp(),
            "side": fill.side,
            "leg": fill.leg,
            "quantity": significant(fill.quantity),
            "price": float(fill.price),
        }
        for fill in found
    ]
