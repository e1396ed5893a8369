"""Runs side by side: their numbers with the best of each marked, what they were asked differently, their curves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, render_template, request, url_for

from shared.db.backtests import RunRow
from shared.domain.market import interval_text
from shared.domain.shown import NOTHING, plural, quantity
from shared.report import numbers
from webapp import auth, charts, run_columns
from webapp.db import db

bp = Blueprint("compare", __name__, url_prefix="/research/compare")

FEWEST: Final = 2
MOST: Final = 8
POINTS: Final = 600
"""Of each curve; the lowest and the highest of every stretch are kept."""

HIGHER: Final = frozenset(
    (
        "total_return", "twr", "mwr", "cagr", "final_equity", "realised", "best_day", "worst_day",
        "sharpe", "psr", "dsr", "sortino", "omega", "calmar", "martin", "serenity", "tail_ratio",
        "alpha", "information_ratio", "treynor", "up_capture", "win_rate", "payoff", "profit_factor",
        "average_trade", "average_return", "expectancy_r", "sqn", "best_trade", "worst_trade",
        "profit_without_best_5", "mfe", "edge_ratio", "capacity",
    )
)  # fmt: skip
LOWER: Final = frozenset(
    (
        "volatility", "downside_deviation", "max_drawdown", "max_drawdown_value",
        "drawdown_recovery", "time_under_water", "longest_under_water", "ulcer_index", "var_95",
        "cvar_95", "down_capture", "mae", "longest_loss_streak", "largest_trade_share", "fees",
        "slippage", "spread", "funding", "costs", "rejected", "timed_out", "ambiguous_bars",
    )
)  # fmt: skip
"""Which way a number is better; one that is in neither is told and not judged."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one run."""

    text: str
    tone: str
    best: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Line:
    """One number of every run, in the order of the page."""

    name: str
    title: str
    how: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something the runs were not asked alike, in the words of each."""

    title: str
    texts: list[str]


@bp.get("")
@auth.viewer
def page() -> str:
    """`?run=12&run=15`: two to eight runs; which of them cannot be shown is said."""
    runs, told = _asked()
    enough = len(runs) >= FEWEST
    return render_template(
        "compare/page.html",
        runs=runs,
        told=told,
        enough=enough,
        without={run.id: _address(r.id for r in runs if r is not run) for run in runs},
        curves_url=url_for("compare.curves", run=[run.id for run in runs]),
        main=lines(runs, numbers.MAIN) if enough else [],
        families=families(runs) if enough else {},
        differences=differences(runs) if enough else [],
        money_differs=len({_money_of(run) for run in runs}) > 1,
    )


@bp.get("/curves.json")
@auth.viewer
def curves() -> Response:
    """{"runs": [{"id", "times" (seconds), "growth", "drawdown"}]}, fractions of each run's own capital."""
    return charts.json_answer({"runs": [_curve(run) for run in _asked()[0]]})


def _curve(run: RunRow) -> dict[str, Any]:
    found = run_columns.curve(run).thin(POINTS)
    capital = float(run.options["capital"])
    return {
        "id": run.id,
        "times": [round(at, 3) for at in found.times.tolist()],
        "growth": (found.equity / capital - 1).tolist(),
        "drawdown": found.drawdown.tolist(),
    }


def _asked() -> tuple[list[RunRow], str]:
    """The runs of the address, each once and in its order, and what is to be said about the others."""
    ids = list(dict.fromkeys(request.args.getlist("run", type=int)))
    query = sa.select(RunRow).where(RunRow.id.in_(ids[:MOST]))
    known = {run.id: run for run in db.session.scalars(query)}
    lost = [f"#{id_}" for id_ in ids[:MOST] if id_ not in known]
    told = []
    if lost:
        told.append(f"{', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not there any more.")
    if len(ids) > MOST:
        told.append(f"These are the first {MOST} of {len(ids)}: more do not fit side by side.")
    return [known[id_] for id_ in ids if id_ in known], " ".join(told)


def _address(ids: Iterable[int]) -> str:
    return url_for("compare.page", run=list(ids))


# Numbers ----------------------------------------------------------------------------------------


