"""What the report adds to the page of a run: pictures, months, falls, groups of trades; and its file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
from flask import Response, render_template, request, url_for
from markupsafe import Markup

from shared.db.backtests import RunRow
from shared.db.market import InstrumentRow
from shared.domain.instruments import DAYS_PER_YEAR
from shared.report import curves
from shared.report import pictures as drawing
from shared.report.pictures import TABLES, Drawn
from webapp import accounts, auth, run_columns
from webapp.partials import partial
from webapp.run_columns import Kept
from webapp.runs.blueprint import a_run, bp, quote_asset, traded

GROUPS: Final = {**TABLES, "crisis": "In crises"}
"""What trades are grouped by, and how the choice reads."""

CHOICES: Final = {
    "instrument": "Instrument",
    "side": "Side",
    "tag": "Tag",
    "exit_reason": "Exit reason",
    "hour": "Hour",
    "weekday": "Weekday",
    "month": "Month",
    "regime": "Mood",
    "crisis": "Crisis",
}


def calendar_of(run: RunRow) -> str:
    """The calendar its numbers are annualised by: that of the first instrument it traded."""
    first = traded(run)[0]["instrument_id"]
    row: Any = accounts.names(InstrumentRow, {first}).get(first)
    return str(row.calendar) if row is not None else "24/7"


# Pictures ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MonthLine:
    """The pictures' numbers at the end of a month; None where there is none."""

    month: date
    equity: float
    gained: float
    drawdown: float
    sharpe: float | None
    exposure: float | None


def parts(run: RunRow, kept: Kept) -> dict[str, Any]:
    """Pictures and tables of the page, by the names its template has for them."""
    columns, asset, calendar = kept.columns, quote_asset(run), calendar_of(run)
    days = kept.days
    drawn = {
        "equity": drawing.equity(columns, asset),
        "underwater": drawing.underwater(columns),
        "rolling": drawing.rolling_sharpe(columns, calendar),
        "exposure": drawing.exposure(columns),
        "daily": drawing.daily_returns(columns),
        "by_trade": drawing.trade_returns(columns),
    }
    has_days = len(days) > 0
    return {
        "drawn": {name: one for name, one in drawn.items() if one is not None},
        "excursion_pictures": drawing.excursions(columns),
        "years": curves.years(days.times, days.equity) if has_days else [],
        "months": month_lines(kept, calendar) if has_days else [],
        "falls": curves.worst_falls(days) if has_days else [],
        "last_day": int(days.number[-1]) if has_days else 0,
    }


def month_lines(kept: Kept, calendar: str) -> list[MonthLine]:
    """Newest first."""
    days = kept.days
    months = days.number.astype("datetime64[D]").astype("datetime64[M]")
    last = np.flatnonzero(np.concatenate([months[1:] != months[:-1], [True]]))
    before = np.concatenate([[0], last[:-1] + 1])
    fallen = curves.drawdowns(days.equity)
    ratio = curves.rolling_sharpe(days.returns, DAYS_PER_YEAR[calendar])
    first_ratio = len(days) - len(ratio)
    exposures = _exposure_by_month(kept)
    lines = [
        MonthLine(
            month=months[row].astype(date),
            equity=float(days.equity[row + 1]),
            gained=float(days.equity[row + 1] / days.equity[start]) - 1,
            drawdown=float(fallen[row + 1]),
            sharpe=_known(ratio[row - first_ratio]) if row >= first_ratio else None,
            exposure=exposures.get(int(months[row].astype(int))),
        )
        for start, row in zip(before.tolist(), last.tolist(), strict=True)
    ]
    return lines[::-1]


def _exposure_by_month(kept: Kept) -> dict[int, float]:
    """Means of the stretches that ended in each month."""
    columns = kept.columns
    if not len(columns.times):
        return {}
    stamps = ((columns.times - 1e-3) * 1000).astype("datetime64[ms]")
    found, codes = np.unique(stamps.astype("datetime64[M]").astype(int), return_inverse=True)
    means = np.bincount(codes, columns.exposure) / np.bincount(codes)
    return dict(zip(found.tolist(), means.tolist(), strict=True))


def _known(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


# Groups -----------------------------------------------------------------------------------------


@bp.get("/<int:run_id>/groups")
@auth.viewer
def groups(run_id: int) -> Response:
    """The table of trades by what `?by=` says."""
    run = a_run(run_id)
    found = grouped(run, run_columns.kept(run))
    return partial(
        render_template("research/_groups.html", run=run, currency=quote_asset(run), **found)
    )


def grouped(run: RunRow, kept: Kept) -> dict[str, Any]:
    """The groups asked for, and those there are to choose from."""
    there = {key: name for key, name in CHOICES.items() if kept.tables.get(key)}
    asked = request.args.get("by", "")
    by = asked if asked in there else next(iter(there), "")
    rows = kept.tables.get(by, [])
    return {
        "by": by,
        "group_rows": rows,
        "group_most": max((abs(row["pnl"]) for row in rows), default=0.0),
        "group_links": [
            (name, url_for("runs.page", run_id=run.id, by=key), key) for key, name in there.items()
        ],
        "group_title": GROUPS.get(by, ""),
    }


# Filters ----------------------------------------------------------------------------------------


def picture(drawn: Drawn) -> Markup:
    """The picture; its words were escaped when it was drawn."""
    return Markup(drawn.svg)  # noqa: S704


def day_text(number: int) -> str:
    """A day since 1970 as 3 Mar 2024."""
    day = datetime.fromtimestamp(number * 86_400, UTC)
    return f"{day:%-d %b %Y}"


bp.add_app_template_filter(picture)
bp.add_app_template_filter(day_text)
