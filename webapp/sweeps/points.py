"""The points of a sweep as a table: sorted, filtered and paged by PostgreSQL, its state in the address."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from flask import request, url_for

from shared.db.backtests import JobRow
from shared.db.sweeps import SweepPointRow, SweepRow
from shared.domain.objectives import by_luck, usual
from webapp.db import db
from webapp.paging import Slice, sliced
from webapp.sweeps import standing

ROWS: Final = 40
LAST: Final = -1e300
"""Stands for a number that is not defined: after all others, whichever way the list runs."""

FEW: Final = 10
"""Points below which nothing is said about luck."""

ORDER: Final = "order"
PLATEAU: Final = "plateau"
BEST: Final = "best"
ERRORS: Final = "errors"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table: `p.short_window`, `m.sharpe` or `plateau`."""

    key: str
    title: str
    metric: str = ""
    parameter: str = ""
    lower_first: bool = False
    is_wide: bool = False
    place: int = 0
    """Of the number among those of each series; 0 for the number over all of them."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A column held between two numbers, or to one word. `without_url` is the page without it."""

    column: Column
    text: str
    without_url: str


@dataclass(frozen=True, slots=True)
class Table:
    """One page of points. `sort` is a column's key; `way` 1 for the highest first, -1 for the lowest."""

    page: Slice[Any]
    columns: list[Column]
    sort: str
    way: int
    filters: list[Filter]
    only: str
    count: int
    runs: dict[tuple[int, int], JobRow]


def columns_of(sweep: SweepRow) -> list[Column]:
    """Parameters that vary, then metrics, then how much of a plateau it is once that is known."""
    ways = {objective.metric: objective.direction for objective in standing.objectives(sweep)}
    found = [
        Column(f"p.{axis['name']}", axis["name"].replace("_", " "), parameter=axis["name"])
        for axis in standing.varied(sweep)
    ]
    for place, metric in enumerate(sweep.metrics):
        way = ways.get(metric) or usual(metric)
        found.append(
            Column(
                f"m.{metric}",
                standing.metric_title(metric),
                metric=metric,
                lower_first=way == "minimize",
                is_wide=place >= len(ways),
            )
        )
    if sweep.method != "bayes" and sweep.state == "done":
        found.append(Column(PLATEAU, "Plateau"))
    return found


def mapped(sweep: SweepRow) -> list[Column]:
    """What a heat map can show: every number, and the objectives on each series where there are several."""
    found = [column for column in columns_of(sweep) if not column.parameter]
    wanted = {f"m.{objective.metric}": objective for objective in standing.objectives(sweep)}
    for number, series in enumerate(sweep.series if len(sweep.series) > 1 else ()):
        for column in found[: len(sweep.metrics)]:
            if column.key in wanted:
                place = number * len(sweep.metrics) + list(sweep.metrics).index(column.metric) + 1
                title = f"{column.title} on {series['name']}"
                key = f"{column.key}.{series['series_id']}"
                found.append(replace(column, key=key, title=title, place=place))
    return found


def value_of(sweep: SweepRow, column: Column) -> sa.ColumnElement[Any]:
    """A column as float8, NULL where there is none."""
    if column.place:
        return SweepPointRow.by_series[column.place]
    if column.metric:
        return SweepPointRow.numbers[list(sweep.metrics).index(column.metric) + 1]
    if column.parameter:
        return value_of_parameter(column.parameter)
    return sa.type_coerce(SweepPointRow.plateau, sa.Double)


def value_of_parameter(name: str) -> sa.ColumnElement[Any]:
    """A parameter as a number: yes is 1 and no 0; a word has none."""
    value = SweepPointRow.parameters[name]
    kind = sa.func.jsonb_typeof(value)
    text = value.astext
    return sa.case(
        (kind == "number", sa.cast(text, sa.Double)),
        (kind == "boolean", sa.case((text == "true", 1.0), else_=0.0)),
        else_=None,
    )


def place_of(name: str, values: Sequence[Any]) -> sa.ColumnElement[Any]:
    """The place of a parameter among its values, from 0, as SQL; NULL for one that is not there."""
    if are_numbers(values):
        known = sa.cast([float(value) for value in values], sa.ARRAY(sa.Double))
        return sa.func.array_position(known, value_of_parameter(name)) - 1
    words = sa.cast([word_of(value) for value in values], sa.ARRAY(sa.Text))
    return sa.func.array_position(words, SweepPointRow.parameters[name].astext) - 1


