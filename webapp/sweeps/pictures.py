"""The numbers of a sweep's pictures: a heat map of two parameters, and a line a point over all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from flask import Response, abort, render_template, request

from shared.db.sweeps import SweepPointRow, SweepRow
from webapp import auth
from webapp.charts import json_answer
from webapp.db import db
from webapp.partials import partial
from webapp.sweeps import points, standing
from webapp.sweeps.blueprint import bp

BINS: Final = 24
"""Columns that a range without steps, or one of very many values, is drawn in; fewer for few points."""

FEWEST_BINS: Final = 6
MOST_VALUES: Final = 128

LINES: Final = 1500
BEST_LINES: Final = 500
WAYS: Final = {"best": "best", "mean": "mean", "fixed": "at the best point"}


# --- heat map ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the map: a parameter and the values or bins along it."""

    name: str
    labels: list[str]
    edges: list[float]
    """Of bins; empty where each value has a place of its own."""

    values: list[Any]

    def place(self) -> sa.ColumnElement[Any]:
        """A point's place along this side, from 0; as SQL."""
        if self.edges:
            low, high, bins = self.edges[0], self.edges[-1], len(self.edges) - 1
            bucket = sa.func.width_bucket(
                points.value_of_parameter(self.name), low, high + (high - low) * 1e-9, bins
            )
            return bucket - 1
        return points.place_of(self.name, self.values)


def side_of(sweep: SweepRow, axis: Mapping[str, Any]) -> Side:
    """A place for each value of a grid; bins wide enough to hold points where they lie anywhere."""
    name = str(axis["name"])
    values = list(axis.get("values") or [])
    is_grid = sweep.method == "grid"
    bins = BINS if is_grid else min(BINS, max(FEWEST_BINS, math.isqrt(sweep.planned)))
    most = MOST_VALUES if is_grid or not points.are_numbers(values) else bins
    if values and len(values) <= most:
        return Side(name, [standing.value_text(value) for value in values], [], values)
    low = float(axis["low"]) if not values else float(min(values))
    high = float(axis["high"]) if not values else float(max(values))
    edges = [low + (high - low) * number / bins for number in range(bins + 1)]
    is_whole = bool(values) and all(isinstance(value, int) for value in values)
    labels = [_bin_text(edges[n], edges[n + 1], is_whole=is_whole) for n in range(bins)]
    return Side(name, labels, edges, [])


def _bin_text(low: float, high: float, *, is_whole: bool) -> str:
    if is_whole:
        low, high = math.ceil(low), math.floor(high)
    return f"{low:.4g} to {high:.4g}"


@dataclass(frozen=True, slots=True)
class Map:
    """Which two parameters, which number, and what becomes of the others."""

    x: dict[str, Any]
    y: dict[str, Any] | None
    column: points.Column
    way: str
    held: dict[str, Any]
    """Parameters held at a value, by name."""


def chosen(sweep: SweepRow) -> Map | None:
    """What the address asks for, sensible where it says nothing; None with nothing that varies."""
    axes = {axis["name"]: axis for axis in standing.varied(sweep)}
    if not axes:
        return None
    names = list(axes)
    # The longest two sides make the best picture.
    names.sort(key=lambda name: -len(axes[name].get("values") or range(BINS)))
    x = request.args.get("x", "")
    x = x if x in axes else names[0]
    y = request.args.get("y", "")
    rest = [name for name in names if name != x]
    y = y if y in rest else (rest[0] if rest else "")
    by_key = {column.key: column for column in points.mapped(sweep)}
    key = request.args.get("value", "")
    column = by_key.get(key) or next(iter(by_key.values()))
    way = request.args.get("way", "best")
    way = way if way in WAYS else "best"
    others = [name for name in axes if name not in (x, y)]
    held = _held(sweep, [axes[name] for name in others]) if way == "fixed" else {}
    return Map(axes[x], axes.get(y), column, way, held)


