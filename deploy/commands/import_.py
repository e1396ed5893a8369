"""`seraphim import PATH...`: shows what is in files, asks, and brings them into the history."""

from __future__ import annotations

import argparse
import fnmatch
import glob
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from deploy.commands import jobs_here
from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.sessions import make_sessions
from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.market import interval_seconds
from shared.jobs import ImportRequest
from shared.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_COLUMNS = (
    "time", "time_of_day", "open", "high", "low", "close", "volume", "adjusted_close", "symbol", "price",
)  # fmt: skip
_SHOWN_SERIES = 40


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Shows columns, date style and interval first and asks before it imports. One bad row\n"
        "refuses the whole file, with line, value and reason; the same file again adds nothing.\n\n"
        "  seraphim import prices/googl.csv\n"
        "  seraphim import eurusd.csv.gz --symbol EUR/USD --day-first --yes\n"
        "  seraphim import odd.csv --columns time=Stamp,close=Last,volume= --save-mapping odd\n"
        "  seraphim import Kraken_OHLCVT.zip --only '*USD_1440.csv'\n"
        "  seraphim import trades/ --trades-to 1m,1h\n"
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH",
        help="CSV (plain, .gz, .zip), Parquet or Feather; a folder or a pattern for all files in it",
    )  # fmt: skip
    parser.add_argument(
        "--symbol", default="", help="what these are the prices of, such as BTC/USD"
    )
    parser.add_argument("--interval", default="", help="length of a bar, such as 1m, 1h or 1d")
    parser.add_argument(
        "--trades-to", default="", metavar="1m,1h", help="bars to make of trades; default 1m"
    )
    parser.add_argument("--calendar", choices=tuple(DAYS_PER_YEAR), help="when the market trades")
    parser.add_argument("--quote", default="", help="what prices are in, such as USD")
    parser.add_argument("--timezone", default="UTC", help="of times that name none; default UTC")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="of an archive, the files of such names"
    )
    _configure_columns(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON; implies --yes"
    )


