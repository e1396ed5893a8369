"""Research: backtests that were run, and asking for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

import sqlalchemy as sa
from flask import Blueprint, Response, abort, g, render_template, request
from flask.typing import ResponseReturnValue

from shared.db.backtests import JobRow, RunRow
from shared.db.trading import StrategyTypeRow
from shared.domain.market import interval_text
from webapp import accounts, auth, backtest_form, fields, marks, run_columns, series, workers
from webapp.db import db
from webapp.paging import Slice, sliced
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("research", __name__, url_prefix="/research")

FIRST_TYPE: Final = "moving_average_cross"
RUNS: Final = 40


# --- runs -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sort:
    """A column runs can be sorted by: its expression, and which way is looked at first."""

    title: str
    metric: str = ""
    unit: str = ""
    is_lowest_first: bool = False
    is_wide: bool = False


SORTS: Final[dict[str, Sort]] = {
    "return": Sort("Return", "total_return", "%"),
    "hold": Sort("Buy and hold", "buy_and_hold", "%", is_wide=True),
    "sharpe": Sort("Sharpe", "sharpe", "ratio"),
    "drawdown": Sort("Drawdown", "max_drawdown", "%", is_lowest_first=True, is_wide=True),
    "trades": Sort("Trades", "trades", "count", is_wide=True),
    "when": Sort("When", is_wide=True),
}
LAST: Final = -1e300
"""Stands for a number that is not defined: after all others, whichever way the list runs."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of runs. `sort` is a key of SORTS; `way` 1 for highest (newest) first, -1 for lowest."""

    page: Slice[Any]
    sort: str
    way: int
    sparks: dict[int, list[float]]
    types: list[str]
    symbols: list[str]
    type: str
    symbol: str
    marks: marks.Filter
    tags: list[str]

    @property
    def is_filtered(self) -> bool:
        return bool(self.type or self.symbol or self.marks)

    @property
    def kept(self) -> dict[str, str]:
        """The filters that are set, for an address that keeps them."""
        every = {"type": self.type, "symbol": self.symbol, **self.marks.arguments}
        return {name: value for name, value in every.items() if value}


@bp.get("")
@auth.viewer
def page() -> str:
    """Every run, sorted by the column in the URL."""
    return render_template("research/page.html", listing=listing(), sorts=SORTS, **under_way())


def listing() -> Listing:
    wanted = request.args.get("sort", "when")
    sort = wanted.lstrip("-") if wanted.lstrip("-") in SORTS else "when"
    way = 1 if SORTS[sort].is_lowest_first is wanted.startswith("-") else -1
    type_, symbol = request.args.get("type", ""), request.args.get("symbol", "")
    value = _value(sort)
    shown = value if way == 1 else -value
    wanted_marks = marks.Filter.of(request.args)
    query = sa.select(RunRow, sa.func.coalesce(shown, LAST).label("key"))
    query = query.where(*wanted_marks.conditions())
    if type_:
        query = query.where(RunRow.strategy_type == type_)
    if symbol:
        query = query.where(
            sa.func.jsonb_path_exists(
                RunRow.inputs,
                sa.cast("$.*.symbol ? (@ == $s)", sa.dialects.postgresql.JSONPATH),
                sa.func.jsonb_build_object("s", symbol),
            )
        )
    page = sliced(
        query,
        (sa.func.coalesce(shown, LAST), RunRow.id),
        lambda row: (row.key, row.RunRow.id),
        size=RUNS,
    )
    return Listing(
        page=page,
        sort=sort,
        way=way,
        sparks=run_columns.equity_sparks([row.RunRow.id for row in page.rows]),
        types=list(
            db.session.scalars(
                sa.select(RunRow.strategy_type).distinct().order_by(RunRow.strategy_type)
            )
        ),
        symbols=_symbols(),
        type=type_,
        symbol=symbol,
        marks=wanted_marks,
        tags=marks.known_tags(),
    )


def _value(sort: str) -> sa.ColumnElement[float]:
    """What a run is sorted by, as float8; NULL where it is not defined."""
    metric = SORTS[sort].metric
    if not metric:
        return sa.cast(RunRow.id, sa.Double)
    return sa.cast(RunRow.metrics[(metric, "value")].astext, sa.Double)