def is_value(name: str, value: Any) -> sa.ColumnElement[bool]:
    """Whether a parameter has this value, as SQL."""
    if are_numbers([value]):
        return value_of_parameter(name) == float(value)
    word: sa.ColumnElement[bool] = SweepPointRow.parameters[name].astext == word_of(value)
    return word


def are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def word_of(value: Any) -> str:
    """A value as an address tells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def table(sweep: SweepRow) -> Table:
    """The page of points the address asks for."""
    columns = columns_of(sweep)
    by_key = {column.key: column for column in columns}
    sort, way = _sorted(sweep, by_key)
    conditions, filters = _filters(sweep, columns)
    only = request.args.get("only", "")
    if only == BEST:
        conditions.append(SweepPointRow.is_best.is_(True))
    elif only == ERRORS:
        conditions.append(SweepPointRow.error.is_not(None))
    value = value_of(sweep, by_key[sort]) if sort in by_key else -sa.cast(_number(), sa.Double)
    key = sa.func.coalesce(value if way == 1 else -value, LAST)
    where = (SweepPointRow.sweep_id == sweep.id, *conditions)
    page = sliced(
        sa.select(SweepPointRow, key.label("key"), (-_number()).label("place")).where(*where),
        (key, -_number()),
        lambda row: (row.key, row.place),
        size=ROWS,
        endpoint="sweeps.page",
    )
    counted = sa.select(sa.func.count()).select_from(SweepPointRow).where(*where)
    return Table(
        page=page,
        columns=columns,
        sort=sort,
        way=way,
        filters=filters,
        only=only,
        count=db.session.scalar(counted) or 0,
        runs=_runs(sweep, [row.SweepPointRow.number for row in page.rows]),
    )


def _number() -> sa.ColumnElement[Any]:
    return SweepPointRow.__table__.c.number


def _sorted(sweep: SweepRow, columns: Mapping[str, Column]) -> tuple[str, int]:
    """(column, which way) as `?sort=` says; by the first objective when it says nothing."""
    first = f"m.{standing.objectives(sweep)[0].metric}"
    wanted = request.args.get("sort") or first
    name = wanted.lstrip("-")
    if name == ORDER:
        return ORDER, 1 if wanted == ORDER else -1
    if name not in columns:
        wanted = name = first
    is_turned = wanted.startswith("-")
    return name, -1 if columns[name].lower_first != is_turned else 1


def _filters(
    sweep: SweepRow, columns: Sequence[Column]
) -> tuple[list[sa.ColumnElement[bool]], list[Filter]]:
    """`min.<column>`, `max.<column>` and `is.<column>` of the address."""
    conditions: list[sa.ColumnElement[bool]] = []
    shown = []
    for column in columns:
        low, high = (_limit(f"{end}.{column.key}") for end in ("min", "max"))
        word = request.args.get(f"is.{column.key}", "")
        value = value_of(sweep, column)
        if low is not None:
            conditions.append(value >= low)
        if high is not None:
            conditions.append(value <= high)
        if word and column.parameter:
            conditions.append(SweepPointRow.parameters[column.parameter].astext == word)
        if low is not None or high is not None or word:
            text = _filter_text(column, low, high, word)
            shown.append(Filter(column, text, _without(column.key)))
    return conditions, shown


def _limit(name: str) -> float | None:
    try:
        number = float(request.args.get(name, ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _filter_text(column: Column, low: float | None, high: float | None, word: str) -> str:
    def told(value: float) -> str:
        if column.metric:
            return standing.metric_text(column.metric, value)
        return f"{value:.0%}" if column.key == PLATEAU else f"{value:.6g}"

    if word:
        return f"{column.title} is {word.replace('_', ' ')}"
    if low is not None and high is not None:
        return f"{column.title} {told(low)} to {told(high)}"
    return (
        f"{column.title} from {told(low)}"
        if low is not None
        else f"{column.title} up to {told(high or 0)}"
    )


def _without(key: str) -> str:
    gone = {f"{end}.{key}" for end in ("min", "max", "is")} | {"before", "v"}
    kept = {k: v for k, v in request.args.items() if k not in gone}
    return url_for("sweeps.page", **{**(request.view_args or {}), **kept})


# --- full runs --------------------------------------------------------------------------------------


def run_key(sweep_id: int, number: int, series_id: int) -> str:
    """The request key of a point's full run: pressed twice, it is one job."""
    return f"sweep-point:{sweep_id}:{number}:{series_id}"


