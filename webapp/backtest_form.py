"""The form of a backtest: from what was typed to a request, with every problem beside its field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from shared.domain.market import interval_text
from shared.jobs import DATA_POLICIES, FINDINGS, BacktestRequest
from webapp import costs, fields, risk_policy
from webapp.formats import decimal
from webapp.series import Stored

RULES: Final = (
    ("off", "Off", "The strategy alone: nothing is denied."),
    ("account", "As on account", "The rules its orders would meet on paper today."),
    ("own", "Own rules", "Each one on or off, for this run."),
)
MOST_LEVERAGE: Final = Decimal(20)
INTRABAR: Final = (
    ("worst_case", "Worst case: the stop before the target"),
    ("ohlc_path", "Along open, nearer extreme, other extreme, close"),
    ("lower_interval", "As bars of a shorter interval say"),
)
DEFAULTS: Final = {
    "capital": "100000",
    "fee": "0.1",
    "slippage": "0.05",
    "starts": "",
    "ends": "",
    "intrabar": "worst_case",
    "volume_share": "",
    "short": "",
    "leverage": "1",
    "borrow_rate": "0",
    "data_policy": "warn",
    "universe": "",
    "gate": "yes",
    **costs.EMPTY,
}
COUNTED: Final = {
    "gaps": "Gaps",
    "duplicates": "Duplicates",
    "outliers": "Outliers",
    "splits": "Likely splits",
}
"""What bars may have that a run can be refused for, in the order of `shared.jobs.FINDINGS`."""

INTERVALS: Final = (300, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
"""Longer bars that stored ones can be made into, in seconds."""


@dataclass(frozen=True, slots=True)
class BacktestForm:
    """What the page shows. `request` is None while there are problems."""

    type: str
    schema: fields.Schema
    parameters: fields.Form
    sizing: fields.Form
    policy: risk_policy.PolicyForm
    rules: str
    entered: dict[str, str]
    problems: dict[str, str]
    request: BacktestRequest | None = None

    @property
    def all_problems(self) -> dict[str, str]:
        every = (
            self.problems, self.parameters.problems, self.sizing.problems,
            self.policy.problems if self.rules == "own" else {},
        )  # fmt: skip
        return {key: text for part in every for key, text in part.items()}

    def refused(self, reason: str) -> tuple[BacktestForm, str]:
        """The form with a worker's reason beside the field it names, and what is left to say above it."""
        name, colon, text = reason.partition(":")
        text = text.strip()
        for key, part in (
            (fields.PARAMETER + name, "parameters"),
            (series_key(name), "problems"),
            (_FIELD_OF.get(name, ""), "problems"),
            (fields.SIZING + name, "sizing"),
        ):
            if not colon or key not in {
                **self.entered,
                **self.parameters.entered,
                **self.sizing.entered,
            }:
                continue
            if part == "problems":
                return replace(self, problems={**self.problems, key: text}), ""
            form: fields.Form = getattr(self, part)
            marked = replace(form, problems={**form.problems, key: text})
            if part == "parameters":
                return replace(self, parameters=marked), ""
            return replace(self, sizing=marked), ""
        return self, reason


_FIELD_OF: Final = {
    "starts_at": "starts",
    "ends_at": "ends",
    "capital": "capital",
    "intrabar": "intrabar",
    "volume_share": "volume_share",
    "leverage": "leverage",
    "borrow_rate": "borrow_rate",
    **costs.FIELDS,
}


def series_key(name: str) -> str:
    return f"{fields.INPUT}{name}.series"


def interval_key(name: str) -> str:
    return f"{fields.INPUT}{name}.interval"


def longer(stored: int) -> list[int]:
    """The intervals that bars of `stored` seconds can be made into."""
    return [seconds for seconds in INTERVALS if seconds > stored and seconds % stored == 0]


def interval_choices(shortest: int) -> list[tuple[str, str]]:
    """For a select: as stored, and what bars of the shortest interval there is can be made into."""
    made = [(str(seconds), interval_text(seconds)) for seconds in longer(shortest)]
    return [("", "as stored"), *made]


def shown(
    type_name: str,
    schema: fields.Schema,
    asked: Mapping[str, Any] | None = None,
    *,
    first_series: int | None = None,
) -> BacktestForm:
    """The form as `asked` (a request as JSON) has it, defaults for what it does not say."""
    given = asked or {}
    inputs = given.get("inputs") or {}
    entered = {**DEFAULTS, **_entered(given)}
    for entry in fields.inputs_of(schema):
        given_input = inputs.get(entry["name"]) or {}
        chosen = given_input.get("series_id", first_series)
        entered[series_key(entry["name"])] = "" if chosen is None else str(chosen)
        entered[interval_key(entry["name"])] = str(given_input.get("interval") or "")
    policy = given.get("risk_policy") or {}
    return BacktestForm(
        type=type_name,
        schema=schema,
        parameters=fields.shown_parameters(schema, given.get("parameters")),
        sizing=fields.shown_sizing(given.get("sizing") or {"method": "cash", "fraction": 1.0}),
        policy=risk_policy.shown(policy),
        rules=_rules_of(policy) if given else "off",
        entered=entered,
        problems={},
    )


