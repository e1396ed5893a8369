"""Asking for a sweep: the form, its parts, and how many combinations it would try."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import Response, abort, render_template, request
from flask.typing import ResponseReturnValue

from shared.db.backtests import JobRow
from shared.db.sweeps import SweepRow
from shared.db.trading import StrategyTypeRow
from shared.domain.market import interval_text
from webapp import accounts, auth, backtest_form, fields, live, series, workers
from webapp.db import db
from webapp.partials import partial
from webapp.sweeps import form as forms
from webapp.sweeps import standing
from webapp.sweeps.blueprint import bp

FIRST_TYPE: Final = "moving_average_cross"


@bp.get("/new")
@auth.trader
def new() -> str:
    """The form: blank, for one series (`?series=`), or as an earlier sweep or job had it."""
    asked, problem = _earlier()
    type_ = _type(
        request.args.get("type") or str((asked.get("base") or {}).get("strategy_type", ""))
    )
    if type_ is None:
        return render_template("sweeps/nothing.html")
    form = forms.shown(type_.name, type_.schema, asked, first_series=_first_series())
    if problem:
        problem = form.refused(problem)
    return _page(form, type_, problem)


@bp.get("/new/type")
@auth.trader
def type_part() -> Response:
    """The part of the form that depends on the type; what else was chosen stays."""
    type_ = _type(request.args.get("type", ""))
    if type_ is None:
        abort(404)
    form = forms.shown(type_.name, type_.schema, first_series=_first_series())
    return partial(render_template("sweeps/_parameters.html", **_shown(form, type_)))


@bp.get("/new/size")
@auth.trader
def size_part() -> Response:
    """How much the form as it stands would try, or what is wrong with it."""
    type_ = _type(request.args.get("type", ""))
    if type_ is None:
        abort(404)
    form = _read(type_, request.args)
    return partial(render_template("sweeps/_size.html", form=form, seconds=_seconds(form)))


def _seconds(form: forms.SweepForm) -> float | None:
    """About how long it will take with the workers there are; None where nobody knows."""
    if form.size is None or form.size.problem or not form.series:
        return None
    found = [one for i in form.series if (one := series.stored(int(i)))]
    workers = sum(name.startswith("worker") for name in live.heartbeats().by_process)
    bars = sum(one.row.bars for one in found)
    return standing.seconds_for(form.type, form.size.points, bars, workers)


@bp.post("/new")
@auth.trader
def start() -> ResponseReturnValue:
    """Ask a worker to plan it. The sweep's page is the answer; a refused one the form again."""
    type_ = _type(request.form.get("type", ""))
    if type_ is None:
        abort(400, "type: this strategy type is not in the catalogue any more. Choose another.")
    form = _read(type_, request.form)
    if form.request is None:
        return _page(form, type_, ""), 422
    row = workers.ask_and_wait(form.request, _title(form, type_))
    if row.state == "failed" and not workers.is_crash(row):
        return _page(form, type_, form.refused(row.error or row.progress_text)), 422
    return workers.next_page(row)


def _read(type_: StrategyTypeRow, given: Any) -> forms.SweepForm:
    account = accounts.chosen()
    return forms.read(
        type_.name,
        type_.schema,
        given.to_dict(),
        given.to_dict(flat=False),
        {one.id: one for one in series.stored_series()},
        account.risk_policy if account else {},
    )


def _title(form: forms.SweepForm, type_: StrategyTypeRow) -> str:
    """Sweep moving average cross · AAPL 1d and 3 more."""
    found = [one for i in form.series if (one := series.stored(int(i)))]
    made = form.base.entered.get(forms.INTERVAL, "")
    interval = interval_text(int(made)) if made else ""
    names = list(
        dict.fromkeys(f"{one.instrument.symbol} {interval or one.interval}" for one in found)
    )
    told = ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"
    return f"Sweep {type_.title.lower()} · {told}"


def _earlier() -> tuple[dict[str, Any], str]:
    """(the request of `?sweep=` or `?job=`, why that job was refused or "")."""
    job = _earlier_job()
    if job is None:
        return {}, ""
    refused = job.state == "failed" and not workers.is_crash(job)
    return job.arguments, (job.error or "") if refused else ""


def _earlier_job() -> JobRow | None:
    sweep_id = request.args.get("sweep", type=int)
    if sweep_id is not None:
        query = sa.select(JobRow).join(SweepRow, SweepRow.job_id == JobRow.id)
        found = db.session.scalar(query.where(SweepRow.id == sweep_id))
        return found or abort(404)
    try:
        job_id = UUID(request.args.get("job", ""))
    except ValueError:
        return None
    job = db.session.get(JobRow, job_id)
    if job is None or job.kind != "sweep":
        abort(404)
    return job


def _page(form: forms.SweepForm, type_: StrategyTypeRow, problem: str) -> str:
    return render_template("sweeps/new.html", problem=problem, **_shown(form, type_))


def _shown(form: forms.SweepForm, type_: StrategyTypeRow) -> dict[str, Any]:
    found = series.stored_series()
    return {
        "form": form,
        "type": type_,
        "types": _types(),
        "bounds": fields.bounds_text,
        "choices_of": forms.choices_of,
        "parameters": fields.parameters_of(type_.schema),
        "intervals": backtest_form.interval_choices(
            min((one.row.interval for one in found), default=86_400)
        ),
        "interval_key": forms.INTERVAL,
        "others": [e for e in fields.inputs_of(type_.schema) if e["name"] != forms.MAIN],
        "series_key": backtest_form.series_key,
        "stored": found,
        "choices": [(one.id, one.label) for one in found],
        "methods": forms.METHODS,
        "sizing_methods": fields.METHODS,
        "metrics": forms.metric_choices(with_none=False),
        "more_metrics": forms.metric_choices(with_none=True),
        "directions": forms.direction_choices(),
        "aggregates": list(forms.AGGREGATE_WORDS.items()),
        "intrabar": backtest_form.INTRABAR,
        "rules": backtest_form.RULES,
        "account": accounts.chosen(),
    }


def _types() -> list[StrategyTypeRow]:
    """Types that load, by name."""
    query = sa.select(StrategyTypeRow).where(StrategyTypeRow.error.is_(None))
    return list(db.session.scalars(query.order_by(StrategyTypeRow.origin, StrategyTypeRow.title)))


def _type(name: str) -> StrategyTypeRow | None:
    """The type by name; the first one to offer when none is named."""
    types = _types()
    if name:
        return next((t for t in types if t.name == name), None)
    return next((t for t in types if t.name == FIRST_TYPE), types[0] if types else None)


def _first_series() -> int | None:
    """The series of the address, or the first one to offer."""
    given = request.args.get("series", type=int)
    found = series.stored_series()
    if given is not None and any(one.id == given for one in found):
        return given
    return found[0].id if found else None
