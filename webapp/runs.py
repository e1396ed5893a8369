"""The page of one run: its numbers with how they came about, its curve, its trades on the chart, its decisions."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, render_template, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue

from shared.db.backtests import RunDecisionRow, RunFillRow, RunRow, RunTradeRow
from shared.db.market import BarRow, InstrumentRow
from shared.db.trading import StrategyTypeRow
from shared.domain.market import interval_text
from shared.jobs import FINDINGS
from webapp import accounts, auth, charts, fields, risk_policy, run_columns, series
from webapp.db import db
from webapp.formats import (
    MINUS,
    NOTHING,
    direction,
    duration,
    instant,
    money,
    percent,
    plural,
    quantity,
    seconds,
    signed,
    signed_percent,
)
from webapp.paging import Slice, sliced
from webapp.partials import partial

bp = Blueprint("runs", __name__, url_prefix="/research/runs")

ROWS: Final = 25
CANDLES: Final = 1_200
MOST_MARKERS: Final = 3_000
OUTCOMES: Final = {"ordered": "good", "denied": "warning", "refused": "bad", "nothing": ""}
TABS: Final = ("trades", "decisions", "fills")
ORDERS: Final = {
    "": "Newest",
    "best": "Best",
    "worst": "Worst",
}


@bp.get("/<int:run_id>")
@auth.viewer
def page(run_id: int) -> str:
    run = _run(run_id)
    found = run_columns.curve(run)
    type_ = db.session.get(StrategyTypeRow, run.strategy_type)
    pictures = _pictures(run)
    return render_template(
        "research/run.html",
        run=run,
        type=type_,
        title=type_.title if type_ else run.strategy_type.replace("_", " ").capitalize(),
        is_newest_code=type_ is not None and type_.code_hash == run.code_hash,
        tiles=tiles(run),
        metrics=run.metrics,
        years=run_columns.years(found),
        bins=run_columns.return_bins(run.id),
        has_hold=bool(len(found.hold)),
        pictures=pictures,
        shown=_shown_picture(pictures),
        rules=risk_policy.rules_of(run.options.get("risk_policy") or {}),
        sizing=sizing_text(run.options.get("sizing") or {}, _asset(run)),
        currency=_asset(run),
        splits=_splits(run, pictures),
        data_found=_data_found(run),
        speed=run.bars / run.elapsed_seconds if run.elapsed_seconds > 0 else None,
        at=request.args.get("at", type=seconds),
        **table(run),
    )


def _data_found(run: RunRow) -> str:
    """2 gaps, 1 outlier: what was found in the bars before the run, "" for nothing."""
    totals: dict[str, int] = {}
    for one in ((run.options.get("data") or {}).get("inputs") or {}).values():
        for kind in FINDINGS:
            totals[kind] = totals.get(kind, 0) + one["counts"].get(kind, 0)
    names = {"splits": "likely split"}
    return ", ".join(
        plural(count, names.get(kind, kind.removesuffix("s")))
        for kind, count in totals.items()
        if count
    )


def _splits(run: RunRow, pictures: list[Picture]) -> list[tuple[str, series.Split]]:
    """Jumps of raw prices that look like splits, by symbol: the run traded them as they stand."""
    return [
        (picture.stored.instrument.symbol, split)
        for picture in pictures
        for split in series.likely_splits(picture.stored, run.starts_at, run.ends_at)
    ]


def sizing_text(sizing: Mapping[str, Any], asset: str) -> str:
    """Share of its free cash, costs included: 100 %."""
    method = str(sizing.get("method", "fraction"))
    said = fields.shown_sizing(sizing).entered
    unit = {"fraction": " %", "cash": " %", "value": f" {asset}", "volatility": " % a year"}.get(
        method, ""
    )
    name = (
        "annual_volatility"
        if method == "volatility"
        else "fraction"
        if method == "cash"
        else method
    )
    band = f", band {said['sizing.band']} %" if said["sizing.band"] else ""
    return f"{dict(fields.METHODS).get(method, method)}: {said[f'sizing.{name}']}{unit}{band}"


# --- the numbers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    """One number with what stands behind it. `note` is the line below it."""

    name: str
    title: str
    text: str
    note: str
    tone: str
    metric: Mapping[str, Any]


TITLES: Final = {
    "total_return": "Total return",
    "cagr": "CAGR",
    "sharpe": "Sharpe",
    "max_drawdown": "Max drawdown",
    "volatility": "Volatility",
    "buy_and_hold": "Buy and hold",
    "win_rate": "Win rate",
    "profit_factor": "Profit factor",
    "trades": "Trades",
    "average_trade": "Average trade",
    "exposure": "Exposure",
    "fees": "Fees",
    "calmar": "Calmar",
    "max_drawdown_value": "Max drawdown, money",
    "best_trade": "Best trade",
    "worst_trade": "Worst trade",
    "time_in_market": "Time in market",
    "final_equity": "Final equity",
}
"""In the order of the page; the first twelve are its tiles."""

_SIGNED: Final = (
    "total_return",
    "cagr",
    "buy_and_hold",
    "average_trade",
    "best_trade",
    "worst_trade",
)
_FALLS: Final = ("max_drawdown", "max_drawdown_value", "fees")
_TONED: Final = ("total_return", "cagr", "average_trade", "best_trade", "worst_trade")


def tiles(run: RunRow) -> list[Tile]:
    """Every number of the run that has a title, in the order of the page."""
    return [_tile(run, name) for name in TITLES if name in run.metrics]


def _tile(run: RunRow, name: str) -> Tile:
    metric = run.metrics[name]
    value = metric.get("value")
    if value is None:
        return Tile(name, TITLES[name], NOTHING, str(metric.get("reason", "")), "muted", metric)
    tone = "loss" if name in ("max_drawdown", "max_drawdown_value") and value else ""
    if name in _TONED:
        tone = direction(value)
    note = _NOTES.get(name, _inputs)(run, metric)
    return Tile(name, TITLES[name], metric_text(name, metric), note, tone, metric)


def metric_text(name: str, metric: Mapping[str, Any]) -> str:
    """The value as a person reads it; falls carry a minus."""
    value = metric.get("value")
    if value is None:
        return NOTHING
    unit = metric.get("unit", "")
    if name in _SIGNED:
        return signed_percent(value) if unit == "%" else signed(value)
    text = _shown(value, unit)
    return f"{MINUS}{text}" if name in _FALLS and value > 0 else text


def _shown(value: float, unit: str) -> str:
    if unit == "%":
        return percent(value)
    return money(value) if unit in ("currency", "ratio") else quantity(value)


def _inputs(run: RunRow, metric: Mapping[str, Any]) -> str:
    return f"from {quantity(metric.get('n', 0))}"


def _days(run: RunRow, metric: Mapping[str, Any]) -> str:
    return plural(int(metric.get("n", 0)), "day")


def _ended_with(run: RunRow, metric: Mapping[str, Any]) -> str:
    final = (run.metrics.get("final_equity") or {}).get("value")
    return f"{money(final)} {_asset(run)}"


def _sharpe_note(run: RunRow, metric: Mapping[str, Any]) -> str:
    error = (metric.get("details") or {}).get("standard_error")
    within = f"± {money(error)} · " if error is not None else ""
    return f"{within}N {quantity(metric.get('n', 0))}"


def _fell(run: RunRow, metric: Mapping[str, Any]) -> str:
    details = metric.get("details") or {}
    peak, low = instant(details.get("peak_at")), instant(details.get("lowest_at"))
    if peak is None or low is None:
        return "equity never fell"
    back = instant(details.get("recovered_at"))
    after = f", back after {duration(back - low)}" if back else ", not back since"
    return f"in {duration(low - peak)}{after}"


def _won(run: RunRow, metric: Mapping[str, Any]) -> str:
    closed = int(metric.get("n", 0))
    return f"{quantity(round(float(metric['value']) * closed))} of {quantity(closed)} closed"


def _closed_and_open(run: RunRow, metric: Mapping[str, Any]) -> str:
    details = metric.get("details") or {}
    still = int(details.get("open", 0))
    each = _per_trade(run)
    return f"{quantity(details.get('closed', 0))} closed{f', {still} open' if still else ''}{each}"


def _per_trade(run: RunRow) -> str:
    trades = float((run.metrics.get("trades") or {}).get("value") or 0)
    years = (run.ends_at - run.starts_at) / timedelta(days=365.25)
    return f" · {trades / years:.1f} a year" if trades and years > 0.5 else ""


def _best_and_worst(run: RunRow, metric: Mapping[str, Any]) -> str:
    best, worst = (
        (run.metrics.get(name) or {}).get("value") for name in ("best_trade", "worst_trade")
    )
    return f"best {signed(best, 0)} · worst {signed(worst, 0)}"


def _in_market(run: RunRow, metric: Mapping[str, Any]) -> str:
    share = (run.metrics.get("time_in_market") or {}).get("value")
    return f"in the market {percent(share, 0)}"


def _of_capital(run: RunRow, metric: Mapping[str, Any]) -> str:
    return f"{percent(float(metric['value']) / float(run.options['capital']))} of the capital"


def _against_hold(run: RunRow, metric: Mapping[str, Any]) -> str:
    own = (run.metrics.get("total_return") or {}).get("value")
    if own is None:
        return "without costs"
    ahead = (float(own) - float(metric["value"])) * 100
    return f"{money(abs(ahead), 1)} points {'below' if ahead >= 0 else 'above'} the run"


_NOTES: Final[dict[str, Callable[[RunRow, Mapping[str, Any]], str]]] = {
    "total_return": _ended_with,
    "cagr": _days,
    "sharpe": _sharpe_note,
    "max_drawdown": _fell,
    "volatility": lambda run, metric: f"a year · N {quantity(metric.get('n', 0))}",
    "buy_and_hold": _against_hold,
    "win_rate": _won,
    "profit_factor": lambda run, metric: f"won / lost · {quantity(metric.get('n', 0))} trades",
    "trades": _closed_and_open,
    "average_trade": _best_and_worst,
    "exposure": _in_market,
    "fees": _of_capital,
}


# --- the curve --------------------------------------------------------------------------------------


@bp.get("/<int:run_id>/equity.json")
@auth.viewer
def equity(run_id: int) -> Response:
    """{"times" (seconds), "equity", "drawdown"[, "benchmark"]}: at most 2,000 points, highs and lows kept."""
    found = run_columns.curve(_run(run_id)).thin()
    answer: dict[str, Any] = {
        "times": [round(t, 3) for t in found.times.tolist()],
        "equity": found.equity.tolist(),
        "drawdown": found.drawdown.tolist(),
    }
    if len(found.hold):
        answer["benchmark"] = found.hold.tolist()
    return charts.json_answer(answer)


@bp.get("/<int:run_id>/equity/table")
@auth.viewer
def equity_table(run_id: int) -> Response:
    """The picture's numbers, newest first."""
    found = run_columns.curve(_run(run_id)).thin(400)
    rows = [
        (run_columns.moment(t), e, d, h)
        for t, e, d, h in zip(
            found.times.tolist(),
            found.equity.tolist(),
            found.drawdown.tolist(),
            found.hold.tolist() if len(found.hold) else [None] * len(found),
            strict=True,
        )
    ]
    return partial(
        render_template(
            "research/_equity_table.html", rows=rows[::-1], has_hold=bool(len(found.hold))
        )
    )


