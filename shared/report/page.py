"""A report as one HTML file: nothing is fetched, nothing runs; it opens on any machine, years later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from html import escape
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
from shared.report import curves, pictures
from shared.report.curves import Month
from shared.report.numbers import FAMILIES, MAIN, Shown, families, shown
from shared.report.pictures import TABLES, Columns, Drawn
from shared.report.plots import STYLE as PLOT_STYLE

MONTHS: Final = tuple("JFMAMJJASOND")

TRADES: Final = 1_000
"""Trades listed; of more the file says how many there are."""


@dataclass(frozen=True, slots=True)
class TradeLine:
    """A trade as the list shows it."""

    number: int
    symbol: str
    side: str
    entry_at: datetime
    entry_price: float
    exit_at: datetime | None
    exit_price: float | None
    quantity: float
    pnl: float
    return_fraction: float
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the file tells. `facts` are (name, value) of what was run; `tables` as the engine groups trades."""

    title: str
    subtitle: str
    currency: str
    capital: float
    calendar: str
    metrics: Mapping[str, Any]
    columns: Columns
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    trades: Sequence[TradeLine] = ()
    trade_count: int = 0
    made_at: datetime | None = None


def html(report: Report) -> str:
    """The whole file."""
    body = "\n".join(
        part
        for part in (
            _head(report),
            _tiles(report),
            _pictures(report),
            _months(report),
            _falls(report),
            _groups(report),
            _crises(report),
            _numbers(report),
            _facts(report),
            _trades(report),
            _foot(report),
        )
        if part
    )
    return _DOCUMENT.format(title=escape(report.title), style=STYLE, body=body)


_DOCUMENT: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


# Parts ------------------------------------------------------------------------------------------


def _head(report: Report) -> str:
    warnings = "".join(f'<p class="notice">{escape(text)}</p>' for text in report.warnings)
    return (
        f'<header><h1>{escape(report.title)}</h1><p class="muted">{escape(report.subtitle)}</p>'
        f"</header>{warnings}"
    )


def _tiles(report: Report) -> str:
    found = [
        shown(name, report.metrics, report.currency, report.capital)
        for name in MAIN
        if name in report.metrics
    ]
    return f'<div class="tiles">{"".join(map(_tile, found))}</div>' if found else ""


def _tile(number: Shown) -> str:
    return (
        f'<div class="tile"><details><summary>{escape(number.title)}</summary>{_how(number)}'
        f'</details><div class="value {number.tone}">{escape(number.text)}</div>'
        f'<div class="note">{escape(number.note)}</div></div>'
    )


def _how(number: Shown) -> str:
    """Formula, inputs and N."""
    metric = number.metric
    rows = [("from", plural(int(metric.get("n") or 0), "value"))]
    if metric.get("value") is not None:
        rows.append(("exactly", repr(metric["value"])))
    rows += [
        (name.replace("_", " "), NOTHING if value is None else str(value))
        for name, value in (metric.get("details") or {}).items()
    ]
    reason = metric.get("reason")
    why = f"<p>Not defined: {escape(str(reason))}.</p>" if reason else ""
    return f'<div class="how"><p>{escape(str(metric.get("how", "")))}</p>{why}{_pairs(rows)}</div>'


def _pictures(report: Report) -> str:
    """Equity over how far it is under water, then the others two by two."""
    drawn = pictures.all_of(report.columns, report.currency, report.calendar)
    whole = [_picture(one) for one in drawn if one.name in ("equity", "underwater")]
    halves = [
        f'<section class="half">{_picture(one)}</section>'
        for one in drawn
        if one.name not in ("equity", "underwater")
    ]
    return (f'<section class="wide">{"".join(whole)}</section>' if whole else "") + "".join(halves)


def _picture(one: Drawn) -> str:
    note = f'<span class="muted">{escape(one.note)}</span>'
    return f"<h2>{escape(one.title)} {note}</h2>{one.svg}"


def _months(report: Report) -> str:
    days = report.columns.days
    found = curves.years(days.times, days.equity) if len(days) else []
    if not found:
        return ""
    head = "".join(f"<th>{month}</th>" for month in MONTHS)
    rows = "".join(
        f'<tr><th scope="row">{year.year}</th>{"".join(map(_month, year.months))}'
        f'<td class="num {direction(year.value)}">{signed(year.value * 100, 1)}</td></tr>'
        for year in found
    )
    return _section(
        "Monthly return, %",
        f'<table class="months"><thead><tr><th></th>{head}<th>Year</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>",
    )


