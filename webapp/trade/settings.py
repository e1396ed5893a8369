"""How a paper account trades: what it pays, how its orders meet the market, whether it may borrow."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from flask import abort, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import CommandRow
from shared.db.trading import AccountRow
from shared.messages import EditAccount
from webapp import accounts, auth, commands, costs
from webapp.formats import decimal
from webapp.trade import desk, ticket
from webapp.trade.blueprint import bp

INTRABAR: Final = (
    ("worst_case", "Worst case first"),
    ("ohlc_path", "Open, high, low, close path"),
)
COSTS: Final = {name: f"costs.{name}" for name in costs.FIELDS}
"""The field of each cost."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "matching.intrabar": "worst_case",
    "matching.volume_share": "",
    "margin.enabled": False,
    "margin.leverage": "1",
    "margin.borrow_rate": "0",
    "margin.call_level": "0.8",
    "margin.liquidation_level": "0.4",
}
"""What an account does that says nothing else."""

PERCENT: Final = (
    "matching.volume_share",
    "margin.borrow_rate",
    "margin.call_level",
    "margin.liquidation_level",
)
"""Fractions that people think of in per cent."""

LONGEST_COST: Final = 2000
"""More than any list of fee tiers takes."""


def shown(account: AccountRow) -> ticket.Form:
    """The settings in force, per cent where people think in per cent."""
    entered = {key: "0" for name, key in COSTS.items() if name in costs.USUAL}
    entered |= costs.shown({"fee_rate": costs.UNSAID_FEE, **account.costs}, COSTS)
    for name, default in DEFAULTS.items():
        group, _, key = name.partition(".")
        said = getattr(account, group).get(key)
        value = default if said is None else said
        entered[name] = _text(name, value)
    return ticket.Form(entered)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    number = decimal(value)
    if number is None:
        return str(value)
    scaled = number * 100 if name in PERCENT else number
    return f"{scaled.normalize():f}"


def read(form: Mapping[str, str]) -> dict[str, str]:
    entered = {name: form.get(name, "").strip()[: ticket.LONGEST] for name in DEFAULTS}
    return entered | {key: form.get(key, "").strip()[:LONGEST_COST] for key in COSTS.values()}


def asked_for(account_id: int, entered: Mapping[str, str], paid: dict[str, Any]) -> EditAccount:
    """The command; what is no number goes as it was typed, for the engine to say so."""
    groups: dict[str, dict[str, Any]] = {"matching": {}, "margin": {}}
    for name in DEFAULTS:
        group, _, key = name.partition(".")
        groups[group][key] = _fraction(name, entered[name])
    groups["margin"]["enabled"] = entered["margin.enabled"] == "yes"
    return EditAccount(account_id=account_id, costs=paid, **groups)


def _fraction(name: str, text: str) -> str:
    number = decimal(text.replace(",", "."))
    if name not in PERCENT or number is None:
        return text
    return f"{number / Decimal(100):f}"


@bp.get("/<int:account_id>/settings")
@auth.viewer
def settings(account_id: int) -> str:
    account = _account(account_id)
    accounts.choose(account.id)
    return _page(account, shown(account), "")


def _account(account_id: int) -> AccountRow:
    account = desk.account_of(account_id)
    if account is None:
        abort(404)
    return account


def _page(account: AccountRow, form: ticket.Form, answer: str) -> str:
    return render_template(
        "trade/settings.html",
        account=account,
        form=form,
        answer=answer,
        intrabar=INTRABAR,
        cost_keys=COSTS,
    )


@bp.post("/<int:account_id>/settings")
@auth.trader
def save_settings(account_id: int) -> AnyResponse | tuple[str, int]:
    """In force from the next order on."""
    account = _account(account_id)
    entered = read(request.form)
    problems: dict[str, str] = {}
    paid = costs.read(entered, problems, COSTS)
    if problems:
        return _page(account, ticket.Form(entered, problems), ""), 422
    row = commands.ask_and_wait(asked_for(account.id, entered, paid))
    if row.state in ("denied", "expired"):
        return _denied(account, entered, row), 409
    return commands.answer(row, url_for(".settings", account_id=account.id))


def _denied(account: AccountRow, entered: Mapping[str, str], row: CommandRow) -> str:
    said = row.result or {}
    field = str(said.get("field") or "")
    name = next(
        (n for n in entered if field and n in (field, f"{n.partition('.')[0]}.{field}")), ""
    )
    problems = ticket.problems_of({**said, "field": name}) if name else {}
    return _page(account, ticket.Form(entered, problems), "" if problems else commands.text_of(row))