def _runs(sweep: SweepRow, numbers: Sequence[int]) -> dict[tuple[int, int], JobRow]:
    """Jobs of full runs that were asked for, by (point, series)."""
    places = {
        run_key(sweep.id, number, int(one["series_id"])): (number, int(one["series_id"]))
        for number in numbers
        for one in sweep.series
    }
    if not places:
        return {}
    query = sa.select(JobRow).where(JobRow.request_key.in_(places))
    return {places[str(job.request_key)]: job for job in db.session.scalars(query)}


# --- the best, and all of them ----------------------------------------------------------------------


def best(sweep: SweepRow, limit: int = 8) -> list[SweepPointRow]:
    """The points that are best: those no other beats once it is ranked, else the highest so far."""
    column = value_of(sweep, columns_of(sweep)[len(standing.varied(sweep))])
    objective = standing.objectives(sweep)[0]
    query = sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id, column.is_not(None))
    if len(sweep.objectives) > 1 and sweep.state == "done":
        query = query.where(SweepPointRow.is_best)
    order = column.desc() if objective.sign > 0 else column.asc()
    return list(db.session.scalars(query.order_by(order, SweepPointRow.number).limit(limit)))


def luck(sweep: SweepRow) -> float | None:
    """The Sharpe ratio that the best of as many worthless combinations would show by luck; None for other numbers."""
    if standing.objectives(sweep)[0].metric != "sharpe" or sweep.state != "done":
        return None
    value = SweepPointRow.numbers[1]
    query = sa.select(sa.func.count(value), sa.func.stddev_samp(value)).where(
        SweepPointRow.sweep_id == sweep.id
    )
    count, deviation = db.session.execute(query).one()
    return None if count < FEW or deviation is None else by_luck(float(deviation), count)


@dataclass(frozen=True, slots=True)
class Tried:
    """How many combinations were tried, and the variance of their yearly Sharpe ratios; None of too few."""

    count: int
    variance: float | None


def tried(sweep: SweepRow, series_id: int) -> Tried:
    """What a point's full run on a series is chosen from: those that failed were tried, too.

    Of a sweep that still goes on, all that it is going to try; they scatter as those so far.
    """
    value = _sharpe_on(sweep, series_id)
    query = sa.select(sa.func.count(), sa.func.count(value), sa.func.var_samp(value)).where(
        SweepPointRow.sweep_id == sweep.id
    )
    done, known, variance = db.session.execute(query).one()
    goes_on = sweep.state != "done" and sweep.wanted == "running"
    count = max(done, sweep.total) if goes_on else done
    return Tried(max(count, 1), None if known < FEW else float(variance))


def _sharpe_on(sweep: SweepRow, series_id: int) -> sa.ColumnElement[Any]:
    place = list(sweep.metrics).index("sharpe") + 1
    if len(sweep.series) < 2:
        return SweepPointRow.numbers[place]
    number = [int(one["series_id"]) for one in sweep.series].index(series_id)
    return SweepPointRow.by_series[number * len(sweep.metrics) + place]


def every(sweep: SweepRow) -> Iterator[list[Any]]:
    """All points as rows of a file, head first, in the order of their numbers."""
    names = [axis["name"] for axis in sweep.space]
    several = [one["name"] for one in sweep.series] if len(sweep.series) > 1 else []
    each = [f"{metric} on {name}" for name in several for metric in sweep.metrics]
    yield ["number", *names, *sweep.metrics, "plateau", "is_best", "error", *each]
    query = (
        sa.select(SweepPointRow)
        .where(SweepPointRow.sweep_id == sweep.id)
        .order_by(SweepPointRow.number)
        .execution_options(yield_per=2000)
    )
    for point in db.session.scalars(query):
        values = [point.parameters.get(name) for name in names]
        rank = [point.plateau, "yes" if point.is_best else "", point.error]
        yield [point.number, *values, *point.numbers, *rank, *(point.by_series or ())]
