"""The numbers of a report as people read them: titles, families, text and tone of a metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.domain.shown import (
    MINUS,
    NOTHING,
    direction,
    duration,
    money,
    percent,
    plural,
    quantity,
    signed,
    signed_percent,
)

FAMILIES: Final[dict[str, dict[str, str]]] = {
    "Growth": {
        "total_return": "Total return",
        "twr": "Time-weighted return",
        "mwr": "Money-weighted return",
        "cagr": "CAGR",
        "final_equity": "Final equity",
        "realised": "Realised P&L",
        "best_day": "Best day",
        "worst_day": "Worst day",
    },
    "Risk and return": {
        "volatility": "Volatility",
        "sharpe": "Sharpe",
        "sharpe_error": "Standard error of Sharpe",
        "psr": "Probability of Sharpe above 0",
        "dsr": "Deflated Sharpe",
        "downside_deviation": "Downside deviation",
        "sortino": "Sortino",
        "omega": "Omega",
    },
    "Falls": {
        "max_drawdown": "Max drawdown",
        "max_drawdown_value": "Max drawdown, money",
        "drawdown_recovery": "Recovery of max drawdown",
        "time_under_water": "Time under water",
        "longest_under_water": "Longest under water",
        "calmar": "Calmar",
        "ulcer_index": "Ulcer index",
        "martin": "Martin",
        "serenity": "Serenity",
    },
    "Shape of daily returns": {
        "var_95": "Value at risk, 95 %",
        "cvar_95": "Expected shortfall, 95 %",
        "tail_ratio": "Tail ratio",
        "skew": "Skewness",
        "kurtosis": "Excess kurtosis",
    },
    "Beside buying and holding": {
        "buy_and_hold": "Buy and hold",
        "alpha": "Alpha",
        "beta": "Beta",
        "r_squared": "R²",
        "tracking_error": "Tracking error",
        "information_ratio": "Information ratio",
        "treynor": "Treynor",
        "up_capture": "Up capture",
        "down_capture": "Down capture",
    },
    "Use of capital": {
        "exposure": "Exposure",
        "time_in_market": "Time in market",
        "leverage": "Highest leverage",
        "turnover": "Turnover",
        "capacity": "Capacity",
    },
    "Trades": {
        "trades": "Trades",
        "win_rate": "Win rate",
        "payoff": "Payoff",
        "profit_factor": "Profit factor",
        "average_trade": "Average trade",
        "average_return": "Average return",
        "expectancy_r": "Expectancy, R",
        "sqn": "System quality",
        "best_trade": "Best trade",
        "worst_trade": "Worst trade",
        "largest_trade_share": "Largest trade of all won",
        "profit_without_best_5": "Profit without the best 5",
        "mae": "Mean adverse excursion",
        "mfe": "Mean favourable excursion",
        "edge_ratio": "Edge ratio",
        "average_duration": "Average duration",
        "average_bars": "Average bars held",
        "average_duration_won": "Duration of winners",
        "average_duration_lost": "Duration of losers",
        "longest_win_streak": "Longest winning streak",
        "longest_loss_streak": "Longest losing streak",
    },
    "Costs and orders": {
        "fees": "Fees",
        "slippage": "Slippage",
        "spread": "Spread",
        "funding": "Borrowing and funding",
        "costs": "All costs",
        "orders": "Orders",
        "rejected": "Rejected",
        "timed_out": "Timed out",
        "denied": "Denied by rules",
        "partial_fill_ratio": "Filled in part",
        "ambiguous_bars": "Ambiguous bars",
    },
}

TITLES: Final = {name: title for family in FAMILIES.values() for name, title in family.items()}

MAIN: Final = (
    "total_return", "cagr", "sharpe", "dsr", "max_drawdown", "buy_and_hold",
    "win_rate", "profit_factor", "trades", "exposure", "costs", "profit_without_best_5",
)  # fmt: skip
"""The ones a page begins with."""

_SIGNED: Final = frozenset(
    (
        "total_return", "twr", "mwr", "cagr", "realised", "best_day", "worst_day", "buy_and_hold",
        "alpha", "average_trade", "average_return", "best_trade", "worst_trade",
        "profit_without_best_5",
    )
)  # fmt: skip
_TONED: Final = _SIGNED - {"buy_and_hold"}
_LOSSES: Final = frozenset(
    (
        "max_drawdown", "max_drawdown_value", "ulcer_index", "var_95", "cvar_95", "mae", "fees",
        "slippage", "spread", "funding", "costs",
    )
)  # fmt: skip
"""Amounts above zero that are bad: shown with a minus."""
_RED: Final = frozenset(("max_drawdown", "max_drawdown_value"))


@dataclass(frozen=True, slots=True)
class Shown:
    """A number as it is shown. `note` is the line below it; without a value, the reason."""

    name: str
    title: str
    text: str
    note: str
    tone: str
    metric: Mapping[str, Any]


def shown(name: str, metrics: Mapping[str, Any], currency: str = "", capital: float = 0) -> Shown:
    """The metric of that name, which is there."""
    metric = metrics[name]
    if metric.get("value") is None:
        reason = str(metric.get("reason", ""))
        return Shown(name, TITLES[name], NOTHING, reason, "muted", metric)
    note = _note(name, metrics, currency, capital)
    return Shown(name, TITLES[name], text(name, metric), note, tone(name, metric), metric)


def families(metrics: Mapping[str, Any], currency: str = "", capital: float = 0) -> dict[str, Any]:
    """{family: [shown, ...]} of every number there is; a run of long ago has fewer."""
    found = {
        family: [shown(name, metrics, currency, capital) for name in names if name in metrics]
        for family, names in FAMILIES.items()
    }
    return {family: numbers for family, numbers in found.items() if numbers}


def text(name: str, metric: Mapping[str, Any]) -> str:
    """The value as a person reads it; what is lost carries a minus."""
    value = metric.get("value")
    if value is None:
        return NOTHING
    unit = str(metric.get("unit", ""))
    if name == "capacity":
        return money(value, 0)
    if name in _SIGNED:
        return signed_percent(value) if unit == "%" else signed(value)
    if name in _LOSSES and value > 0:
        return f"{MINUS}{in_unit(value, unit)}"
    if name in _LOSSES and value < 0:
        return f"+{in_unit(-value, unit)}"
    return in_unit(value, unit)


def in_unit(value: float, unit: str) -> str:
    """A plain value in the unit of its metric."""
    if unit == "%":
        return percent(value)
    if unit == "seconds":
        return duration(value)
    return money(value) if unit in ("currency", "ratio") else quantity(value)


def tone(name: str, metric: Mapping[str, Any]) -> str:
    """The class of its colour: gain, loss or none."""
    value = metric.get("value")
    if name in _RED and value:
        return "loss"
    return direction(value) if name in _TONED else ""


# Notes ------------------------------------------------------------------------------------------


def _note(name: str, metrics: Mapping[str, Any], currency: str, capital: float) -> str:
    """What stands below the number: what it is made of, how sure it is."""
    metric = metrics[name]
    details = metric.get("details") or {}
    count = int(metric.get("n", 0))
    value = float(metric["value"])
    match name:
        case "total_return":
            final = (metrics.get("final_equity") or {}).get("value")
            return f"{money(final)} {currency}".strip()
        case "cagr":
            return plural(count, "day")
        case "sharpe":
            error = details.get("standard_error")
            within = f"± {money(error)} · " if error is not None else ""
            return f"{within}N {quantity(count)}"
        case "dsr":
            return f"of {plural(int(details.get('trials', 1)), 'trial')}, above {money(details.get('above'))}"
        case "max_drawdown":
            return _fell(details)
        case "win_rate":
            return _won(details, count, value)
        case "profit_factor":
            return f"won / lost · {plural(count, 'trade')}"
        case "trades":
            still = int(details.get("open", 0))
            return (
                f"{quantity(details.get('closed', 0))} closed{f', {still} open' if still else ''}"
            )
        case "exposure":
            share = (metrics.get("time_in_market") or {}).get("value")
            return f"in the market {percent(share, 0)}"
        case "costs" | "fees" if capital > 0:
            return f"{percent(value / capital)} of the capital"
        case "buy_and_hold":
            return _against(metrics, value)
        case "profit_without_best_5":
            taken = details.get("the_best")
            return f"they earned {signed(taken, 0)}" if taken is not None else ""
        case "volatility":
            return f"a year · N {quantity(count)}"
    return f"from {quantity(count)}"


def _fell(details: Mapping[str, Any]) -> str:
    """When, and whether it came back."""
    moments = [details.get(key) for key in ("peak_at", "lowest_at", "recovered_at")]
    peak, low, back = (datetime.fromisoformat(at) if at else None for at in moments)
    if peak is None or low is None:
        return "equity never fell"
    after = f", back after {duration(back - low)}" if back else ", not back since"
    return f"in {duration(low - peak)}{after}"


def _won(details: Mapping[str, Any], count: int, value: float) -> str:
    if "low_95" in details:
        return f"{percent(details['low_95'], 0)} to {percent(details['high_95'], 0)} · N {quantity(count)}"
    return f"{quantity(round(value * count))} of {quantity(count)} closed"


def _against(metrics: Mapping[str, Any], value: float) -> str:
    own = (metrics.get("total_return") or {}).get("value")
    if own is None:
        return "without costs"
    ahead = (float(own) - value) * 100
    return f"{money(abs(ahead), 1)} points {'below' if ahead >= 0 else 'above'} the run"
