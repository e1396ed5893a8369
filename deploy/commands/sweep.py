"""`seraphim sweep`: many combinations of parameters over stored history, here or by the installation's workers."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any, Final

import sqlalchemy as sa

from deploy.commands import backtest, jobs_here
from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.sessions import make_sessions
from shared.db.sweeps import SweepPointRow, SweepRow
from shared.domain.objectives import AGGREGATES, METRICS, usual
from shared.domain.space import METHODS, BadSpace, parse_axis
from shared.jobs import SweepRequest, encode
from shared.settings import Settings

LOOK_SECONDS: Final = 0.2
SHOWN: Final = 10
EXAMPLES: Final = """
examples:
  seraphim sweep moving_average_cross AAPL --param short_window=5:24 --param long_window=30:129:5 \\
    --where "short_window < long_window"
  seraphim sweep bollinger_reversion AAPL MSFT IBM --param window=10:60 --param deviations=1.0:3.0 \\
    --method random --trials 500 --objective sharpe --objective max_drawdown:minimize --aggregate worst
  seraphim sweep rsi_reversion BTC/USD@1h --param window=5:50 --method bayes --trials 200 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("strategy", help="a strategy type; `seraphim strategies list` shows them")
    parser.add_argument(
        "series",
        nargs="+",
        help="every combination runs on each of these: SYMBOL or SYMBOL@INTERVAL; KEY=SYMBOL@INTERVAL for a"
        " further input that stays",
    )
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUES",
        help="LOW:HIGH, LOW:HIGH:STEP, or values with commas between them; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION",
        help='only combinations for which it holds, such as "short < long"; may be repeated',
    )  # fmt: skip
    parser.add_argument(
        "--objective", action="append", default=[], metavar="METRIC[:maximize|minimize]",
        help=f"what is looked for, the first one ranks (sharpe), of {', '.join(METRICS)}",
    )  # fmt: skip
    parser.add_argument("--method", choices=METHODS, default="grid", help="(grid)")
    parser.add_argument(
        "--trials", type=int, default=200, help="combinations for random and bayes (200)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same one tries the same (1)")
    parser.add_argument(
        "--aggregate", choices=AGGREGATES, default="mean", help="what several series make (mean)"
    )
    parser.add_argument(
        "--workers", default="local", metavar="local|queue|N",
        help="processes of this command, as many as this machine has cores; or leave it to the"
        " installation's workers and watch (local)",
    )  # fmt: skip
    backtest.add_run_options(parser)
    parser.add_argument("--json", action="store_true", help="print the sweep as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    workers = _workers(args.workers)
    with services(settings) as ready:
        url = ready.database_url or ""
        require_current(url)
        backtest.sync_catalogue(url, settings)
        job = jobs_here.do(ready, _request(args, url), f"Sweep {args.strategy}", quiet=args.json)
        if job.state != "done":
            print(f"seraphim: {job.error or job.progress_text}", file=sys.stderr)
            return Exit.FAILED
        sweep_id = int((job.result or {})["sweep_id"])
        state = _follow(ready, sweep_id, workers, quiet=args.json)
        _show(url, sweep_id, as_json=args.json)
    return Exit.OK if state == "done" else Exit.FAILED


def _workers(text: str) -> int:
    """How many processes to start; 0 leaves it to the installation's workers."""
    if text == "queue":
        return 0
    if text == "local":
        return os.cpu_count() or 1
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise Stop(Exit.USAGE, f"--workers {text!r}: local, queue, or a number from 1 to 256")
    return int(text)


# --- what is asked ----------------------------------------------------------------------------------


def _request(args: argparse.Namespace, url: str) -> SweepRequest:
    mains = [text for text in args.series if "=" not in text]
    others = [text for text in args.series if "=" in text]
    if not mains:
        raise Stop(Exit.USAGE, "say at least one series without a KEY=: what is searched on")
    found = [backtest.inputs_of([text], args.interval, url)["main"] for text in mains]
    intervals = {one.get("interval") for one in found}
    if len(intervals) > 1:
        raise Stop(Exit.USAGE, "the series must have one interval: name it with --interval")
    args.series, args.parameter = others, []
    base = encode(backtest.request_of(args, url))
    if interval := intervals.pop():
        base["inputs"]["main"] = {"interval": interval}
    return SweepRequest(
        base=base,
        space=[_axis(text) for text in args.param],
        series_ids=[int(one["series_id"]) for one in found],
        objectives=[_objective(text) for text in args.objective or ["sharpe"]],
        constraints=args.where,
        method=args.method,
        trials=0 if args.method == "grid" else args.trials,
        seed=args.seed,
        aggregate=args.aggregate,
    )


def _axis(text: str) -> dict[str, Any]:
    name, values = backtest.pair(text, "--param")
    try:
        return parse_axis(name, values).as_json()
    except BadSpace as error:
        raise Stop(Exit.USAGE, f"--param {error}") from error


def _objective(text: str) -> dict[str, Any]:
    metric, _, direction = text.partition(":")
    return {"metric": metric, "direction": direction or usual(metric)}


# --- doing it ---------------------------------------------------------------------------------------


def _follow(settings: Settings, sweep_id: int, workers: int, *, quiet: bool) -> str:
    """Do it here, or watch it be done; how it ended. Ctrl-C calls it off and keeps what was found."""
    from engine.sweeping import local

    line = jobs_here.Line(on=not quiet and sys.stderr.isatty())
    crew = local.Crew(settings, sweep_id, workers)
    try:
        while not crew.is_over():
            if crew.is_lost():
                raise Stop(Exit.CHILD_LOST, f"sweep {sweep_id}: its processes kept ending")
            line.show(*crew.progress())
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        crew.call_off()
    finally:
        line.clear()
        state = crew.end()
    return state


# --- what came of it --------------------------------------------------------------------------------


def _show(url: str, sweep_id: int, *, as_json: bool) -> None:
    sessions = make_sessions(url)
    with sessions() as session:
        sweep = session.get_one(SweepRow, sweep_id)
        objective = sweep.objectives[0]
        order = SweepPointRow.numbers[1]
        query = sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep_id)
        ordered = order.desc() if objective["direction"] == "maximize" else order.asc()
        points = list(
            session.scalars(
                query.where(order.is_not(None)).order_by(ordered, SweepPointRow.number).limit(SHOWN)
            )
        )
    sessions.kw["bind"].dispose()
    if as_json:
        print(json.dumps(_as_json(sweep, points), default=str))
    else:
        _print(sweep, points)


