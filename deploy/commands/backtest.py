"""`seraphim backtest`: one run over stored history, in this process, stored like any other."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import sqlalchemy as sa

from deploy.commands import jobs_here
from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.backtests import RunRow
from shared.db.lists import PairListRow
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.sessions import make_engine
from shared.domain.market import interval_seconds, interval_text
from shared.jobs import DATA_POLICIES, FINDINGS, BacktestRequest
from shared.report.engines import engine_text
from shared.report.numbers import TITLES
from shared.settings import Settings

RULES = ("position_size", "max_drawdown", "concentration", "volatility", "liquidity")
EXAMPLES = """
examples:
  seraphim backtest moving_average_cross AAPL
  seraphim backtest moving_average_cross AAPL@1d -p short_window=20 -p long_window=60 --from 2005-01-01
  seraphim backtest moving_average_cross BTC/USD@4h --spread 0.0002 --fee-tier 0:0.0026 --fee-tier 50000:0.0024
  seraphim backtest rsi_reversion BTC/USD@1m --fee 0.0026 --sizing cash:1 --no-risk --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("strategy", help="a strategy type; `seraphim strategies list` shows them")
    parser.add_argument(
        "series",
        nargs="+",
        help="what it reads: SYMBOL or SYMBOL@INTERVAL, or KEY=SYMBOL@INTERVAL for further inputs; longer"
        " bars than those that are stored are made of them",
    )
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="may be repeated",
    )
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="print the run as JSON")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What any run can be told, beside its strategy, parameters and series."""
    parser.add_argument(
        "--interval", default="", help="for every series that names none, such as 4h (as stored)"
    )
    parser.add_argument("--from", dest="starts_at", default="", metavar="DATE")
    parser.add_argument("--to", dest="ends_at", default="", metavar="DATE")
    parser.add_argument("--capital", default="100000")
    parser.add_argument("--fee", default="0.001", help="fraction of the traded value (0.001)")
    parser.add_argument("--slippage", default="0", help="fraction of the price (0)")
    _add_more_costs(parser)
    parser.add_argument(
        "--intrabar",
        default="worst_case",
        choices=("worst_case", "ohlc_path", "lower_interval"),
        help="what is assumed to have happened inside a bar (worst_case)",
    )
    parser.add_argument(
        "--volume-share",
        default="",
        help="fraction of a bar's volume that may be traded (no limit)",
    )
    parser.add_argument("--short", action="store_true", help="sell short and borrow")
    parser.add_argument("--leverage", default="1", help="positions per equity, with --short (1)")
    parser.add_argument(
        "--borrow-rate", default="0", help="a year, as a fraction, with --short (0)"
    )
    parser.add_argument(
        "--sizing",
        default="fraction:1",
        metavar="METHOD:VALUE",
        help="fraction:0.5, cash:1, quantity:10, value:1000 or volatility:0.2 (fraction:1)",
    )
    parser.add_argument("--no-risk", action="store_true", help="every risk rule off")
    parser.add_argument(
        "--risk", action="append", default=[], metavar="RULE=LIMIT",
        help=f"one of {', '.join(RULES)} with its limit, or =off; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--bad-data", choices=DATA_POLICIES, default="warn",
        help="bars with findings: run and keep them with the run, or refuse (warn)",
    )  # fmt: skip
    parser.add_argument(
        "--findings", default=",".join(FINDINGS), metavar="KINDS",
        help=f"what counts as bad data, of {', '.join(FINDINGS)}",
    )  # fmt: skip
    parser.add_argument(
        "--universe", default="", metavar="PAIR LIST", help="enter only its members of the day"
    )
    parser.add_argument(
        "--no-gate", action="store_true", help="do not look whether the strategy looks ahead"
    )


def _add_more_costs(parser: argparse.ArgumentParser) -> None:
    """Each cost of `engine.costs.Costs` that is rarer than a fee and slippage in fractions."""
    parser.add_argument(
        "--fee-per-unit", default="0", metavar="AMOUNT", help="for each unit traded, on top (0)"
    )
    parser.add_argument(
        "--fee-minimum", default="0", metavar="AMOUNT", help="what an order pays at least (0)"
    )
    parser.add_argument(
        "--fee-tier", action="append", default=[], metavar="VALUE:FEE",
        help="the fee as a fraction once that value was traded in 30 days, in place of --fee, such as"
        " 50000:0.0024; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--slippage-fixed", default="0", metavar="AMOUNT", help="a distance in price, on top (0)"
    )
    parser.add_argument(
        "--slippage-impact", default="0", metavar="FRACTION",
        help="of the price, at the whole volume of a bar; times the square of the share an order takes (0)",
    )  # fmt: skip
    parser.add_argument(
        "--spread", default="0", metavar="FRACTION", help="whole, half of it is paid each way (0)"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    with services(settings) as ready:
        url = ready.database_url or ""
        require_current(url)
        sync_catalogue(url, settings)
        request = request_of(args, url)
        job = jobs_here.do(ready, request, f"Backtest {args.strategy}", quiet=args.json)
        if job.state != "done":
            print(f"seraphim: {job.error or job.progress_text}", file=sys.stderr)
            return Exit.FAILED
        leaks = _show(url, int((job.result or {})["run_id"]), as_json=args.json)
    return Exit.LOOKS_AHEAD if leaks else Exit.OK


def sync_catalogue(url: str, settings: Settings) -> None:
    """Take in what changed in the folder of strategies."""
    from engine import catalogue

    engine = make_engine(url)
    with engine.begin() as connection:
        catalogue.sync(connection, settings.strategies_folder)
    engine.dispose()


def request_of(args: argparse.Namespace, url: str) -> BacktestRequest:
    """The run that these options ask for."""
    return BacktestRequest(
        strategy_type=args.strategy,
        parameters=dict(pair(text, "--parameter") for text in args.parameter),
        inputs=inputs_of(args.series, args.interval, url),
        capital=args.capital,
        starts_at=args.starts_at,
        ends_at=args.ends_at,
        costs=_costs(args),
        matching={"intrabar": args.intrabar, "volume_share": args.volume_share},
        data_policy=args.bad_data,
        data_findings=[kind.strip() for kind in args.findings.split(",") if kind.strip()],
        universe_id=_universe(args.universe, url),
        margin={
            "enabled": args.short,
            "leverage": args.leverage,
            "borrow_rate": args.borrow_rate,
        },
        sizing=_sizing(args.sizing),
        risk_policy=_policy(args.risk, off=args.no_risk),
        gate=not args.no_gate,
    )


def _costs(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "fee_rate": args.fee,
        "slippage": args.slippage,
        "fee_per_unit": args.fee_per_unit,
        "fee_minimum": args.fee_minimum,
        "fee_tiers": sorted(
            (_tier(text) for text in args.fee_tier), key=lambda tier: float(tier[0])
        ),
        "slippage_fixed": args.slippage_fixed,
        "slippage_impact": args.slippage_impact,
        "spread": args.spread,
    }


def _tier(text: str) -> list[str]:
    value, _, rate = text.partition(":")
    try:
        float(value), float(rate)
    except ValueError:
        raise Stop(
            Exit.USAGE, f"--fee-tier {text!r}: write VALUE:FEE, such as 50000:0.0024"
        ) from None
    return [value, rate]


def _universe(name: str, url: str) -> int:
    if not name:
        return 0
    engine = make_engine(url)
    with engine.connect() as connection:
        query = sa.select(PairListRow.id).where(
            PairListRow.name == name, PairListRow.deleted_at.is_(None)
        )
        found = connection.scalar(query)
    engine.dispose()
    if found is None:
        raise Stop(
            Exit.USAGE, f"--universe {name!r}: there is no such pair list; the console makes them"
        )
    return int(found)


def pair(text: str, option: str) -> tuple[str, str]:
    """NAME=VALUE in two."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Stop(Exit.USAGE, f"{option} {text!r}: write NAME=VALUE")
    return name.strip(), value.strip()