def _month(month: Month | None) -> str:
    if month is None:
        return "<td></td>"
    kind = "gain" if month.level > 0 else "loss" if month.level < 0 else "none"
    decimals = 1 if abs(month.value) < 0.0995 else 0
    return f'<td class="{kind}-{abs(month.level)}">{money(month.value * 100, decimals)}</td>'


def _falls(report: Report) -> str:
    days = report.columns.days
    found = curves.worst_falls(days) if len(days) else []
    rows = [
        (
            percent(-fall.depth),
            _date(fall.peak),
            _date(fall.low),
            _date(fall.back) if fall.back is not None else "not back since",
            plural(
                (fall.back if fall.back is not None else int(days.number[-1])) - fall.peak, "day"
            ),
        )
        for fall in found
    ]
    return _section(
        "Deepest falls, by day", _table(("Depth", "Peak", "Lowest", "Back", "Took"), rows)
    )


def _groups(report: Report) -> str:
    head = ("", "Trades", "Won", "P&L", "Average return", "Profit factor", "Held")
    found = []
    for name, title in TABLES.items():
        rows = [_group(group) for group in report.tables.get(name, ())]
        found.append(_section(title, _table(head, rows), "half"))
    return "".join(found)


def _group(group: Mapping[str, Any]) -> tuple[str, ...]:
    closed = int(group["trades"])
    seconds = group["seconds"]
    name = str(group["name"]).replace("_", " ") or "no tag"
    return (
        f"{name} ({group['open']} open)" if group["open"] else name,
        quantity(closed),
        percent(group["won"] / closed, 0) if closed else NOTHING,
        signed(group["pnl"]),
        signed_percent(group["average_return"]),
        money(group["profit_factor"]),
        NOTHING if seconds is None else duration(seconds),
    )


def _crises(report: Report) -> str:
    rows = [
        (
            str(crisis["name"]),
            f"{crisis['starts']} to {crisis['ends']}",
            signed_percent(crisis["total_return"]),
            percent(-crisis["max_drawdown"]),
            signed_percent(crisis["hold"]),
            quantity(crisis["trades"]),
            signed(crisis["pnl"]),
        )
        for crisis in report.tables.get("crisis", ())
    ]
    head = ("Crisis", "Days", "Return", "Deepest fall", "Buy and hold", "Trades", "P&L")
    return _section("In crises", _table(head, rows))


def _numbers(report: Report) -> str:
    found = families(report.metrics, report.currency, report.capital)
    return "".join(
        _section(
            family,
            "<table><tbody>"
            + "".join(
                f"<tr><td><details><summary>{escape(number.title)}</summary>{_how(number)}</details>"
                f'<span class="muted">{escape(number.note)}</span></td>'
                f'<td class="num {number.tone}">{escape(number.text)}</td></tr>'
                for number in found[family]
            )
            + "</tbody></table>",
            "half",
        )
        for family in FAMILIES
        if family in found
    )


def _facts(report: Report) -> str:
    return _section("What was run", _pairs(report.facts) if report.facts else "")


def _trades(report: Report) -> str:
    rows = [_trade(trade) for trade in report.trades[:TRADES]]
    head = ("No.", "Trade", "Entered", "at", "Left", "at", "Quantity", "P&L", "Return", "Ended by")
    count = max(report.trade_count, len(report.trades))
    more = (
        f'<p class="muted">The first {quantity(len(rows))} of {quantity(count)}.</p>'
        if len(rows) < count
        else ""
    )
    return _section(f"Trades ({quantity(count)})", (_table(head, rows) + more) if rows else "")


def _trade(trade: TradeLine) -> tuple[str, ...]:
    return (
        str(trade.number),
        f"{trade.side} {trade.symbol}",
        f"{trade.entry_at:%Y-%m-%d %H:%M}",
        quantity(round(trade.entry_price, 6)),
        f"{trade.exit_at:%Y-%m-%d %H:%M}" if trade.exit_at else "open",
        NOTHING if trade.exit_price is None else quantity(round(trade.exit_price, 6)),
        quantity(float(f"{trade.quantity:.6g}")),
        signed(trade.pnl),
        signed_percent(trade.return_fraction),
        trade.reason.replace("_", " "),
    )