def families(runs: Sequence[RunRow]) -> dict[str, list[Line]]:
    """Every number that one of the runs has, by family."""
    found = {family: lines(runs, names) for family, names in numbers.FAMILIES.items()}
    return {family: some for family, some in found.items() if some}


def lines(runs: Sequence[RunRow], names: Iterable[str]) -> list[Line]:
    """The numbers of these names that one of the runs has."""
    return [_line(runs, name) for name in names if any(name in run.metrics for run in runs)]


def _line(runs: Sequence[RunRow], name: str) -> Line:
    metrics = [run.metrics.get(name) or {"value": None} for run in runs]
    best = _best(name, metrics, comparable=len({_money_of(run) for run in runs}) == 1)
    cells = [
        Cell(
            numbers.text(name, metric),
            numbers.tone(name, metric),
            best is not None and metric["value"] == best,
            str(metric.get("reason", "")),
        )
        for metric in metrics
    ]
    how = next((str(metric["how"]) for metric in metrics if metric.get("how")), "")
    return Line(name, numbers.TITLES[name], how, cells)


def _best(name: str, metrics: Sequence[Mapping[str, Any]], *, comparable: bool) -> float | None:
    """The best value; None where none is, where all are the same, or where amounts are not of one money."""
    values = [float(m["value"]) for m in metrics if m["value"] is not None]
    is_money = any(m.get("unit") == "currency" for m in metrics)
    if len(set(values)) < FEWEST or (is_money and not comparable):
        return None
    if name in HIGHER:
        return max(values)
    return min(values) if name in LOWER else None


def _money_of(run: RunRow) -> tuple[str, float]:
    """What amounts of a run are to be seen against."""
    return str(run.options.get("quote_asset", "")), float(run.options["capital"])


# What was asked differently ---------------------------------------------------------------------


def differences(runs: Sequence[RunRow]) -> list[Difference]:
    """What is not the same in all of them: parameters first, then the rest of what was asked."""
    told = [dict(_told(run)) for run in runs]
    titles = dict.fromkeys(title for one in told for title in one)
    found = [Difference(title, [one.get(title, NOTHING) for one in told]) for title in titles]
    return [one for one in found if len(set(one.texts)) > 1]


_LEFT_OUT: Final = ("data", "starts_at", "ends_at", "ambiguous_bars", "quote_asset")
"""Options that are found and not asked, or told as the range."""


def _told(run: RunRow) -> Iterator[tuple[str, str]]:
    """Everything a run was asked with, in words."""
    yield "Strategy", run.strategy_type.replace("_", " ")
    for name, value in sorted(run.parameters.items()):
        yield _words(name), _text(value)
    for key, chosen in run.inputs.items():
        name = "Bars" if len(run.inputs) == 1 else f"Bars, {_words(key).lower()}"
        yield name, f"{chosen['symbol']} {interval_text(int(chosen['interval']))}"
        yield f"{name}: from", str(chosen.get("source", ""))
        yield f"{name}: hash as used", str(chosen.get("used_hash", ""))[:12]
    yield "From", f"{run.starts_at:%Y-%m-%d}"
    yield "Until", f"{run.ends_at:%Y-%m-%d}"
    for name, value in run.options.items():
        if name not in _LEFT_OUT:
            yield from _flat(_words(name), value)
    if run.request.get("sweep_id"):
        trials = plural(run.request["trials"], "combination")
        yield "Chosen from", f"{trials} of sweep #{run.request['sweep_id']}"
    yield "Code of the strategy", run.code_hash[:12]
    yield from _made_with(run)


def _made_with(run: RunRow) -> Iterator[tuple[str, str]]:
    made = run.provenance
    if not made:
        return
    yield "Seraphim's code", str(made.get("sources", ""))[:12]
    yield "Packages", str(made.get("lock", ""))[:12]
    yield "Seed", str(made.get("seed", ""))


def _flat(title: str, value: Any) -> Iterator[tuple[str, str]]:
    """An option, and those inside it, each with the way to it: Risk policy, max drawdown, enabled."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{title}, {_words(str(name)).lower()}", inner)
    else:
        yield title, _text(value)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return NOTHING
    return quantity(value) if isinstance(value, (int, float)) else str(value)
