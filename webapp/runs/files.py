"""The run as files: CSV as it is read, Parquet, and the report as one HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from flask import Response, stream_with_context

from shared.db.backtests import RunRow
from shared.db.trading import StrategyTypeRow
from shared.report.files import Table, csv_pieces, parquet
from shared.report.page import TRADES as TRADES_LISTED
from shared.report.page import Report, TradeLine, html
from webapp import auth, run_columns
from webapp.db import db
from webapp.runs import reading, reporting, words
from webapp.runs.blueprint import a_run, bp, capital, quote_asset, symbols
from webapp.runs.page import title_of

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "trades": (
        "number", "symbol", "side", "quantity", "entry_at", "entry_price", "exit_at", "exit_price",
        "fees", "pnl", "return_fraction", "bars_held", "mae", "mfe", "exit_reason", "tag",
    ),
    "fills": ("number", "symbol", "side", "leg", "quantity", "price", "fee", "filled_at"),
    "decisions": (
        "number", "symbol", "decided_at", "kind", "target", "because", "outcome", "reason", "denied_by",
    ),
}  # fmt: skip

_WORDS: Final = {"symbol", "side", "leg", "kind", "because", "outcome", "reason", "denied_by", "exit_reason", "tag"}  # fmt: skip
_TIMES: Final = {"entry_at", "exit_at", "decided_at", "filled_at"}
_WHOLE: Final = {"number", "bars_held"}


@bp.get("/<int:run_id>/<any(trades, fills, decisions):name>.csv")
@auth.viewer
def table_csv(run_id: int, name: str) -> Response:
    """All rows, oldest first, streamed."""
    run = a_run(run_id)

    def pieces() -> Iterator[str]:
        # Asked once the answer streams: the session of the view ends before that, with its cursors.
        for number, table in enumerate(_tables(run, name)):
            written = csv_pieces(table)
            head = next(written)
            if number == 0:
                yield head
            yield from written

    return _download(pieces(), f"run-{run.id}-{name}.csv", "text/csv")


@bp.get("/<int:run_id>/equity.csv")
@auth.viewer
def equity_csv(run_id: int) -> Response:
    """Every mark of the run: time, equity, drawdown, exposure."""
    run = a_run(run_id)
    return _download(csv_pieces(_equity(run)), f"run-{run.id}-equity.csv", "text/csv")


@bp.get("/<int:run_id>/<any(trades, fills, equity):name>.parquet")
@auth.viewer
def table_parquet(run_id: int, name: str) -> Response:
    """The same as one Parquet file."""
    run = a_run(run_id)
    table = _equity(run) if name == "equity" else _joined(list(_tables(run, name)))
    file = f"run-{run.id}-{name}.parquet"
    return _download(parquet(table), file, "application/vnd.apache.parquet")


@bp.get("/<int:run_id>/report.html")
@auth.viewer
def report(run_id: int) -> Response:
    """The report as one file that needs nothing else."""
    run = a_run(run_id)
    return _download(html(_report(run)), f"run-{run.id}-report.html", "text/html")


def _download(content: Any, name: str, mimetype: str) -> Response:
    body = content if isinstance(content, (str, bytes)) else stream_with_context(content)
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, mimetype=mimetype, headers=disposition)


# Tables -----------------------------------------------------------------------------------------


def _equity(run: RunRow) -> Table:
    found = run_columns.curve(run)
    return {
        "at": (found.times * 1e6).round().astype("datetime64[us]").astype("datetime64[ns]"),
        "equity": found.equity,
        "drawdown": found.drawdown,
        "exposure": found.exposure,
    }


def _tables(run: RunRow, name: str) -> Iterator[Table]:
    """The table by the thousand rows; one without rows if there are none."""
    names = TABLES[name]
    kept = run_columns.columns(run.id, "trade.mae", "trade.mfe") if name == "trades" else {}
    known = symbols(run)
    is_empty = True
    for part in reading.by_thousand(run.id, name):
        is_empty = False
        yield {field: _column(part, field, known, kept) for field in names}
    if is_empty:
        yield {field: _column([], field, known, kept) for field in names}


def _column(
    rows: Any, field: str, known: Mapping[int, str], kept: Mapping[str, Any]
) -> np.ndarray[Any, Any] | list[Any]:
    if field in ("mae", "mfe"):
        column = kept[f"trade.{field}"].astype(np.float64)
        return np.array(
            [column[row.number - 1] if row.number <= len(column) else np.nan for row in rows]
        )
    values = [_value(row, field, known) for row in rows]
    if field in _WORDS:
        return values
    if field in _TIMES:
        stamps = [None if at is None else at.astimezone(UTC).replace(tzinfo=None) for at in values]
        return np.array(stamps, dtype="datetime64[us]").astype("datetime64[ns]")
    if field in _WHOLE:
        return np.array(values, dtype=np.int64)
    return np.array([np.nan if value is None else float(value) for value in values])


def _value(row: Any, field: str, known: Mapping[int, str]) -> Any:
    if field == "symbol":
        return known.get(row.instrument_id, "")
    if field == "denied_by":
        return "; ".join(check["text"] for check in row.checks if not check["allowed"])
    return getattr(row, field)


def _joined(parts: list[Table]) -> Table:
    first, *others = parts
    if not others:
        return first
    return {
        name: [value for part in parts for value in part[name]]
        if isinstance(first[name], list)
        else np.concatenate([part[name] for part in parts])
        for name in first
    }


# The report -------------------------------------------------------------------------------------


def _report(run: RunRow) -> Report:
    kept = run_columns.kept(run)
    type_ = db.session.get(StrategyTypeRow, run.strategy_type)
    title = title_of(run, type_)
    count = int((run.metrics.get("trades") or {}).get("value") or 0)
    return Report(
        title=f"{title}, run #{run.id}",
        subtitle=f"{words.inputs_text(run)} · {run.starts_at:%-d %b %Y} to {run.ends_at:%-d %b %Y}",
        currency=quote_asset(run),
        capital=capital(run),
        calendar=reporting.calendar_of(run),
        metrics=run.metrics,
        columns=kept.columns,
        tables=kept.tables,
        facts=words.facts(run, title),
        warnings=_warnings(run),
        trades=_trade_lines(run),
        trade_count=count,
        made_at=datetime.now(UTC),
    )


def _warnings(run: RunRow) -> list[str]:
    found = []
    if run.simulated:
        found.append("Simulated data: these prices are invented, for trying things out.")
    if said := words.data_found(run):
        found.append(f"The bars of this run have {said}. The run used them as they are.")
    return found


def _trade_lines(run: RunRow) -> list[TradeLine]:
    known = symbols(run)
    return [
        TradeLine(
            number=row.number,
            symbol=known.get(row.instrument_id, ""),
            side=row.side,
            entry_at=row.entry_at,
            entry_price=float(row.entry_price),
            exit_at=row.exit_at,
            exit_price=None if row.exit_price is None else float(row.exit_price),
            quantity=float(row.quantity),
            pnl=float(row.pnl),
            return_fraction=row.return_fraction,
            reason=row.exit_reason,
        )
        for row in reading.first_trades(run, TRADES_LISTED)
    ]