def _entered(given: Mapping[str, Any]) -> dict[str, str]:
    entered = {}
    if given.get("capital"):
        entered["capital"] = str(given["capital"])
    entered |= costs.shown(given.get("costs") or {})
    for field, name in (("starts", "starts_at"), ("ends", "ends_at")):
        entered[field] = _day(str(given.get(name) or ""), is_end=field == "ends")
    entered["gate"] = "yes" if given.get("gate", True) else ""
    return entered | _entered_fills(given) | _entered_data(given)


def _day(text: str, *, is_end: bool) -> str:
    """The day of an ISO time. An end inside a day is that day's: the form ends before the day it names."""
    if len(text) <= len("2024-01-31"):
        return text
    at = datetime.fromisoformat(text)
    inside = is_end and at.time() != time()
    return str(at.date() + timedelta(days=1 if inside else 0))


def _entered_fills(given: Mapping[str, Any]) -> dict[str, str]:
    matching, margin = given.get("matching") or {}, given.get("margin") or {}
    entered = {"intrabar": str(matching.get("intrabar") or "worst_case")}
    share, borrow = decimal(matching.get("volume_share")), decimal(margin.get("borrow_rate"))
    if share is not None:
        entered["volume_share"] = f"{(share * 100).normalize():f}"
    if margin.get("enabled"):
        entered |= {"short": "yes", "leverage": str(margin.get("leverage") or "1")}
    if borrow is not None:
        entered["borrow_rate"] = f"{(borrow * 100).normalize():f}"
    return entered


def _entered_data(given: Mapping[str, Any]) -> dict[str, str]:
    """How bad data counts, and the pair list whose members may be entered."""
    counted = given.get("data_findings") or list(FINDINGS)
    return {
        "data_policy": str(given.get("data_policy") or "warn"),
        "universe": str(given.get("universe_id") or ""),
        **{count_key(kind): "yes" if kind in counted else "" for kind in FINDINGS},
    }


def count_key(kind: str) -> str:
    return f"count.{kind}"


def _rules_of(policy: Mapping[str, Any]) -> str:
    rules = risk_policy.rules_of(policy).values()
    return "own" if any(rule.enabled for rule in rules) else "off"


def read(
    type_name: str,
    schema: fields.Schema,
    form: Mapping[str, str],
    series: Mapping[int, Stored],
    account_policy: Mapping[str, Any],
) -> BacktestForm:
    """A submitted form. `series` are those there are to choose, by id."""
    entered = {name: form.get(name, "").strip() for name in DEFAULTS}
    if "asks_gate" not in form:
        entered["gate"] = "yes"
    problems: dict[str, str] = {}
    inputs = {}
    for entry in fields.inputs_of(schema):
        key = series_key(entry["name"])
        entered[key] = form.get(key, "")
        chosen = series.get(int(entered[key])) if entered[key].isdecimal() else None
        if chosen is None:
            problems[key] = "This series is not there: choose one of the list."
            continue
        inputs[entry["name"]] = {"series_id": chosen.id, "trades": bool(entry.get("trades", True))}
        inputs[entry["name"]] |= _interval(
            interval_key(entry["name"]), form, chosen, entered, problems
        )
    rules = form.get("rules", "off")
    rules = rules if rules in {key for key, _, _ in RULES} else "off"
    read_form = BacktestForm(
        type=type_name,
        schema=schema,
        parameters=fields.read_parameters(schema, form),
        sizing=fields.read_sizing(form),
        policy=risk_policy.read(form),
        rules=rules,
        entered=entered,
        problems=problems,
    )
    capital = _capital(form, problems)
    paid = costs.read(entered, problems)
    matching, margin = _fills(entered, problems)
    counted = _counted(form, entered, problems)
    starts, ends = _range(entered, problems, [series[i["series_id"]] for i in inputs.values()])
    if read_form.all_problems:
        return read_form
    request = BacktestRequest(
        strategy_type=type_name,
        parameters=read_form.parameters.values,
        inputs=inputs,
        capital=capital,
        starts_at=starts,
        ends_at=ends,
        costs=paid,
        sizing=read_form.sizing.values,
        risk_policy=_policy(read_form, account_policy),
        matching=matching,
        margin=margin,
        data_policy=entered["data_policy"],
        data_findings=counted,
        universe_id=int(entered["universe"] or 0),
        gate=entered["gate"] == "yes",
    )
    return replace(read_form, request=request)