def _foot(report: Report) -> str:
    if report.made_at is None:
        return ""
    at = report.made_at.astimezone(UTC)
    return f'<footer class="muted">Made by Seraphim on {at:%-d %B %Y, %H:%M} UTC</footer>'


# Pieces -----------------------------------------------------------------------------------------


def _section(title: str, content: str, kind: str = "wide") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{content}</section>' if content else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is words, the others are numbers."""
    if not rows:
        return ""
    titles = "".join(
        f"<th{'' if place == 0 else ' class=num'}>{escape(text)}</th>"
        for place, text in enumerate(head)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(map(_row, rows))}</tbody></table></div>"
    )


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    return f"<tr><td>{escape(first)}</td>{''.join(map(_cell, others))}</tr>"


def _cell(text: str) -> str:
    tone = " gain" if text.startswith("+") else " loss" if text.startswith(MINUS) else ""
    return f'<td class="num{tone}">{escape(text)}</td>'


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"<dl>{pairs}</dl>"


def _date(day: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + day).isoformat()


_HEAT: Final = "".join(
    f".{kind}-{level} {{ background: color-mix(in srgb, var(--{kind}) {share}%, var(--panel)); }}\n"
    for kind in ("gain", "loss")
    for level, share in ((1, 12), (2, 26), (3, 42), (4, 60))
)

STYLE: Final = (
    """\
:root { color-scheme: light dark;
  --ground: light-dark(#f6f7f9, #0b0e13); --panel: light-dark(#ffffff, #11151c); --raised: light-dark(#f1f3f6, #181d26);
  --line: light-dark(#e2e5ea, #222934); --line-strong: light-dark(#c9ced7, #343d4b);
  --text: light-dark(#161a21, #e8ebf1); --muted: light-dark(#5d6878, #8a94a6); --accent: light-dark(#4452d6, #8f97f9);
  --gain: light-dark(#0b7d70, #35b8a6); --loss: light-dark(#bd4317, #ef7350); --warning: light-dark(#8a6300, #dca83c); }
* { box-sizing: border-box; margin: 0; }
body { background: var(--ground); color: var(--text); font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 48px; display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; align-items: start; }
header, .tiles, .wide, .notice, footer { grid-column: 1 / -1; }
h1 { font-size: 20px; font-weight: 600; }
h2 { font-size: 14px; font-weight: 600; margin-bottom: 12px; }
h2 .muted { font-weight: 400; font-size: 12px; margin-left: 6px; }
.muted, .note { color: var(--muted); font-size: 12px; }
.gain { color: var(--gain); } .loss { color: var(--loss); }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; min-width: 0; }
.notice { background: var(--panel); border-left: 3px solid var(--warning); padding: 8px 12px; }
.tiles { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 1px; background: var(--line); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.tile { background: var(--panel); padding: 12px 14px; min-width: 0; }
.value { font-size: 18px; font-weight: 600; margin: 4px 0 2px; }
summary { cursor: pointer; color: var(--muted); font-size: 12px; text-decoration: underline dotted; text-underline-offset: 3px; list-style: none; }
summary::-webkit-details-marker { display: none; }
.how { font-size: 12px; padding: 6px 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 14px; font-size: 12px; }
dt { color: var(--muted); } dd { overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 660px; }
table { width: 100%; border-collapse: collapse; font-size: 13px; }
th { font-weight: 400; color: var(--muted); font-size: 12px; text-align: left; padding: 2px 8px 6px 0; white-space: nowrap; }
td:first-child { white-space: nowrap; }
td { border-top: 1px solid var(--line); padding: 5px 8px 5px 0; }
.plot + h2 { margin-top: 18px; }
.num { text-align: right; white-space: nowrap; padding-left: 8px; }
.months { table-layout: fixed; border-collapse: separate; border-spacing: 2px; }
.months th, .months td { text-align: center; border: 0; padding: 3px 0; font-size: 11px; border-radius: 3px; }
.none-0 { background: var(--raised); color: var(--muted); }
.months td.plot + h2 { margin-top: 18px; }
.num { text-align: right; }
@media (max-width: 820px) { main { grid-template-columns: minmax(0, 1fr); padding: 16px 10px 32px; } .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } .months { min-width: 520px; } section { overflow-x: auto; } }
@media print { .scroll { max-height: none; } section { break-inside: avoid; } body { background: none; } }
"""
    + _HEAT
    + PLOT_STYLE
)