def _configure_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--columns", default="", metavar="WORD=COLUMN,...",
        help=f"say which column is what; the words are {', '.join(_COLUMNS)}",
    )  # fmt: skip
    parser.add_argument("--mapping", default="", metavar="NAME", help="use columns saved before")
    parser.add_argument(
        "--save-mapping", default="", metavar="NAME", help="keep the columns for the next file"
    )
    parser.add_argument("--mappings", action="store_true", help="list the saved columns, and end")
    parser.add_argument("--forget-mapping", default="", metavar="NAME", help="delete saved columns")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--day-first", action="store_true", help="03/04 is the 3rd of April")
    style.add_argument("--month-first", action="store_true", help="03/04 is the 4th of March")
    parser.add_argument(
        "--closing-times", action="store_true", help="a row's time is when its bar closes"
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """One file and what would be imported of it; or why nothing can be."""

    path: Path
    found: dict[str, Any]
    request: ImportRequest
    problems: tuple[str, ...] = ()
    exit: Exit = Exit.FAILED


def run(args: argparse.Namespace, settings: Settings) -> int:
    said = _mapping(args)
    _check_intervals(args)
    files = [] if args.mappings or args.forget_mapping else _files(args.paths)
    with services(settings) as ready:
        require_current(ready.database_url or "")
        sessions = make_sessions(ready.database_url or "")
        try:
            with sessions() as session:
                if args.mappings or args.forget_mapping:
                    return _saved_mappings(session, args.forget_mapping)
                plans = [_plan(session, args, said, path) for path in files]
        finally:
            sessions.kw["bind"].dispose()
        return _confirm_and_import(args, ready, plans)


def _confirm_and_import(args: argparse.Namespace, settings: Settings, plans: list[_Plan]) -> int:
    good = [plan for plan in plans if not plan.problems]
    if not args.json:
        print("\n".join(_shown(plan) for plan in plans if plan.found))
    for plan in plans:
        for problem in plan.problems:
            print(problem, file=sys.stderr)
    if not good:
        return max(plan.exit for plan in plans)
    if not (args.yes or args.json) and not _confirmed(len(good)):
        print("Nothing was imported.")
        return Exit.USAGE
    results = [_import(args, settings, plan) for plan in good]
    return _told(args, plans, dict(zip((plan.path for plan in good), results, strict=True)))


# --- which files ------------------------------------------------------------------------------------


def _files(paths: list[str]) -> list[Path]:
    if not paths:
        raise Stop(Exit.USAGE, "say which file: seraphim import PATH.")
    found = list(dict.fromkeys(file for text in paths for file in _files_of(text)))
    if not found:
        raise Stop(Exit.USAGE, f"{', '.join(paths)}: there is no file in it.")
    return found


def _files_of(text: str) -> Iterator[Path]:
    """A folder's own files are taken by their names: what a system leaves there and READMEs are not."""
    from engine.importing.sources import is_litter

    path = Path(text)
    if path.is_dir():
        inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
        yield from sorted(path / file for file in inside if not is_litter(file.as_posix()))
    elif path.exists() or path.is_symlink():
        yield path
    else:
        matching = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not matching:
            raise Stop(Exit.USAGE, f"{text}: there is no such file.")
        for each in matching:
            yield from _files_of(str(each)) if each.is_dir() else [each]


# --- what is in them --------------------------------------------------------------------------------


def _plan(session: Session, args: argparse.Namespace, said: dict[str, str], path: Path) -> _Plan:
    from engine.importing.job import found_in
    from engine.importing.problems import BadFile

    nothing = ImportRequest("", path.name)
    try:
        mapping = {**_saved(session, args.mapping), **said}
        found = found_in(session, path, path.name, mapping, timezone=args.timezone)
    except BadFile as bad:
        return _Plan(path, {}, nothing, (str(bad),))
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from error
    series, problems = _series(args, found)
    request = _request(args, found, series)
    if problems:
        told = tuple(f"{path.name}: {problem}" for problem in problems)
        return _Plan(path, found, request, told)
    if wanting := _missing(args, found, request):
        return _Plan(path, found, request, (f"seraphim: {wanting}",), Exit.USAGE)
    return _Plan(path, found, request)


def _series(
    args: argparse.Namespace, found: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[str]]:
    """What goes in of an archive or of a file of several symbols; and what keeps it from that."""
    if "members" in found:
        members = [
            each for each in found["members"]
            if not args.only or fnmatch.fnmatch(each["member"], args.only)
        ]  # fmt: skip
        if not members:
            return [], [f"no file in it is called {args.only}"]
        problems = [f"{each['member']}: {p}" for each in members for p in each["problems"][:1]]
        return [entry for each in members for entry in _entries(args, each)], problems
    if len(found["symbols"]) > 1:
        return _entries(args, found), list(found["problems"])
    return [], list(found["problems"])


def _entries(args: argparse.Namespace, found: dict[str, Any]) -> list[dict[str, Any]]:
    keys = [key for key in found["symbols"] if args.symbol in ("", key)] or [""]
    return [
        {
            "member": found["member"],
            "key": key,
            "symbol": key or found["symbol"],
            "interval": args.interval or found["interval_text"],
            "calendar": args.calendar or found["calendar"],
            "quote_asset": args.quote or found["quote_asset"],
            "asset_class": found["asset_class"],
            "mapping": found["mapping"],
        }
        for key in keys
    ]


def _saved(session: Session, name: str) -> dict[str, str]:
    from engine.importing import mappings

    if not name:
        return {}
    row = mappings.by_name(session, name)
    if row is None:
        names = ", ".join(each.name for each in mappings.listed(session)) or "none"
        raise Stop(Exit.USAGE, f"--mapping {name}: there is none of this name; saved are: {names}.")
    return dict(row.mapping)


def _saved_mappings(session: Session, forgotten: str) -> int:
    from engine.importing import mappings

    if forgotten:
        if not mappings.forget(session, forgotten):
            raise Stop(Exit.USAGE, f"--forget-mapping {forgotten}: there is none of this name.")
        session.commit()
    for row in mappings.listed(session):
        columns = ", ".join(f"{w} = {row.mapping[w]}" for w in _COLUMNS if row.mapping.get(w))
        print(f"{row.name}: {columns}")
    return Exit.OK


def _mapping(args: argparse.Namespace) -> dict[str, str]:
    """What the user said about the columns, in the words of `engine.importing.layout.Layout`."""
    mapping = {}
    for pair in filter(None, args.columns.split(",")):
        word, equals, column = pair.partition("=")
        if not equals or word.strip() not in _COLUMNS:
            raise Stop(
                Exit.USAGE,
                f"--columns {pair}: write WORD=COLUMN, WORD one of {', '.join(_COLUMNS)}.",
            )
        mapping[word.strip()] = column.strip()
    if args.day_first or args.month_first:
        mapping["date_style"] = "day-first" if args.day_first else "month-first"
    if args.closing_times:
        mapping["stamp"] = "close"
    return mapping


def _check_intervals(args: argparse.Namespace) -> None:
    for option, text in (("--interval", args.interval), ("--trades-to", args.trades_to)):
        for part in filter(None, text.split(",")):
            try:
                interval_seconds(part.strip())
            except ValueError as error:
                raise Stop(Exit.USAGE, f"{option}: {error}.") from error


def _request(
    args: argparse.Namespace, found: dict[str, Any], series: list[dict[str, Any]]
) -> ImportRequest:
    return ImportRequest(
        path="",
        file_name=found["file_name"],
        symbol=args.symbol or found["symbol"],
        interval=args.interval or found["interval_text"],
        calendar=args.calendar or found["calendar"],
        quote_asset=args.quote or found["quote_asset"],
        asset_class=found["asset_class"],
        timezone=args.timezone,
        mapping={} if "members" in found else found["mapping"],
        series=series,
        trades_to=args.trades_to,
        save_mapping=args.save_mapping,
    )


def _missing(args: argparse.Namespace, found: dict[str, Any], request: ImportRequest) -> str:
    parts = request.series or [{"symbol": request.symbol, "interval": request.interval}]
    wanted = [
        f"--{name}" for name in ("symbol", "interval") if any(not part[name] for part in parts)
    ]
    if wanted:
        return f"the file does not tell everything; say {' and '.join(wanted)}."
    if len(parts) > 1 and "members" in found and args.symbol:
        return "--symbol names one series, and this archive holds several; choose one with --only."
    guesses = found.get("members", [found])
    if (args.yes or args.json) and any(each["is_guess"] for each in guesses) and not args.mapping:
        columns = ",".join(
            f"{word}={found['mapping'][word]}" for word in _COLUMNS if found["mapping"][word]
        )
        return (
            f"{found['file_name']} has no header, and what its columns are was only guessed. Say it:"
            f' --columns "{columns}".'
        )
    return ""


# --- telling ----------------------------------------------------------------------------------------


def _shown(plan: _Plan) -> str:
    """What was found, as a person reads it."""
    found, request = plan.found, plan.request
    if "members" in found:
        return "\n".join(_archive_lines(found, request))
    mapping = found["mapping"]
    columns = ", ".join(f"{word} = {mapping[word]}" for word in _COLUMNS if mapping[word])
    saved = f" (saved as {found['mapping_name']})" if found["mapping_name"] else ""
    interval = request.trades_to or "1m" if found["kind"] == "trades" else request.interval
    symbol = f"{len(request.series):,} symbols" if request.series else request.symbol or "unknown"
    lines = [
        f"{found['file_name']}: {found['rows']:,} rows, {found['size']:,} bytes",
        f"  columns    {columns}{saved}",
        f"  dates      {mapping['date_style'] or 'unknown'} ({found['date_style_why'] or 'no evidence'}),"
        f" {request.timezone}, time of each bar's {mapping['stamp']}",
        f"  interval   {interval or 'unknown'} ({found['interval_why']})",
        f"  symbol     {symbol}, in {request.quote_asset}, calendar {request.calendar}",
    ]
    lines += [_look_line(look) for look in found["first"]]
    if (found["rows"] or 0) > len(found["first"]):
        lines += ["     ...", *(_look_line(look) for look in found["last"][-1:])]
    return "\n".join([*lines, *(f"  note       {note}" for note in found["notes"])])


def _archive_lines(found: dict[str, Any], request: ImportRequest) -> Iterator[str]:
    yield f"{found['file_name']}: {len(found['members']):,} files, {found['size']:,} bytes"
    for entry in request.series[:_SHOWN_SERIES]:
        key = f" {entry['key']}" if entry["key"] else ""
        yield f"  {entry['member']}{key}: {entry['symbol']} {entry['interval']}, {entry['calendar']}"
    if len(request.series) > _SHOWN_SERIES:
        yield f"  and {len(request.series) - _SHOWN_SERIES:,} more series"


def _look_line(look: dict[str, Any]) -> str:
    prices = f"{look['open']} {look['high']} {look['low']} {look['close']}"
    times = f"{look['opened_at']} to {look['closed_at']}"
    return f"  line {look['line']:<6} {times}  {prices}  volume {look['volume']}"


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise Stop(Exit.USAGE, "nobody is there to confirm this; add --yes if it is right.")
    what = "it" if count == 1 else f"these {count} files"
    return input(f"Import {what}? [y/N] ").strip().lower() in ("y", "yes")


# --- importing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of one file."""

    done: bool
    text: str
    result: dict[str, Any]


def _import(args: argparse.Namespace, settings: Settings, plan: _Plan) -> _Result:
    """Each file is a job of its own: all of it or nothing."""
    copy = _copied(plan.path, settings.home / "uploads")
    request = replace(plan.request, path=copy.name)
    job = jobs_here.do(settings, request, f"Import {plan.path.name}", quiet=args.json)
    copy.unlink(missing_ok=True)
    if job.state == "done":
        return _Result(
            done=True, text=str((job.result or {})["text"]), result=dict(job.result or {})
        )
    return _Result(done=False, text=str(job.error or job.progress_text), result={})


def _copied(file: Path, uploads: Path) -> Path:
    """The file where a worker would find it, should this process die and the job be tried again."""
    uploads.mkdir(parents=True, exist_ok=True)
    copy = uploads / f"{uuid4().hex}{''.join(file.suffixes[-2:])}"
    shutil.copyfile(file, copy)
    return copy


def _told(args: argparse.Namespace, plans: list[_Plan], results: dict[Path, _Result]) -> int:
    """What went in and what did not, and why."""
    if len(plans) == 1:
        return _told_one(args, next(iter(results.values())))
    rows = [(plan, results.get(plan.path)) for plan in plans]
    if args.json:
        print(json.dumps([
            {"file": str(plan.path), "imported": bool(result and result.done),
             "error": "" if result and result.done else result.text if result else plan.problems[0],
             **(result.result if result else {})}
            for plan, result in rows
        ]))  # fmt: skip
    else:
        for plan, result in rows:
            told = result.text if result else plan.problems[0]
            print(f"{plan.path}: {'' if result and result.done else 'refused: '}{told}")
        done = sum(result is not None and result.done for _, result in rows)
        print(f"{done} of {len(rows)} files imported.")
    return Exit.OK if all(result and result.done for _, result in rows) else Exit.FAILED


def _told_one(args: argparse.Namespace, result: _Result) -> int:
    if not result.done:
        print(f"seraphim: nothing was imported.\n{result.text}", file=sys.stderr)
        return Exit.FAILED
    print(json.dumps(result.result) if args.json else result.text)
    return Exit.OK