# --- candles with trades ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """The candles of one traded input."""

    key: str
    stored: series.Stored
    interval: int


def _pictures(run: RunRow) -> list[Picture]:
    """Traded inputs whose series is still there, one an instrument."""
    found: dict[int, Picture] = {}
    for key, chosen in run.inputs.items():
        stored = series.stored(int(chosen["series_id"]))
        if stored is not None and chosen.get("trades", True):
            found.setdefault(stored.instrument.id, Picture(key, stored, int(chosen["interval"])))
    return list(found.values())


def _shown_picture(pictures: list[Picture]) -> Picture | None:
    wanted = request.args.get("candles", "")
    return next((p for p in pictures if p.key == wanted), pictures[0] if pictures else None)


@bp.get("/<int:run_id>/candles/<key>.json")
@auth.viewer
def candles(run_id: int, key: str) -> ResponseReturnValue:
    """Candles of one input with the run's fills: the last ones of the run, or those of a place in time.

    `?before=`, `?after=` or `?around=` in seconds.
    """
    run = _run(run_id)
    picture = next((p for p in _pictures(run) if p.key == key), None)
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


def _end_of_window(run: RunRow, picture: Picture) -> datetime:
    """Candles are read backwards from here."""
    asked = {name: request.args.get(name, type=seconds) for name in ("before", "after", "around")}
    if asked["before"] is not None:
        return run_columns.moment(asked["before"])
    if asked["after"] is not None:
        return _opened_after(picture, run_columns.moment(asked["after"]), CANDLES)
    if asked["around"] is not None:
        return _opened_after(picture, run_columns.moment(asked["around"]), CANDLES // 2)
    return run.ends_at


def _opened_after(picture: Picture, at: datetime, count: int) -> datetime:
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


def _markers(run: RunRow, picture: Picture, shown: list[charts.Candle]) -> list[dict[str, Any]]:
    """The run's fills inside the candles shown."""
    if not shown:
        return []
    query = sa.select(RunFillRow).where(
        RunFillRow.run_id == run.id,
        RunFillRow.instrument_id == picture.stored.instrument.id,
        RunFillRow.filled_at >= shown[0].opened_at,
        RunFillRow.filled_at < shown[-1].opened_at + timedelta(seconds=picture.interval),
    )
    return [
        {
            "time": fill.filled_at.timestamp(),
            "side": fill.side,
            "leg": fill.leg,
            "quantity": significant(fill.quantity),
            "price": float(fill.price),
        }
        for fill in db.session.scalars(query.order_by(RunFillRow.number).limit(MOST_MARKERS))
    ]


# --- trades, decisions, fills -----------------------------------------------------------------------


@bp.get("/<int:run_id>/rows")
@auth.viewer
def rows(run_id: int) -> Response:
    """The table under the chart: `?tab=`, with `?outcome=` of decisions and `?order=` of trades."""
    run = _run(run_id)
    return partial(
        render_template(
            "research/_rows.html",
            run=run,
            currency=_asset(run),
            pictures=_pictures(run),
            **table(run),
        )
    )


def table(run: RunRow) -> dict[str, Any]:
    """What the table of the run's page shows, as the URL asks."""
    tab = request.args.get("tab", "trades")
    tab = tab if tab in TABS else "trades"
    outcome = request.args.get("outcome", "")
    order = request.args.get("order", "")
    counts = _outcome_counts(run)
    order = order if order in ORDERS else ""
    found: Slice[Any]
    if tab == "trades":
        found = trades(run, order)
    else:
        found = decisions(run, outcome) if tab == "decisions" else fills(run)
    return {
        "tab": tab,
        "page": found,
        "outcome": outcome,
        "outcomes": counts,
        "outcome_tones": OUTCOMES,
        "order": order,
        "orders": ORDERS,
        "moment_form": "%d %b %Y" if _is_daily(run) else "%d %b %Y %H:%M",
        "counts": {
            "trades": int((run.metrics.get("trades") or {}).get("value") or 0),
            "decisions": sum(counts.values()),
            "fills": _count(RunFillRow, run.id),
        },
        "instruments": accounts.names(
            InstrumentRow, {i["instrument_id"] for i in run.inputs.values()}
        ),
        "fragment": fragment_url,
    }


def fragment_url(page_url: str, run_id: int) -> str:
    """The table's own address for what a page's address shows."""
    path, _, query = page_url.partition("?")
    rows_path = url_for("runs.rows", run_id=run_id)
    assert path == url_for("runs.page", run_id=run_id)
    return f"{rows_path}?{query}" if query else rows_path


def trades(run: RunRow, order: str) -> Slice[RunTradeRow]:
    query = sa.select(RunTradeRow).where(RunTradeRow.run_id == run.id)
    pnl = sa.cast(RunTradeRow.pnl, sa.Double)
    if order == "best":
        return _rows(query, (pnl, RunTradeRow.number), lambda t: (float(t.pnl), t.number))
    if order == "worst":
        return _rows(query, (-pnl, RunTradeRow.number), lambda t: (-float(t.pnl), t.number))
    return _rows(query, (RunTradeRow.number,), lambda t: (t.number,))


def decisions(run: RunRow, outcome: str) -> Slice[RunDecisionRow]:
    query = sa.select(RunDecisionRow).where(RunDecisionRow.run_id == run.id)
    if outcome in OUTCOMES:
        query = query.where(RunDecisionRow.outcome == outcome)
    return _rows(query, (RunDecisionRow.number,), lambda d: (d.number,))


def fills(run: RunRow) -> Slice[RunFillRow]:
    query = sa.select(RunFillRow).where(RunFillRow.run_id == run.id)
    return _rows(query, (RunFillRow.number,), lambda f: (f.number,))


def _rows(
    query: sa.Select[Any],
    columns: tuple[Any, ...],
    key: Callable[[Any], tuple[Any, ...]],
) -> Slice[Any]:
    return sliced(query, columns, key, size=ROWS, endpoint="runs.page")


def _outcome_counts(run: RunRow) -> dict[str, int]:
    query = (
        sa.select(RunDecisionRow.outcome, sa.func.count())
        .where(RunDecisionRow.run_id == run.id)
        .group_by(RunDecisionRow.outcome)
    )
    found = dict(db.session.execute(query).all())
    return {name: found[name] for name in OUTCOMES if name in found}


def _count(model: type[RunFillRow], run_id: int) -> int:
    return db.session.scalar(sa.select(sa.func.count()).where(model.run_id == run_id)) or 0


# --- CSV --------------------------------------------------------------------------------------------


TABLES: Final[dict[str, tuple[Any, tuple[str, ...]]]] = {
    "trades": (
        RunTradeRow,
        (
            "number", "symbol", "side", "quantity", "entry_at", "entry_price", "exit_at", "exit_price",
            "fees", "pnl", "return_fraction", "bars_held", "exit_reason", "tag",
        ),
    ),
    "fills": (
        RunFillRow,
        ("number", "symbol", "side", "leg", "quantity", "price", "fee", "filled_at"),
    ),
    "decisions": (
        RunDecisionRow,
        ("number", "symbol", "decided_at", "kind", "target", "because", "outcome", "reason", "denied_by"),
    ),
}  # fmt: skip


@bp.get("/<int:run_id>/<any(trades, fills, decisions):name>.csv")
@auth.viewer
def table_csv(run_id: int, name: str) -> Response:
    """All rows, oldest first, streamed."""
    run = _run(run_id)
    model, names = TABLES[name]
    symbols = {i["instrument_id"]: i["symbol"] for i in run.inputs.values()}
    query = (
        sa.select(model)
        .where(model.run_id == run.id)
        .order_by(model.number)
        .execution_options(yield_per=1_000)
    )

    def lines() -> Iterator[list[str]]:
        # Asked once the answer streams: the session of the view ends before that, with its cursors.
        for row in db.session.scalars(query):
            yield [_cell(row, field, symbols) for field in names]

    return _csv_answer(f"run-{run.id}-{name}.csv", names, lines())


@bp.get("/<int:run_id>/equity.csv")
@auth.viewer
def equity_csv(run_id: int) -> Response:
    """Every mark of the run: time, equity, drawdown, exposure."""
    run = _run(run_id)
    found = run_columns.curve(run)
    lines = (
        [run_columns.moment(t).isoformat(), repr(e), repr(d), repr(x)]
        for t, e, d, x in zip(
            found.times.tolist(),
            found.equity.tolist(),
            found.drawdown.tolist(),
            found.exposure.tolist(),
            strict=True,
        )
    )
    return _csv_answer(f"run-{run.id}-equity.csv", ("at", "equity", "drawdown", "exposure"), lines)


def _cell(row: Any, field: str, symbols: Mapping[int, str]) -> str:
    if field == "symbol":
        return symbols.get(row.instrument_id, "")
    if field == "denied_by":
        return "; ".join(check["text"] for check in row.checks if not check["allowed"])
    value = getattr(row, field)
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, float):
        return repr(value)
    return f"{value:f}" if hasattr(value, "as_tuple") else str(value)


def _csv_answer(name: str, head: Iterable[str], lines: Iterable[list[str]]) -> Response:
    def written() -> Iterator[str]:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(head)
        for count, line in enumerate(lines, start=1):
            writer.writerow(line)
            if count % 500 == 0:
                yield out.getvalue()
                out.seek(0)
                out.truncate()
        yield out.getvalue()

    return Response(
        stream_with_context(written()),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _is_daily(run: RunRow) -> bool:
    return all(int(i["interval"]) >= 86_400 for i in run.inputs.values())


def significant(value: Decimal) -> str:
    """A quantity to six figures: research fills in fractions that no eye compares further."""
    return quantity(Decimal(f"{value:.6g}"))


def _asset(run: RunRow) -> str:
    return str(run.options.get("quote_asset", ""))


def _run(run_id: int) -> RunRow:
    run = db.session.get(RunRow, run_id)
    if run is None:
        abort(404)
    return run


bp.add_app_template_filter(interval_text)
bp.add_app_template_filter(metric_text)
bp.add_app_template_filter(lambda at: f"{at:%-d %b %Y}", "strftime_day")
bp.add_app_template_filter(significant)