def inputs_of(given: list[str], interval: str, url: str) -> dict[str, Any]:
    """The series that are meant, by input."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return dict(_input(connection, text, interval) for text in given)
    finally:
        engine.dispose()


def _input(connection: sa.Connection, text: str, otherwise: str = "") -> tuple[str, dict[str, Any]]:
    """Its key, and the series: the one of its interval, or the longest that such bars can be made of."""
    key, equals, rest = text.partition("=")
    key, rest = (key, rest) if equals else ("main", text)
    symbol, _, interval = rest.partition("@")
    seconds = _seconds(interval or otherwise)
    query = (
        sa.select(SeriesRow.id, SeriesRow.interval, SeriesRow.source)
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .where(sa.func.lower(InstrumentRow.symbol) == symbol.lower())
        .order_by(SeriesRow.interval, SeriesRow.id)
    )
    found = connection.execute(query).all()
    if seconds:
        fit = [row.interval for row in found if seconds % row.interval == 0]
        found = [row for row in found if row.interval == max(fit, default=0)]
    if not found:
        raise Stop(
            Exit.USAGE,
            f"{rest}: no such series; `seraphim import` or `seraphim sample-data` adds one",
        )
    if len(found) > 1:
        have = ", ".join(f"{symbol}@{interval_text(r.interval)} ({r.source})" for r in found)
        raise Stop(Exit.USAGE, f"{rest} could be {have}: name the interval")
    made = {"interval": seconds} if seconds not in (0, found[0].interval) else {}
    return key, {"series_id": found[0].id, "trades": True, **made}


def _seconds(interval: str) -> int:
    """0 for as it is stored."""
    try:
        return interval_seconds(interval) if interval else 0
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from error


def _sizing(text: str) -> dict[str, Any]:
    method, _, value = text.partition(":")
    names = {"fraction": "fraction", "cash": "fraction", "quantity": "quantity", "value": "value",
             "volatility": "annual_volatility"}  # fmt: skip
    if method not in names:
        raise Stop(Exit.USAGE, f"--sizing {text!r}: the method is one of {', '.join(names)}")
    return {"method": method, **({names[method]: value} if value else {})}


def _policy(given: list[str], *, off: bool) -> dict[str, Any]:
    policy: dict[str, Any] = {rule: {"enabled": False} for rule in RULES} if off else {}
    for text in given:
        rule, limit = pair(text, "--risk")
        if rule not in RULES:
            raise Stop(Exit.USAGE, f"--risk {text!r}: the rule is one of {', '.join(RULES)}")
        name = "max_annual" if rule == "volatility" else "max_fraction"
        policy[rule] = {"enabled": False} if limit == "off" else {"enabled": True, name: limit}
    return policy


def _show(url: str, run_id: int, *, as_json: bool) -> bool:
    """Print the run; whether its strategy looks ahead."""
    engine = make_engine(url)
    with engine.connect() as connection:
        row = connection.execute(sa.select(RunRow.__table__).where(RunRow.id == run_id)).one()
    engine.dispose()
    leaks = row.gate is not None and row.gate["verdict"] == "leaks"
    if as_json:
        kept = {key: value for key, value in row._mapping.items() if key != "job_id"}
        print(json.dumps(kept, default=str))
        return leaks
    rate = row.bars / row.elapsed_seconds if row.elapsed_seconds else 0
    print(
        f"Run {row.id}: {row.strategy_type}, {row.starts_at:%Y-%m-%d} to {row.ends_at:%Y-%m-%d}, ",
        end="",
    )
    print(f"{row.bars:,} bars in {row.elapsed_seconds:.2f} s ({rate:,.0f} a second)", end="")
    print(f"; {engine_text(row.engine, row.options.get('why_core') or '')}")
    for name in (name for name in TITLES if name in row.metrics):
        print(f"  {name.replace('_', ' '):<22} {_value(row.metrics[name]):>18}")
    print(_gate_text(row.gate))
    return leaks


def _gate_text(gate: dict[str, Any] | None) -> str:
    """What the look-ahead gate found, in a line or a few."""
    if gate is None:
        return "Look-ahead: not examined (--no-gate)"
    cost = f"{gate['seconds']:.2f} s of {gate['budget_seconds']:.2f} s"
    head = (
        f"Look-ahead: {gate['verdict'].upper() if gate['findings'] else gate['verdict']} ({cost})"
    )
    told = [finding["text"] for finding in gate["findings"]] or [gate["text"]]
    short = [w for w in gate["warmups"] if not w["enough"]]
    told += [
        f"the feature {w['feature']!r} needs {w['needed'] or 'all'} bars of history, "
        f"{w['declared']} are declared: live it starts from less"
        for w in short
    ]
    return "\n".join([head, *(f"  {line}" for line in told)])


def _value(metric: dict[str, Any]) -> str:
    value = metric["value"]
    if value is None:
        return f"- ({metric['reason']})"
    if metric["unit"] == "%":
        return f"{value:.2%}"
    if metric["unit"] == "seconds":
        return f"{value / 86_400:,.1f} days" if value >= 86_400 else f"{value / 60:,.1f} min"
    return f"{value:,.0f}" if metric["unit"] == "count" else f"{value:,.2f}"
