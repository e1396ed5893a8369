"""The address of a run, and the run it is about."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort

from shared.db.backtests import RunRow
from webapp.db import db

bp = Blueprint("runs", __name__, url_prefix="/research/runs")


def a_run(run_id: int) -> RunRow:
    """404 if there is none."""
    run = db.session.get(RunRow, run_id)
    if run is None:
        abort(404)
    return run


def quote_asset(run: RunRow) -> str:
    return str(run.options.get("quote_asset", ""))


def capital(run: RunRow) -> float:
    return float(run.options["capital"])


def symbols(run: RunRow) -> dict[int, str]:
    """Of the instruments it read, by their numbers."""
    return {int(i["instrument_id"]): str(i["symbol"]) for i in run.inputs.values()}


def traded(run: RunRow) -> list[dict[str, Any]]:
    """The inputs it traded."""
    return [i for i in run.inputs.values() if i.get("trades", True)]


def moment_form(run: RunRow) -> str:
    """How its moments are written: no more of them than tells one from another."""
    if all(int(i["interval"]) >= 86_400 for i in run.inputs.values()):
        return "%d %b %Y"
    return "%d %b %H:%M" if run.starts_at.year == run.ends_at.year else "%d %b %Y %H:%M"
