"""The form of a sweep: from what was typed to a request, with every problem beside its field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.domain.objectives import (
    AGGREGATES,
    DIRECTIONS,
    METRICS,
    MOST_OBJECTIVES,
    BadObjective,
    objectives_from,
    usual,
)
from shared.domain.space import (
    MOST_POINTS,
    MOST_TRIALS,
    BadSpace,
    Space,
    axis_from,
    count,
    parse_constraint,
    space_from,
)
from shared.jobs import SweepRequest, encode
from webapp import backtest_form, fields
from webapp.formats import plural, quantity
from webapp.series import Stored

METHODS: Final = (
    ("grid", "Grid", "Every combination."),
    ("random", "Random", "As many as you say, drawn evenly."),
    ("bayes", "Bayesian", "In batches, each learning from the last."),
)
AGGREGATE_WORDS: Final = {
    "mean": "their mean",
    "median": "their median",
    "worst": "the worst of them",
}
DIRECTION_WORDS: Final = {"maximize": "as high as can be", "minimize": "as low as can be"}
DEFAULTS: Final = {
    "method": "grid",
    "trials": "200",
    "seed": "1",
    "aggregate": "mean",
    "constraints": "",
}
MAIN: Final = "main"
INTERVAL: Final = backtest_form.interval_key(MAIN)
FROM: Final = "from."
TO: Final = "to."
STEP: Final = "step."
PICK: Final = "pick."
FEW: Final = 2
"""Parameters that a fresh form varies."""


@dataclass(slots=True)
class SweepForm:
    """What the page shows. `request` is None while there are problems."""

    type: str
    schema: fields.Schema
    base: backtest_form.BacktestForm
    entered: dict[str, str]
    picked: dict[str, list[str]]
    series: list[str]
    problems: dict[str, str] = field(default_factory=dict)
    request: SweepRequest | None = None
    size: Size | None = None

    @property
    def all_problems(self) -> dict[str, str]:
        return {**self.base.all_problems, **self.problems}

    def refused(self, reason: str) -> str:
        """Put a worker's reason beside the field it names; what is left to say above the form."""
        name, colon, text = reason.partition(":")
        key = _FIELD_OF.get(name, FROM + name)
        if not colon or key not in {*self.entered, "series", "constraints", "space"}:
            return reason
        self.problems[key] = text.strip()
        return ""