def _held(sweep: SweepRow, axes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The other parameters at the values of the address, or of the best point."""
    best = points.best(sweep, 1)
    held = {}
    for axis in axes:
        name = axis["name"]
        wanted = request.args.get(f"at.{name}", "")
        known = {points.word_of(value): value for value in axis.get("values") or []}
        if wanted in known:
            held[name] = known[wanted]
        elif best:
            held[name] = best[0].parameters[name]
    return held


@bp.get("/<int:sweep_id>/heat.json")
@auth.viewer
def heat(sweep_id: int) -> Response:
    """{"x", "y", "cells": [[value or null, ...] a row of y], "points": the same of counts, ...}."""
    sweep = standing.sweep_of(sweep_id)
    asked = chosen(sweep)
    if asked is None:
        abort(404)
    x, y = _sides(sweep, asked)
    cells, counts = _cells(sweep, asked, x, y)
    return json_answer(
        {
            "x": {"title": x.name.replace("_", " "), "labels": x.labels, "name": x.name},
            "y": {"title": y.name.replace("_", " "), "labels": y.labels, "name": y.name}
            if y
            else None,
            "cells": cells,
            "points": counts,
            "title": asked.column.title,
            "unit": "%" if asked.column.key == points.PLATEAU else _unit(asked.column),
            "lower": asked.column.lower_first,
            "binned": [bool(x.edges), bool(y and y.edges)],
            "edges": [x.edges, y.edges if y else []],
            "values": [
                [points.word_of(v) for v in x.values],
                [points.word_of(v) for v in y.values] if y else [],
            ],
        }
    )


def _sides(sweep: SweepRow, asked: Map) -> tuple[Side, Side | None]:
    return side_of(sweep, asked.x), side_of(sweep, asked.y) if asked.y else None


def _unit(column: points.Column) -> str:
    return standing.metric_unit(column.metric)


def _cells(
    sweep: SweepRow, asked: Map, x: Side, y: Side | None
) -> tuple[list[list[float | None]], list[list[int]]]:
    value = points.value_of(sweep, asked.column)
    if asked.way == "mean":
        made = sa.func.avg(value)
    else:
        made = sa.func.min(value) if asked.column.lower_first else sa.func.max(value)
    at_x, at_y = x.place(), y.place() if y else sa.literal(0)
    query = (
        sa.select(at_x, at_y, made, sa.func.count())
        .where(SweepPointRow.sweep_id == sweep.id, *_holding(asked))
        .group_by(sa.text("1"), sa.text("2"))
    )
    rows = len(y.labels) if y else 1
    cells: list[list[float | None]] = [[None] * len(x.labels) for _ in range(rows)]
    counts = [[0] * len(x.labels) for _ in range(rows)]
    for column, row, number, count in db.session.execute(query):
        if column is None or row is None or not (0 <= column < len(x.labels) and 0 <= row < rows):
            continue
        cells[row][column] = None if number is None else float(number)
        counts[row][column] = count
    return cells, counts


def _holding(asked: Map) -> list[sa.ColumnElement[bool]]:
    return [points.is_value(name, value) for name, value in asked.held.items()]


@bp.get("/<int:sweep_id>/heat/table")
@auth.viewer
def heat_table(sweep_id: int) -> Response:
    """The map's numbers as a table."""
    sweep = standing.sweep_of(sweep_id)
    asked = chosen(sweep)
    if asked is None:
        abort(404)
    x, y = _sides(sweep, asked)
    cells, _ = _cells(sweep, asked, x, y)
    return partial(
        render_template(
            "sweeps/_heat_table.html", x=x, y=y, cells=cells, told=lambda v: told(asked.column, v)
        )
    )


def told(column: points.Column, value: float | None) -> str:
    """A number of a column as a person reads it."""
    if column.key == points.PLATEAU:
        return "—" if value is None else f"{value:.0%}"
    return standing.metric_text(column.metric, value)


# --- lines ------------------------------------------------------------------------------------------


@bp.get("/<int:sweep_id>/lines.json")
@auth.viewer
def lines(sweep_id: int) -> Response:
    """{"axes": [{"key", "title", "unit", "low", "high"[, "labels"]}], "lines": [[number, value of each axis]]}.

    The best points and an even selection of the others: `shown` of `all`.
    """
    sweep = standing.sweep_of(sweep_id)
    columns = _line_columns(sweep)
    values = [_line_value(sweep, column) for column in columns]
    rows, whole = _line_rows(sweep, values)
    axes = [_line_axis(sweep, column, place, rows) for place, column in enumerate(columns)]
    objective = standing.objectives(sweep)[0]
    return json_answer(
        {
            "axes": axes,
            "lines": rows,
            "shown": len(rows),
            "all": whole,
            "color": next(place for place, c in enumerate(columns) if c.metric == objective.metric),
            "lower": objective.sign < 0,
        }
    )


def _line_columns(sweep: SweepRow) -> list[points.Column]:
    """What varies, and what it is judged by; further numbers are in the table."""
    shown = {objective.metric for objective in standing.objectives(sweep)}
    shown |= {"max_drawdown", "trades"} if len(shown) < 3 else set()
    return [
        column
        for column in points.columns_of(sweep)
        if column.parameter or column.metric in shown or column.key == points.PLATEAU
    ]


def _line_value(sweep: SweepRow, column: points.Column) -> sa.ColumnElement[Any]:
    """A word stands at its place among the values of its axis."""
    if _labels(sweep, column) is None:
        return points.value_of(sweep, column)
    return sa.cast(points.place_of(column.parameter, _values(sweep, column)), sa.Double)


def _values(sweep: SweepRow, column: points.Column) -> list[Any]:
    axis = next((a for a in sweep.space if a["name"] == column.parameter), None)
    return list((axis or {}).get("values") or [])


def _labels(sweep: SweepRow, column: points.Column) -> list[str] | None:
    """The words of an axis that has no numbers."""
    values = _values(sweep, column)
    if not values or points.are_numbers(values):
        return None
    return [standing.value_text(value) for value in values]


def _line_rows(
    sweep: SweepRow, values: Sequence[sa.ColumnElement[Any]]
) -> tuple[list[list[Any]], int]:
    own = SweepPointRow.sweep_id == sweep.id
    whole = db.session.scalar(sa.select(sa.func.count()).where(own)) or 0
    objective = standing.objectives(sweep)[0]
    first = SweepPointRow.numbers[1]
    select = sa.select(SweepPointRow.number, *values).where(own)
    order = first.desc() if objective.sign > 0 else first.asc()
    best = db.session.execute(
        select.where(first.is_not(None)).order_by(order, SweepPointRow.number).limit(BEST_LINES)
    )
    found = {row[0]: list(row) for row in best}
    every = max(1, math.ceil(whole / (LINES - BEST_LINES)))
    some = select.where(SweepPointRow.number % every == 0, SweepPointRow.error.is_(None))
    found |= {row[0]: list(row) for row in db.session.execute(some.limit(LINES))}
    return [found[number] for number in sorted(found)], whole


def _line_axis(
    sweep: SweepRow, column: points.Column, place: int, rows: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    known = [row[place + 1] for row in rows if row[place + 1] is not None]
    axis: dict[str, Any] = {
        "key": column.key,
        "title": column.title,
        "unit": "%" if column.key == points.PLATEAU else _unit(column),
        "low": min(known, default=0.0),
        "high": max(known, default=1.0),
    }
    if (labels := _labels(sweep, column)) is not None:
        axis |= {"labels": labels, "low": 0, "high": len(labels) - 1}
    elif column.parameter:
        given = next(a for a in sweep.space if a["name"] == column.parameter)
        values = given.get("values") or [given["low"], given["high"]]
        axis |= {"low": min(values), "high": max(values), "whole": isinstance(values[0], int)}
    return axis
