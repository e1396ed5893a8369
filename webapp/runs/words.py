"""What was run, in words: sizing, rules, bars, engine."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from shared.db.backtests import RunRow
from shared.domain.market import interval_text
from shared.jobs import FINDINGS
from shared.report.engines import engine_text
from webapp import costs, fields, risk_policy
from webapp.formats import money, plural, quantity
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


def rules_text(run: RunRow) -> str:
    """The risk rules that were on, with their limits."""
    rules = risk_policy.rules_of(run.options.get("risk_policy") or {}).values()
    on = [f"{rule.title.lower()} {rule.limit_text}" for rule in rules if rule.enabled]
    return ", ".join(on) or "all off"


def fills_text(run: RunRow) -> str:
    """market orders at the next open; the stop before the target inside a bar: how orders met bars."""
    matching, margin = run.options.get("matching") or {}, run.options.get("margin") or {}
    said = ["market orders at the next open", _INTRABAR.get(str(matching.get("intrabar")), "")]
    if matching.get("volume_share"):
        said.append(f"at most {costs.rate_text(matching['volume_share'])} of the volume of a bar")
    if margin.get("enabled"):
        said.append(
            f"short selling, {quantity(margin.get('leverage') or 1)} times equity at most,"
            f" borrowing {costs.rate_text(margin.get('borrow_rate') or 0)} a year"
        )
    return "; ".join(part for part in said if part)


_INTRABAR: Final = {
    "worst_case": "inside a bar the stop before the target",
    "ohlc_path": "inside a bar open, nearer extreme, other extreme, close",
    "lower_interval": "inside a bar as shorter bars say",
}


def why_core(run: RunRow) -> str:
    """What no kernel covers of it; "" where one ran."""
    return str(run.options.get("why_core") or "")


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
        ("costs", costs.text(run.options.get("costs") or {}, asset)),
        ("risk rules", rules_text(run)),
        ("fills", fills_text(run)),
        ("engine", engine_text(run.engine, why_core(run))),
        ("code", run.code_hash),
        ("digest", run.digest),
    ]


def data_found(run: RunRow) -> str:
    """2 gaps, 1 outlier: what was found in the bars before the run, "" for nothing."""
    names = {"splits": "likely split"}
    return ", ".join(
        plural(count, names.get(kind, kind.removesuffix("s")))
        for kind, count in _totals(run).items()
        if count
    )


def kinds_found(run: RunRow) -> list[str]:
    """The kinds of what was found in the bars."""
    return [kind for kind, count in _totals(run).items() if count]


def _totals(run: RunRow) -> dict[str, int]:
    totals: dict[str, int] = {}
    for one in ((run.options.get("data") or {}).get("inputs") or {}).values():
        for kind in FINDINGS:
            totals[kind] = totals.get(kind, 0) + one["counts"].get(kind, 0)
    return totals


def significant(value: Decimal) -> str:
    """A quantity to six figures: research fills in fractions that no eye compares further."""
    return quantity(Decimal(f"{value:.6g}"))