_FIELD_OF: Final = {"main": "series", "trials": "trials", "space": "space", "capital": "capital"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much a sweep would be. `text` is the sentence, `problem` why it cannot be."""

    points: int
    series: int
    text: str
    problem: str = ""


# --- shown ------------------------------------------------------------------------------------------


def shown(
    type_name: str,
    schema: fields.Schema,
    asked: Mapping[str, Any] | None = None,
    *,
    first_series: int | None = None,
) -> SweepForm:
    """The form as `asked` (a request as JSON) has it, sensible ranges for what it does not say."""
    given = asked or {}
    base = dict(given.get("base") or {})
    form = backtest_form.shown(type_name, schema, base or None, first_series=first_series)
    entered = {**DEFAULTS, **_objectives_shown(given)}
    for name in ("method", "aggregate"):
        entered[name] = str(given.get(name) or entered[name])
    for name in ("trials", "seed"):
        entered[name] = str(given.get(name) or entered[name])
    entered["constraints"] = "\n".join(given.get("constraints") or [])
    picked: dict[str, list[str]] = {}
    axes = {str(axis["name"]): axis for axis in given.get("space") or []}
    fixed = base.get("parameters") or {}
    varied = 0
    for entry in fields.parameters_of(schema):
        name = entry["name"]
        axis = axes.get(name) or ({"values": [fixed[name]]} if name in fixed else None)
        if axis is None:
            axis = _offered(entry) if varied < FEW else {"values": [entry["default"]]}
            varied += "low" in axis
        _show_axis(entry, axis, entered, picked)
    ids = given.get("series_ids") or ([first_series] if first_series else [])
    return SweepForm(type_name, schema, form, entered, picked, [str(i) for i in ids])


def _objectives_shown(given: Mapping[str, Any]) -> dict[str, str]:
    entered = {}
    objectives = given.get("objectives") or [{"metric": "sharpe"}]
    for place in range(MOST_OBJECTIVES):
        one = objectives[place] if place < len(objectives) else {}
        metric = str(one.get("metric") or "")
        entered[f"objective.{place}"] = metric
        entered[f"direction.{place}"] = str(one.get("direction") or usual(metric))
    return entered


def _show_axis(
    entry: Mapping[str, Any],
    axis: Mapping[str, Any],
    entered: dict[str, str],
    picked: dict[str, list[str]],
) -> None:
    name = entry["name"]
    if entry["type"] in ("bool", "choice"):
        picked[name] = [_pick_text(value) for value in axis.get("values") or []]
        return
    entered |= {FROM + name: "", TO + name: "", STEP + name: ""}
    if "values" in axis:
        entered[FROM + name] = ", ".join(fields.text_of(value) for value in axis["values"])
        return
    for key, part in ((FROM, "low"), (TO, "high"), (STEP, "step")):
        entered[key + name] = fields.text_of(axis.get(part))


def _offered(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A range around the default, about ten steps wide; of what is no number, the default alone."""
    default = entry["default"]
    if entry["type"] not in ("int", "float") or not default:
        return {"values": [default]}
    low, high = sorted((default / 2, default * 2))
    for key, pick in (("ge", max), ("gt", max), ("le", min), ("lt", min)):
        limit = entry.get(key)
        if limit is not None:
            low, high = (pick(low, limit), high) if pick is max else (low, pick(high, limit))
    step = _round_step((high - low) / 8)
    if entry["type"] == "int":
        step = max(1, round(step))
        low = max(math.ceil(low), step if low >= step else math.ceil(low))
        return {"low": int(low), "high": int(high), "step": step}
    return {"low": round(low, 12), "high": round(high, 12), "step": step}


def _round_step(width: float) -> float:
    """1, 2 or 5 times a power of ten, near `width`."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    nearest = min((1, 2, 5, 10), key=lambda step: abs(step * power - width))
    return round(nearest * power, 12)


# --- read -------------------------------------------------------------------------------------------


def read(
    type_name: str,
    schema: fields.Schema,
    form: Mapping[str, str],
    lists: Mapping[str, Sequence[str]],
    stored: Mapping[int, Stored],
    account_policy: Mapping[str, Any],
) -> SweepForm:
    """A submitted form; `lists` are the fields that may be given several times."""
    chosen = list(dict.fromkeys(lists.get("series", ())))
    base = backtest_form.read(
        type_name, schema, _as_backtest(schema, form, chosen), stored, account_policy
    )
    entered = {name: form.get(name, default).strip() for name, default in DEFAULTS.items()}
    for place in range(MOST_OBJECTIVES):
        for key in (f"objective.{place}", f"direction.{place}"):
            entered[key] = form.get(key, "").strip()
    made = SweepForm(type_name, schema, base, entered, {}, chosen)
    _read_series(made, stored)
    objectives = _read_objectives(made)
    axes = _read_axes(made, form, lists)
    numbers = _read_numbers(made)
    space = _read_space(made, axes)
    if space is not None:
        made.size = sized(space, entered["method"], numbers.get("trials", 0), len(chosen))
        if made.size.problem:
            made.problems["space"] = made.size.problem
    if not made.all_problems and base.request is not None and space is not None:
        made.request = _request(made, axes, objectives, numbers)
    return made


def _as_backtest(
    schema: fields.Schema, form: Mapping[str, str], chosen: Sequence[str]
) -> dict[str, str]:
    """What the form says beside its search, as a backtest's form says it."""
    given = {**backtest_form.DEFAULTS, **form}
    given |= {
        fields.PARAMETER + entry["name"]: fields.text_of(entry["default"])
        for entry in fields.parameters_of(schema)
    }
    if chosen:
        given[backtest_form.series_key(MAIN)] = chosen[0]
    return given


def _read_series(made: SweepForm, stored: Mapping[int, Stored]) -> None:
    key = backtest_form.series_key(MAIN)
    made.base.problems.pop(key, None)  # told once, beside the list
    if not made.series:
        made.problems["series"] = "No series is chosen: choose at least one to search on."
    elif any(not i.isdecimal() or int(i) not in stored for i in made.series):
        made.problems["series"] = "One of these series is not there any more: choose others."
    elif interval := made.base.entered.get(INTERVAL, ""):
        for chosen in (stored[int(i)] for i in made.series):
            known = (chosen.row.interval, *backtest_form.longer(chosen.row.interval))
            if interval not in map(str, known):
                made.problems[INTERVAL] = (
                    f"Bars of {chosen.name} cannot be made into these: choose as stored"
                )


def _read_objectives(made: SweepForm) -> list[dict[str, Any]]:
    given = [
        {"metric": metric, "direction": made.entered[f"direction.{place}"] or usual(metric)}
        for place in range(MOST_OBJECTIVES)
        if (metric := made.entered[f"objective.{place}"])
    ]
    try:
        return [objective.as_json() for objective in objectives_from(given)]
    except BadObjective as error:
        made.problems["objective.0"] = str(error).partition(":")[2].strip()
        return []


def _read_axes(
    made: SweepForm, form: Mapping[str, str], lists: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Every parameter as an axis, in the order the type declares them."""
    axes = []
    for entry in fields.parameters_of(made.schema):
        name = entry["name"]
        if entry["type"] in ("bool", "choice"):
            made.picked[name] = list(lists.get(PICK + name, ()))
        else:
            for key in (FROM + name, TO + name, STEP + name):
                made.entered[key] = form.get(key, "").strip()
        try:
            axes.append({"name": name, **_read_axis(made, entry)})
        except ValueError as error:
            made.problems[FROM + name] = str(error)
    return axes


def _read_axis(made: SweepForm, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One parameter's values; ValueError with a sentence for its field."""
    name = entry["name"]
    if entry["type"] in ("bool", "choice"):
        if not made.picked[name]:
            raise ValueError("nothing is chosen: choose at least one value")
        return {"values": [_picked(entry, text) for text in made.picked[name]]}
    first, last, step = (made.entered[key + name] for key in (FROM, TO, STEP))
    if not last:
        return {"values": [_typed(entry, part.strip()) for part in first.split(",")]}
    ends = {"low": _typed(entry, first), "high": _typed(entry, last)}
    if entry["type"] not in ("int", "float"):
        raise ValueError(f"{last}: words have no range; write the values with commas between them")
    return {**ends, "step": _step(entry, step)} if step else ends


def _typed(entry: Mapping[str, Any], text: str) -> Any:
    """A value inside the parameter's bounds."""
    key = fields.PARAMETER + entry["name"]
    form = fields.read_parameters([entry], {key: text})
    if key in form.problems:
        raise ValueError(form.problems[key])
    return form.values[entry["name"]]


def _step(entry: Mapping[str, Any], text: str) -> Any:
    return _typed({"name": entry["name"], "type": entry["type"], "gt": 0}, text)


def _pick_text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else fields.text_of(value)


def choices_of(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(value, words) of what can be picked for a parameter that is no number."""
    if entry["type"] == "bool":
        return [("yes", "yes"), ("no", "no")]
    return [(fields.text_of(c), fields.text_of(c).replace("_", " ")) for c in entry["choices"]]


def _picked(entry: Mapping[str, Any], text: str) -> Any:
    if entry["type"] == "bool":
        return text == "yes"
    return _typed(entry, text)


def _read_numbers(made: SweepForm) -> dict[str, int]:
    found = {}
    most = MOST_TRIALS.get(made.entered["method"], MOST_POINTS)
    limits = {"trials": (1, most), "seed": (0, 2**31 - 1)}
    for name, (low, high) in limits.items():
        text = "".join(made.entered[name].split())
        if made.entered["method"] == "grid" and name == "trials":
            continue
        if not text.isdecimal() or not low <= int(text) <= high:
            made.problems[name] = (
                f"{made.entered[name] or 'nothing'} is not a whole number from"
                f" {quantity(low)} to {quantity(high)}"
            )
        else:
            found[name] = int(text)
    if made.entered["method"] not in {name for name, _, _ in METHODS}:
        made.problems["method"] = f"{made.entered['method']} is no way to search: choose another"
    if made.entered["aggregate"] not in AGGREGATES:
        made.problems["aggregate"] = f"{made.entered['aggregate']} is unknown: choose another"
    return found


def lines_of(text: str) -> list[str]:
    """Constraints, one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_space(made: SweepForm, axes: Sequence[Mapping[str, Any]]) -> Space | None:
    """The space, when every axis could be read; a problem beside whichever field it comes from."""
    lines = lines_of(made.entered["constraints"])
    declared = [entry["name"] for entry in fields.parameters_of(made.schema)]
    try:
        if len(axes) == len(declared):
            return space_from(axes, lines)
        for line in lines:
            parse_constraint(line, declared)
    except BadSpace as error:
        is_axis = FROM + error.name in made.entered or error.name in made.picked
        made.problems[FROM + error.name if is_axis else "constraints"] = (
            error.text if is_axis else str(error)
        )
    return None


def sized(space: Space, method: str, trials: int, series: int) -> Size:
    """How many combinations and runs a sweep would have, before the strategy's own checks."""
    try:
        if method == "grid" or not math.isinf(space.raw):
            there_are = count(space) if space.raw <= MOST_POINTS * 40 else int(space.raw)
        else:
            there_are = trials
        if method == "grid" and there_are > MOST_POINTS:
            count(space)  # says how many there are when they are too many to look at
            raise BadSpace(
                "space",
                f"{quantity(there_are)} combinations are more than {quantity(MOST_POINTS)}:"
                " give larger steps, or search at random",
            )
    except BadSpace as error:
        return Size(0, series, "", error.text if error.name == "space" else str(error))
    points = there_are if method == "grid" else min(trials, there_are)
    if not points:
        return Size(0, series, "", "No combination is left: widen a range or drop a constraint.")
    said = plural(points, "combination")
    if series > 1:
        said += f" on {series} series, {plural(points * series, 'run')}"
    if method != "grid" and there_are < trials:
        said += ": there are no more"
    return Size(points, series, said)


def _request(
    made: SweepForm,
    axes: Sequence[Mapping[str, Any]],
    objectives: list[dict[str, Any]],
    numbers: Mapping[str, int],
) -> SweepRequest:
    assert made.base.request is not None
    read_axes = [(axis, axis_from(axis)) for axis in axes]
    base = encode(made.base.request)
    base["parameters"] = {a.name: a.values[0] for _, a in read_axes if a.is_fixed}
    interval = base["inputs"][MAIN].get("interval")
    base["inputs"] = {key: one for key, one in base["inputs"].items() if key != MAIN}
    if interval:
        base["inputs"][MAIN] = {"interval": interval}
    return SweepRequest(
        base=base,
        space=[dict(axis) for axis, read_axis in read_axes if not read_axis.is_fixed],
        series_ids=[int(i) for i in made.series],
        objectives=objectives,
        constraints=lines_of(made.entered["constraints"]),
        method=made.entered["method"],
        trials=numbers.get("trials", 0),
        seed=numbers["seed"],
        aggregate=made.entered["aggregate"],
    )


def metric_choices(*, with_none: bool) -> list[tuple[str, str]]:
    """(metric, title) of what can be searched for."""
    found = [(name, title) for name, (title, _) in METRICS.items()]
    return [("", "no more"), *found] if with_none else found


def direction_choices() -> list[tuple[str, str]]:
    return [(name, DIRECTION_WORDS[name]) for name in DIRECTIONS]