def _symbols() -> list[str]:
    found = sa.func.jsonb_path_query(
        RunRow.inputs, sa.cast("$.*.symbol", sa.dialects.postgresql.JSONPATH)
    ).op("#>>")(sa.text("'{}'"))
    return sorted(set(db.session.scalars(sa.select(found).distinct())))


def under_way() -> dict[str, Any]:
    """Backtests that are queued or running."""
    jobs = workers.unfinished("backtest")
    return {
        "jobs": jobs,
        "version": stamp([(j.id, j.state, j.progress, j.progress_text) for j in jobs]),
    }


@bp.get("/under-way")
@auth.viewer
def under_way_part() -> Response:
    now = under_way()
    if is_current(now["version"]):
        return unchanged()
    if request.args.get("had") == "1" and not now["jobs"]:
        response = partial("")
        response.headers["HX-Refresh"] = "true"
        return response
    return partial(render_template("research/_under_way.html", **now))


# --- asking for one ---------------------------------------------------------------------------------


@bp.get("/new")
@auth.trader
def new() -> str:
    """The form: blank, for one series (`?series=`), or as an earlier run or job had it."""
    asked, problem = _earlier()
    type_ = _type(request.args.get("type") or str(asked.get("strategy_type", "")))
    if type_ is None:
        return render_template("research/nothing.html", broken=_broken())
    form = backtest_form.shown(
        type_.name,
        type_.schema,
        asked,
        first_series=request.args.get("series", type=int) or _first(),
    )
    if problem:
        form, problem = form.refused(problem)
    return _form(form, type_, problem)


@bp.get("/new/type")
@auth.trader
def type_part() -> Response:
    """The part of the form that depends on the type; series and the rest stay as they are chosen."""
    type_ = _type(request.args.get("type", ""))
    if type_ is None:
        abort(404)
    form = backtest_form.shown(type_.name, type_.schema, first_series=_kept_series())
    kept = [name for name in form.entered if name.endswith(".interval")]
    form.entered.update({name: request.args.get(name, "") for name in ("starts", "ends", *kept)})
    return partial(
        render_template(
            "research/_type.html",
            form=form,
            type=type_,
            types=_types(),
            bounds=fields.bounds_text,
            **_choices(),
        )
    )


def _kept_series() -> int | None:
    """The series chosen for the type before."""
    for name, value in request.args.items():
        if name.startswith(fields.INPUT) and name.endswith(".series") and value.isdecimal():
            return int(value)
    return _first()


@bp.post("/new")
@auth.trader
def run() -> ResponseReturnValue:
    """Ask a worker. A small run's page is the answer; a long one's job; a refused one the form again."""
    type_ = _type(request.form.get("type", ""))
    if type_ is None:
        abort(400, "type: this strategy type is not in the catalogue any more. Choose another.")
    account = accounts.chosen()
    form = backtest_form.read(
        type_.name,
        type_.schema,
        request.form,
        {s.id: s for s in series.stored_series()},
        account.risk_policy if account else {},
    )
    if form.request is None:
        return _form(form, type_, ""), 422
    row = workers.ask_and_wait(form.request, _title(form, type_))
    if row.state == "failed" and not workers.is_crash(row):
        form, problem = form.refused(row.error or row.progress_text)
        return _form(form, type_, problem), 422
    return workers.next_page(row)


def _title(form: backtest_form.BacktestForm, type_: StrategyTypeRow) -> str:
    """Backtest moving average cross · AAPL 1d."""
    chosen = []
    for entry in fields.inputs_of(type_.schema):
        found = series.stored(int(form.entered[backtest_form.series_key(entry["name"])]))
        made = form.entered.get(backtest_form.interval_key(entry["name"]), "")
        interval = interval_text(int(made)) if made else found.interval if found else ""
        chosen.append(f"{found.instrument.symbol} {interval}" if found else "?")
    return f"Backtest {type_.title.lower()} · {', '.join(dict.fromkeys(chosen))}"


def _earlier() -> tuple[dict[str, Any], str]:
    """(the request of `?run=` or `?job=`, why that job was refused or "")."""
    run_id = request.args.get("run", type=int)
    if run_id is not None:
        row = db.session.get(RunRow, run_id)
        if row is None:
            abort(404)
        return request_of(row), ""
    try:
        job_id = UUID(request.args.get("job", ""))
    except ValueError:
        return {}, ""
    job = db.session.get(JobRow, job_id)
    if job is None or job.kind != "backtest":
        abort(404)
    refused = job.state == "failed" and not workers.is_crash(job)
    return job.arguments, (job.error or "") if refused else ""


