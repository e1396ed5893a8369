"""The job that begins a sweep: everything is looked up and checked, and the first chunks are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from engine import catalogue, series_content
from engine.backtest.job import Asked, look_up
from engine.strategies.base import BadParameter, BaseStrategy, Param
from engine.strategies.registry import NoSuchStrategy
from engine.sweeping import advancing, plans, proposing
from engine.work import JobRefused, Work
from shared.db.market import SeriesRow
from shared.db.sweeps import SweepRow
from shared.domain.market import interval_text
from shared.domain.objectives import (
    AGGREGATES,
    BadObjective,
    Objective,
    kept,
    objectives_from,
)
from shared.domain.space import (
    METHODS,
    MOST_POINTS,
    MOST_TRIALS,
    Axis,
    BadSpace,
    Combination,
    Keep,
    Space,
    drawn,
    grid,
    space_from,
)
from shared.jobs import BacktestRequest, SweepRequest

MOST_RUNS: Final = 500_000
"""Combinations times series."""

MAIN: Final = "main"


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with everything looked up: what is searched, by what, on what, and the first combinations."""

    space: Space
    objectives: tuple[Objective, ...]
    series: list[dict[str, Any]]
    simulated: bool
    code_hash: str
    combinations: list[Combination]
    total: int
    excluded: int


def run(request: SweepRequest, work: Work) -> dict[str, Any]:
    """The body of a sweep's job; {"sweep_id", "link", "text"}."""
    work.progress(0.0, "reading bars")
    with work.sessions() as session:
        series_content.one_moment(session)
        plan = planned(session, request)
    with work.sessions() as session:
        work.hold(session)
        row = _row(request, plan, work)
        session.add(row)
        session.flush()
        answer = {
            "sweep_id": row.id,
            "link": f"/research/sweeps/{row.id}",
            "text": f"{plan.total:,} combinations planned",
        }
        work.finish(session, answer)
        workers = advancing.workers_alive(work.settings)
        asked = advancing.advance(session, row.id, workers)
        session.commit()
    advancing.wake(work.settings, asked)
    return answer


def planned(session: Session, request: SweepRequest) -> Plan:
    """Everything of a request looked up; JobRefused names what cannot be, and what to give instead."""
    base = _base(request)
    cls, code_hash = _strategy(session, base)
    try:
        objectives = objectives_from(request.objectives)
        space = typed(space_from(_axes(cls, base, request), request.constraints), cls)
        refusals = Refusals(cls)
        combinations = _first(request, space, refusals.keep)
    except (BadSpace, BadObjective, BadParameter) as error:
        raise JobRefused(str(error)) from error
    _check(request, combinations, refusals)
    total = request.trials if request.method == "bayes" else len(combinations)
    series = [_series(session, base, code_hash, i, combinations[0]) for i in _ids(request, total)]
    return Plan(
        space=space,
        objectives=objectives,
        series=[one for one, _ in series],
        simulated=any(asked.simulated for _, asked in series),
        code_hash=code_hash,
        combinations=combinations,
        total=total,
        excluded=refusals.count if request.method == "grid" else 0,
    )


def _base(request: SweepRequest) -> BacktestRequest:
    try:
        return BacktestRequest(**{"parameters": {}, "inputs": {}, **request.base})
    except TypeError as error:
        raise JobRefused(f"base: {error}") from error


def _strategy(session: Session, base: BacktestRequest) -> tuple[type[BaseStrategy], str]:
    connection = session.connection()
    try:
        code_hash = base.code_hash or catalogue.newest_hash(connection, base.strategy_type)
        return catalogue.strategy_class(connection, base.strategy_type, code_hash), code_hash
    except NoSuchStrategy as error:
        raise JobRefused(str(error)) from error


def _axes(
    cls: type[BaseStrategy], base: BacktestRequest, request: SweepRequest
) -> list[Mapping[str, Any]]:
    """What varies in the order it was given, then what stays: constraints may speak of all parameters."""
    varied = {str(axis.get("name", "")) for axis in request.space}
    fixed = {name: param.default for name, param in cls.params().items()} | base.parameters
    stays = [{"name": name, "values": [v]} for name, v in fixed.items() if name not in varied]
    return [*request.space, *stays]


def typed(space: Space, cls: type[BaseStrategy]) -> Space:
    """Every value of every axis as its parameter has it, inside its bounds."""
    declared = cls.params()
    for axis in space.axes:
        if axis.name not in declared:
            known = ", ".join(declared) or "none"
            raise BadSpace(axis.name, f"is no parameter here (known: {known})")
    return replace(space, axes=tuple(_typed_axis(axis, declared[axis.name]) for axis in space.axes))


def _typed_axis(axis: Axis, param: Param) -> Axis:
    if not axis.is_continuous:
        return replace(axis, values=tuple(dict.fromkeys(map(param.check, axis.values))))
    if param.type == "int":
        raise BadSpace(axis.name, "is a whole number: give whole ends, or a step")
    if param.type != "float":
        raise BadSpace(axis.name, "is no number: give the values to try, such as a,b")
    return replace(axis, low=param.check(axis.low), high=param.check(axis.high))