def _interval(
    key: str,
    form: Mapping[str, str],
    chosen: Stored,
    entered: dict[str, str],
    problems: dict[str, str],
) -> dict[str, int]:
    """{"interval": seconds} where longer bars than the stored ones are asked for."""
    entered[key] = form.get(key, "")
    if entered[key] in ("", str(chosen.row.interval)):
        return {}
    seconds = int(entered[key]) if entered[key].isdecimal() else 0
    if seconds in longer(chosen.row.interval):
        return {"interval": seconds}
    problems[key] = f"Bars of {chosen.interval} cannot be made into these: choose as stored"
    return {}


def _counted(
    form: Mapping[str, str], entered: dict[str, str], problems: dict[str, str]
) -> list[str]:
    """The findings that count; all of them for a form without the question."""
    if not entered["data_policy"]:
        entered |= dict.fromkeys(map(count_key, FINDINGS), "yes") | {"data_policy": "warn"}
        return list(FINDINGS)
    counted = [kind for kind in FINDINGS if form.get(count_key(kind))]
    entered |= {count_key(kind): "yes" if kind in counted else "" for kind in FINDINGS}
    if entered["data_policy"] not in DATA_POLICIES:
        problems["data_policy"] = f"{entered['data_policy']} is no policy: warn, or refuse"
    elif entered["data_policy"] == "refuse" and not counted:
        problems["data_policy"] = "Nothing would be refused: choose at least one kind of finding"
    if entered["universe"] and not entered["universe"].isdecimal():
        problems["universe"] = "This pair list is not there: choose one of the list."
    return counted


def _capital(form: Mapping[str, str], problems: dict[str, str]) -> str:
    number, problem = fields.amount(form, "capital", "what the run starts with")
    if number is not None and number > Decimal(10) ** 12:
        problem = f"{form['capital']} is more than 1 000 000 000 000: enter less"
    if problem:
        problems["capital"] = problem
    return "" if number is None else f"{number:f}"


def _fills(
    entered: Mapping[str, str], problems: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How orders meet bars, and whether short selling is allowed: fractions of what is entered in per cent."""
    if entered["intrabar"] not in dict(INTRABAR):
        problems["intrabar"] = f"{entered['intrabar']} is no rule: choose one of the list"
    share = _between(entered, "volume_share", Decimal(0), Decimal(100), problems)
    leverage = _between(entered, "leverage", Decimal(1), MOST_LEVERAGE, problems)
    borrow = _between(entered, "borrow_rate", Decimal(0), Decimal(500), problems)
    matching = {
        "intrabar": entered["intrabar"],
        "volume_share": f"{share / 100:f}" if share else "",
    }
    margin: dict[str, Any] = {"enabled": entered["short"] == "yes"}
    if margin["enabled"]:
        margin |= {"leverage": f"{leverage or 1:f}", "borrow_rate": f"{(borrow or 0) / 100:f}"}
    return matching, margin


def _between(
    entered: Mapping[str, str],
    field: str,
    least: Decimal,
    most: Decimal,
    problems: dict[str, str],
) -> Decimal | None:
    if not entered[field]:
        return None
    number = decimal(entered[field].replace(",", "."))
    if number is None or not least <= number <= most:
        problems[field] = f"{entered[field]} is not a number from {least} to {most}"
        return None
    return number


def _range(
    entered: Mapping[str, str], problems: dict[str, str], chosen: list[Stored]
) -> tuple[str, str]:
    """ISO days, "" for all there is; `ends` counts as a whole day."""
    days: dict[str, date | None] = {}
    for field in ("starts", "ends"):
        try:
            days[field] = date.fromisoformat(entered[field]) if entered[field] else None
        except ValueError:
            problems[field] = f"{entered[field]} is not a day: write it as 2024-01-31"
            days[field] = None
    starts, ends = days["starts"], days["ends"]
    if starts and ends and starts >= ends:
        problems["ends"] = f"{ends} is not after {starts}: choose a later day"
    for one in chosen:
        first, last = one.row.first_opened_at, one.row.last_closed_at
        if starts and last and _midnight(starts) >= last:
            problems["starts"] = f"{starts} is after the last bar of {one.name}: {last:%Y-%m-%d}"
        if ends and first and _midnight(ends) <= first:
            problems["ends"] = f"{ends} is before the first bar of {one.name}: {first:%Y-%m-%d}"
    return (str(starts) if starts else ""), (str(ends) if ends else "")


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _policy(form: BacktestForm, account_policy: Mapping[str, Any]) -> dict[str, Any]:
    if form.rules == "own":
        return risk_policy.policy_of(form.policy.rules)
    if form.rules == "account":
        return risk_policy.policy_of(risk_policy.rules_of(account_policy))
    rules = risk_policy.rules_of({})
    return risk_policy.policy_of({name: replace(r, enabled=False) for name, r in rules.items()})
