"""Typed forms: a strategy type's parameters and inputs, and sizing, from text to JSON and back.

Whatever is wrong is said beside its field: the field, the value, the remedy. What was typed is kept.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from webapp.formats import decimal

Schema = Sequence[Mapping[str, Any]]

PARAMETER: Final = "p."
INPUT: Final = "in."
SIZING: Final = "sizing."

METHODS: Final = (
    ("fraction", "Share of the allocation"),
    ("cash", "Share of its free cash, costs included"),
    ("quantity", "Fixed quantity"),
    ("value", "Fixed value"),
    ("volatility", "Volatility target"),
)
BOUNDS: Final = (
    ("ge", operator.ge, "at least"),
    ("le", operator.le, "at most"),
    ("gt", operator.gt, "more than"),
    ("lt", operator.lt, "less than"),
)
LARGEST: Final = Decimal(10) ** 15
"""No amount or quantity is larger; one that is has a slipped key in it."""

SINGLE_INPUT: Final[Schema] = ({"name": "main", "type": "input", "trades": True, "help": ""},)


@dataclass(frozen=True, slots=True)
class Form:
    """`values` is what the engine takes, complete only without `problems`; `entered` is text as typed.

    Keys of `entered` and `problems` are the names of the HTML fields.
    """

    values: dict[str, Any]
    entered: dict[str, str]
    problems: dict[str, str] = field(default_factory=dict)


def parameters_of(schema: Schema) -> list[Mapping[str, Any]]:
    """The schema without its inputs."""
    return [entry for entry in schema if entry["type"] != "input"]


def inputs_of(schema: Schema) -> list[Mapping[str, Any]]:
    """The series a type reads; one called "main" when it does not say."""
    return [entry for entry in schema if entry["type"] == "input"] or list(SINGLE_INPUT)


def text_of(value: Any) -> str:
    """A parameter's value as a field shows it."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.12g}"
    return "" if value is None else str(value)


def shown_parameters(schema: Schema, values: Mapping[str, Any] | None = None) -> Form:
    """The form of given values, defaults for the rest."""
    given = values or {}
    known = {e["name"]: given.get(e["name"], e["default"]) for e in parameters_of(schema)}
    return Form(known, {PARAMETER + name: text_of(value) for name, value in known.items()})


def read_parameters(schema: Schema, form: Mapping[str, str]) -> Form:
    """The parameters of a submitted form, typed and bounded as the schema says."""
    values: dict[str, Any] = {}
    entered: dict[str, str] = {}
    problems: dict[str, str] = {}
    for entry in parameters_of(schema):
        key = PARAMETER + entry["name"]
        text = entered[key] = form.get(key, "").strip()
        try:
            values[entry["name"]] = _typed(entry, text)
        except ValueError as error:
            problems[key] = str(error)
    return Form(values, entered, problems)


def _typed(entry: Mapping[str, Any], text: str) -> Any:
    """One parameter's value; ValueError with a sentence for its field."""
    kind = entry["type"]
    if kind == "bool":
        return text.lower() in ("yes", "true", "on", "1")
    if kind == "choice":
        return _chosen(entry, text)
    if kind == "int":
        number: float | int = _whole(text)
    elif kind == "float":
        number = _real(text)
    else:
        return text
    for bound, holds, words in BOUNDS:
        limit = entry.get(bound)
        if limit is not None and not holds(number, limit):
            raise ValueError(f"{text} is out of bounds: enter {words} {limit:g}")
    return number


def _chosen(entry: Mapping[str, Any], text: str) -> Any:
    choices = entry.get("choices") or []
    for choice in choices:
        if text_of(choice) == text:
            return choice
    raise ValueError(f"{text or 'nothing'} is no choice: {', '.join(map(str, choices))}")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text or 'nothing'} is not a whole number") from None


def _real(text: str) -> float:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{text or 'nothing'} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def bounds_text(entry: Mapping[str, Any]) -> str:
    """`1 or more, less than 100`, or "" without bounds."""
    words = []
    for key, form in (
        ("ge", "{:g} or more"),
        ("gt", "more than {:g}"),
        ("le", "up to {:g}"),
        ("lt", "less than {:g}"),
    ):
        if entry.get(key) is not None:
            words.append(form.format(entry[key]))
    return ", ".join(words)


def amount(form: Mapping[str, str], key: str, what: str) -> tuple[Decimal | None, str]:
    """(the amount, what is wrong with it): above 0, grouping spaces and commas allowed."""
    text = form.get(key, "").strip()
    plain = "".join(text.split()).replace("\N{NARROW NO-BREAK SPACE}", "").replace(",", "")
    number = decimal(plain)
    if number is None:
        return None, f"{text or 'nothing'} is not an amount: enter {what}"
    if number <= 0:
        return None, f"{text} is not above 0: enter {what}"
    if number > LARGEST:
        return None, f"{text} is more than anybody has: enter {what}"
    return number, ""


def shown_sizing(sizing: Mapping[str, Any] | None = None) -> Form:
    """The form of a sizing; per cent where people think in per cent."""
    said = {
        "method": "fraction",
        "fraction": 1.0,
        "annual_volatility": 0.2,
        "window": 20,
        **(sizing or {}),
    }
    percents = {"fraction", "annual_volatility", "band"}
    entered = {}
    for name in ("method", "fraction", "quantity", "value", "annual_volatility", "window", "band"):
        value = said.get(name)
        if value is not None and name in percents:
            value = f"{float(value) * 100:.10g}"
        entered[SIZING + name] = "" if value is None else str(value)
    return Form(dict(sizing or {"method": "fraction", "fraction": 1.0}), entered)


def read_sizing(form: Mapping[str, str]) -> Form:
    """The sizing of a submitted form, as `engine.sizing` takes it."""
    names = ("method", "fraction", "quantity", "value", "annual_volatility", "window", "band")
    entered = {SIZING + name: form.get(SIZING + name, "").strip() for name in names}
    method = entered[SIZING + "method"] or "fraction"
    problems: dict[str, str] = {}
    values: dict[str, Any] = {"method": method}
    if method not in dict(METHODS):
        problems[SIZING + "method"] = f"{method} is no way to size: choose one of the list"
    if method in ("fraction", "cash"):
        _share(values, entered, problems, "fraction", most=100)
    if method in ("quantity", "value"):
        number, problem = amount(entered, SIZING + method, f"the {method} of one entry")
        if problem:
            problems[SIZING + method] = problem
        values[method] = str(number)
    if method == "volatility":
        _share(values, entered, problems, "annual_volatility", most=1000)
        window = entered[SIZING + "window"]
        if not window.isdecimal() or not 2 <= int(window) <= 500:
            problems[SIZING + "window"] = (
                f"{window or 'nothing'} is not a count of bars from 2 to 500"
            )
        else:
            values["window"] = int(window)
    if entered[SIZING + "band"]:
        _share(values, entered, problems, "band", most=100)
    return Form(values, entered, problems)


def _share(
    values: dict[str, Any],
    entered: Mapping[str, str],
    problems: dict[str, str],
    name: str,
    *,
    most: float,
) -> None:
    """A percentage of the form as a fraction of the JSON."""
    key = SIZING + name
    try:
        number = _real(entered[key])
    except ValueError as error:
        problems[key] = str(error)
        return
    if not 0 < number <= most:
        problems[key] = f"{entered[key]} is not a share: more than 0, up to {most:g} %"
    values[name] = number / 100