class Refusals:
    """Asks the strategy itself whether parameters go together, and counts those that do not."""

    def __init__(self, cls: type[BaseStrategy]) -> None:
        self._cls = cls
        self.count = 0
        self.last = ""

    def keep(self, combination: Combination) -> bool:
        """What fails for any other reason is tried, so that its error stands with its numbers."""
        try:
            self._cls(combination, {})
        except BadParameter as error:
            self.count += 1
            self.last = str(error)
            return False
        except Exception:  # noqa: S110  (a strategy's own code: its run will say what is wrong)
            pass
        return True


def _first(request: SweepRequest, space: Space, keep: Keep) -> list[Combination]:
    if request.method not in METHODS:
        raise BadSpace("method", f"{request.method!r} is not one of {', '.join(METHODS)}")
    if request.method == "grid":
        return grid(space, keep)
    most = MOST_TRIALS[request.method]
    if not 1 <= request.trials <= most:
        raise BadSpace("trials", f"{request.trials:,} must be from 1 to {most:,}")
    if request.method == "random":
        return drawn(space, request.trials, request.seed, keep)
    wanted = min(proposing.BATCH, request.trials)
    return proposing.propose(space, (), (), (), request.seed, wanted, keep)


def _check(request: SweepRequest, combinations: list[Combination], refusals: Refusals) -> None:
    if request.aggregate not in AGGREGATES:
        raise JobRefused(f"aggregate: {request.aggregate!r} is not one of {', '.join(AGGREGATES)}")
    if not combinations:
        why = f" The strategy refuses the others: {refusals.last}." if refusals.last else ""
        raise JobRefused(f"space: no combination is left; widen a range or drop a constraint.{why}")
    if len(combinations) > MOST_POINTS:
        raise JobRefused(f"space: {len(combinations):,} combinations are more than {MOST_POINTS:,}")


def _ids(request: SweepRequest, total: int) -> list[int]:
    ids = list(dict.fromkeys(request.series_ids))
    if not ids:
        raise JobRefused("main: choose at least one series to search on")
    if total * len(ids) > MOST_RUNS:
        raise JobRefused(
            f"space: {total:,} combinations on {len(ids)} series are more than {MOST_RUNS:,} runs; "
            "give larger steps or fewer series"
        )
    return ids


def _series(
    session: Session,
    base: BacktestRequest,
    code_hash: str,
    series_id: int,
    combination: Combination,
) -> tuple[dict[str, Any], Asked]:
    """One series as the sweep keeps it: up to which bar, and the hashes its bars must have in every chunk."""
    row = session.get(SeriesRow, series_id)
    last = row.last_closed_at if row is not None else None
    ends_at = base.ends_at or (last.isoformat() if isinstance(last, datetime) else "")
    asked = looked_up(session, replace(base, ends_at=ends_at), code_hash, series_id, combination)
    main = asked.inputs[MAIN]
    kept_of = ("series_id", "instrument_id", "symbol", "interval", "source")
    return {
        **{name: main[name] for name in kept_of},
        "name": f"{main['symbol']} {interval_text(int(main['interval']))}",
        "ends_at": ends_at,
        "bars": len(asked.specification.bars[MAIN]),
        "hashes": {key: one["used_hash"] for key, one in asked.inputs.items()},
    }, asked


def looked_up(
    session: Session,
    base: BacktestRequest,
    code_hash: str,
    series_id: int,
    combination: Mapping[str, Any],
) -> Asked:
    """The run of one combination on one series, looked up."""
    return look_up(session, request_for(base, code_hash, series_id, combination))


def request_for(
    base: BacktestRequest, code_hash: str, series_id: int, combination: Mapping[str, Any]
) -> BacktestRequest:
    main = {**base.inputs.get(MAIN, {}), "series_id": series_id, "trades": True}
    return replace(
        base,
        parameters=dict(combination),
        inputs={**base.inputs, MAIN: main},
        code_hash=code_hash,
    )


def _row(request: SweepRequest, plan: Plan, work: Work) -> SweepRow:
    return SweepRow(
        job_id=work.job_id,
        title=work.title,
        strategy_type=request.base["strategy_type"],
        code_hash=plan.code_hash,
        method=request.method,
        seed=request.seed,
        base=asdict(replace(_base(request), code_hash=plan.code_hash)),
        space=[axis.as_json() for axis in plan.space.axes],
        constraints=[constraint.text for constraint in plan.space.constraints],
        objectives=[objective.as_json() for objective in plan.objectives],
        metrics=list(kept(plan.objectives)),
        aggregate=request.aggregate,
        series=plan.series,
        total=plan.total,
        planned=len(plan.combinations),
        excluded=plan.excluded,
        simulated=plan.simulated,
        plan=plans.pack(plan.combinations),
        requested_by=work.actor,
    )