def request_of(run: RunRow) -> dict[str, Any]:
    """The request a run was asked with, from its row."""
    options: Mapping[str, Any] = run.options
    return {
        "strategy_type": run.strategy_type,
        "parameters": run.parameters,
        "inputs": run.inputs,
        **{
            k: options.get(k)
            for k in (
                "capital",
                "costs",
                "sizing",
                "risk_policy",
                "starts_at",
                "ends_at",
                "matching",
                "margin",
                "universe_id",
            )
        },
        "gate": bool((run.request or {}).get("gate", True)),
        "data_policy": (options.get("data") or {}).get("policy"),
        "data_findings": (options.get("data") or {}).get("counted"),
    }


def _form(form: backtest_form.BacktestForm, type_: StrategyTypeRow, problem: str) -> str:
    account = accounts.chosen()
    return render_template(
        "research/new.html",
        form=form,
        type=type_,
        types=_types(),
        broken=_broken(),
        problem=problem,
        rules=backtest_form.RULES,
        intrabar=backtest_form.INTRABAR,
        counted=[
            (backtest_form.count_key(kind), name) for kind, name in backtest_form.COUNTED.items()
        ],
        universes=series.recorded_lists(),
        account=account,
        methods=fields.METHODS,
        bounds=fields.bounds_text,
        **_choices(),
    )


def _choices() -> dict[str, Any]:
    found = series.stored_series()
    return {
        "choices": [(s.id, s.label) for s in found],
        "simulated_ids": [s.id for s in found if s.row.simulated],
        "intervals": backtest_form.interval_choices(
            min((s.row.interval for s in found), default=86_400)
        ),
        "series_key": backtest_form.series_key,
        "interval_key": backtest_form.interval_key,
        "inputs_of": fields.inputs_of,
    }


def _types() -> list[StrategyTypeRow]:
    """Types that load, by name."""
    query = sa.select(StrategyTypeRow).where(StrategyTypeRow.error.is_(None))
    return list(db.session.scalars(query.order_by(StrategyTypeRow.origin, StrategyTypeRow.title)))


def _broken() -> list[StrategyTypeRow]:
    query = sa.select(StrategyTypeRow).where(StrategyTypeRow.error.is_not(None))
    return list(db.session.scalars(query.order_by(StrategyTypeRow.name)))


def _type(name: str) -> StrategyTypeRow | None:
    """The type by name; the first one to offer when none is named."""
    types = _types()
    if name:
        return next((t for t in types if t.name == name), None)
    return next((t for t in types if t.name == FIRST_TYPE), types[0] if types else None)


def _first() -> int | None:
    """The series to offer first: real history before simulated bars."""
    found = series.stored_series()
    return found[0].id if found else None


def describe_inputs(inputs: Mapping[str, Any]) -> str:
    """AAPL 1d, MSFT 1d."""
    names = [f"{i['symbol']} {interval_text(int(i['interval']))}" for i in inputs.values()]
    return ", ".join(dict.fromkeys(names))


def describe_parameters(parameters: Mapping[str, Any], type_name: str = "") -> str:
    """short window 10, long window 30: in the order the type declares them."""
    return ", ".join(
        f"{name.replace('_', ' ')} {fields.text_of(value) or 'no'}"
        for name, value in in_order(parameters, type_name)
    )


def in_order(parameters: Mapping[str, Any], type_name: str) -> list[tuple[str, Any]]:
    """As the form has them: JSONB keeps keys by length."""
    schema = _schemas().get(type_name, ())
    order = {entry["name"]: place for place, entry in enumerate(schema)}
    return sorted(parameters.items(), key=lambda pair: order.get(pair[0], len(order)))


def _schemas() -> dict[str, fields.Schema]:
    """The schema of every type, read once a request."""
    if "strategy_schemas" not in g:
        found = db.session.execute(sa.select(StrategyTypeRow.name, StrategyTypeRow.schema))
        g.strategy_schemas = dict(found.all())
    return cast("dict[str, fields.Schema]", g.strategy_schemas)


bp.add_app_template_filter(describe_inputs)
bp.add_app_template_filter(describe_parameters)
bp.add_app_template_filter(in_order)
