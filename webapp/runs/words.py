"""What was run, in words: sizing, costs, rules, bars."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from shared.db.backtests import RunRow
from shared.domain.market import interval_text
from shared.jobs import FINDINGS
from webapp import fields, risk_policy
from webapp.formats import money, percent, plural, quantity
from webapp.runs.blueprint import quote_asset


def sizing_text(sizing: Mapping[str, Any], asset: str) -> str:
    """Share of its free cash, costs included: 100 %."""
    method = str(sizing.get("method", "fraction"))
    said = fields.shown_sizing(sizing).entered
    unit = {"fraction": " %", "cash": " %", "value": f" {asset}", "volatility": " % a year"}.get(
        method, ""
    )
    name = {"volatility": "annual_volatility", "cash": "fraction"}.get(method, method)
    band = f", band {said['sizing.band']} %" if said["sizing.band"] else ""
    return f"{dict(fields.METHODS).get(method, method)}: {said[f'sizing.{name}']}{unit}{band}"


def costs_text(costs: Mapping[str, Any], asset: str) -> str:
    """fee 0.10 %, slippage 0.05 %: what the run paid for trading."""
    said = [_fee(costs, asset)]
    if costs.get("fee_per_unit"):
        said.append(f"{quantity(costs['fee_per_unit'])} {asset} a unit")
    if costs.get("fee_minimum"):
        said.append(f"at least {money(costs['fee_minimum'])} {asset} an order")
    said.append(f"slippage {percent(costs.get('slippage') or 0)}")
    if costs.get("slippage_fixed"):
        said.append(f"and {quantity(costs['slippage_fixed'])} {asset}")
    if costs.get("slippage_impact"):
        said.append(f"impact {percent(costs['slippage_impact'])}")
    if costs.get("spread"):
        said.append(f"spread {percent(costs['spread'])}")
    return ", ".join(said)


def _fee(costs: Mapping[str, Any], asset: str) -> str:
    tiers = costs.get("fee_tiers") or ()
    if not tiers:
        return f"fee {percent(costs.get('fee_rate') or 0)}"
    rates = [f"{percent(rate)} from {money(value, 0)} {asset}" for value, rate in tiers]
    return f"fee {', '.join(rates)} traded in 30 days"


def rules_text(run: RunRow) -> str:
    """The risk rules that were on, with their limits."""
    rules = risk_policy.rules_of(run.options.get("risk_policy") or {}).values()
    on = [f"{rule.title.lower()} {rule.limit_text}" for rule in rules if rule.enabled]
    return ", ".join(on) or "all off"


def inputs_text(run: RunRow) -> str:
    """AAPL 1d, MSFT 1d."""
    return ", ".join(
        f"{one['symbol']} {interval_text(int(one['interval']))}" for one in run.inputs.values()
    )


def facts(run: RunRow, title: str) -> list[tuple[str, str]]:
    """(name, value) of everything that decided the run, for a file that must tell by itself."""
    asset = quote_asset(run)
    parameters = [(name.replace("_", " "), str(value)) for name, value in run.parameters.items()]
    bars = [
        (
            f"bars of {one['symbol']}",
            f"{interval_text(int(one['interval']))}, {one['source']}, content {one['data_hash']}",
        )
        for one in run.inputs.values()
    ]
    return [
        ("run", f"#{run.id}"),
        ("strategy", title),
        *parameters,
        *bars,
        ("capital", f"{money(run.options['capital'])} {asset}"),
        ("sizing", sizing_text(run.options.get("sizing") or {}, asset)),
        ("costs", costs_text(run.options.get("costs") or {}, asset)),
        ("risk rules", rules_text(run)),
        ("engine", run.engine),
        ("code", run.code_hash),
        ("digest", run.digest),
    ]


def data_found(run: RunRow) -> str:
    """2 gaps, 1 outlier: what was found in the bars before the run, "" for nothing."""
    totals: dict[str, int] = {}
    for one in ((run.options.get("data") or {}).get("inputs") or {}).values():
        for kind in FINDINGS:
            totals[kind] = totals.get(kind, 0) + one["counts"].get(kind, 0)
    names = {"splits": "likely split"}
    return ", ".join(
        plural(count, names.get(kind, kind.removesuffix("s")))
        for kind, count in totals.items()
        if count
    )


def significant(value: Decimal) -> str:
    """A quantity to six figures: research fills in fractions that no eye compares further."""
    return quantity(Decimal(f"{value:.6g}"))
