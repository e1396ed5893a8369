"""The page of one run: its numbers with how they came about, its pictures, its trades, what was run."""

from __future__ import annotations

from typing import Any

from flask import render_template, request

from shared.db.backtests import RunRow
from shared.db.trading import StrategyTypeRow
from shared.domain.market import interval_text
from shared.report.engines import engine_text, engine_title
from shared.report.numbers import MAIN, Shown, families, shown, text
from webapp import auth, costs, run_columns, series
from webapp.db import db
from webapp.formats import seconds
from webapp.runs import listing, reporting, words
from webapp.runs.blueprint import a_run, bp, capital, quote_asset
from webapp.runs.charting import Charted, charted, chosen


@bp.get("/<int:run_id>")
@auth.viewer
def page(run_id: int) -> str:
    run = a_run(run_id)
    kept = run_columns.kept(run)
    pictures = charted(run)
    type_ = db.session.get(StrategyTypeRow, run.strategy_type)
    asset = quote_asset(run)
    return render_template(
        "research/run.html",
        run=run,
        type=type_,
        title=title_of(run, type_),
        is_newest_code=type_ is not None and type_.code_hash == run.code_hash,
        tiles=tiles(run),
        families=families(run.metrics, asset, capital(run)),
        metrics=run.metrics,
        pictures=pictures,
        shown=chosen(pictures),
        currency=asset,
        costs_text=costs.text(run.options.get("costs") or {}, asset),
        costs_line=costs.short_text(run.options.get("costs") or {}, asset),
        fills_text=words.fills_text(run),
        engine=engine_text(run.engine, words.why_core(run)),
        engine_title=engine_title(run.engine, words.why_core(run)),
        rules_text=words.rules_text(run),
        sizing=words.sizing_text(run.options.get("sizing") or {}, asset),
        splits=_splits(run, pictures),
        data_found=words.data_found(run),
        only_splits=words.kinds_found(run) == ["splits"],
        speed=run.bars / run.elapsed_seconds if run.elapsed_seconds > 0 else None,
        at=request.args.get("at", type=seconds),
        has_hold=run_columns.has_hold(run),
        **reporting.parts(run, kept),
        **reporting.grouped(run, kept),
        **listing.table(run),
    )


def title_of(run: RunRow, type_: StrategyTypeRow | None) -> str:
    return type_.title if type_ else run.strategy_type.replace("_", " ").capitalize()


def tiles(run: RunRow) -> list[Shown]:
    """The numbers the page begins with."""
    return [
        shown(name, run.metrics, quote_asset(run), capital(run))
        for name in MAIN
        if name in run.metrics
    ]


def _splits(run: RunRow, pictures: list[Charted]) -> list[tuple[str, series.Split]]:
    """Jumps of raw prices that look like splits, by symbol: the run traded them as they stand."""
    return [
        (picture.stored.instrument.symbol, split)
        for picture in pictures
        for split in series.likely_splits(picture.stored, run.starts_at, run.ends_at)
    ]


def metric_text(name: str, metric: Any) -> str:
    """A metric's value as a person reads it, whether or not it has a title."""
    return text(name, metric)


bp.add_app_template_filter(interval_text)
bp.add_app_template_filter(metric_text)
bp.add_app_template_filter(lambda at: f"{at:%-d %b %Y}", "strftime_day")
bp.add_app_template_filter(words.significant, "significant")