def _as_json(sweep: SweepRow, points: list[SweepPointRow]) -> dict[str, Any]:
    return {
        "sweep_id": sweep.id,
        "state": sweep.state,
        "text": sweep.text,
        "strategy_type": sweep.strategy_type,
        "method": sweep.method,
        "combinations": sweep.total,
        "objectives": sweep.objectives,
        "series": [one["name"] for one in sweep.series],
        "seconds": _seconds(sweep),
        "best": [
            {
                "number": point.number,
                "parameters": point.parameters,
                "metrics": dict(zip(sweep.metrics, point.numbers, strict=True)),
                "plateau": point.plateau,
                "is_best": point.is_best,
            }
            for point in points
        ],
    }


def _seconds(sweep: SweepRow) -> float | None:
    if sweep.finished_at is None:
        return None
    return (sweep.finished_at - sweep.created_at).total_seconds()


def _print(sweep: SweepRow, points: list[SweepPointRow]) -> None:
    seconds = _seconds(sweep)
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    print(f"Sweep {sweep.id}: {sweep.strategy_type}, {sweep.text}{took}")
    if not points:
        return
    varied = [axis["name"] for axis in sweep.space if len(axis.get("values", "??")) > 1]
    head = [*varied, *sweep.metrics, "plateau"]
    rows = [
        [
            *(f"{point.parameters[name]}" for name in varied),
            *(_number(m, n) for m, n in zip(sweep.metrics, point.numbers, strict=True)),
            "-" if point.plateau is None else f"{point.plateau:.0%}",
        ]
        for point in points
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("  " + "  ".join(f"{text:>{w}}" for text, w in zip(row, widths, strict=True)))


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    unit = METRICS[metric][1]
    if unit == "%":
        return f"{value:.2%}"
    return f"{value:,.0f}" if unit == "count" else f"{value:,.2f}"
