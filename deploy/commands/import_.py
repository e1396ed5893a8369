"""`seraphim import FILE`: shows what is in a file, asks, and brings it into the history."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from deploy.commands import jobs_here
from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.market import interval_seconds
from shared.jobs import ImportRequest
from shared.settings import Settings

if TYPE_CHECKING:
    from engine.importing.detection import Detection, Look

_COLUMNS = (
    "time", "time_of_day", "open", "high", "low", "close", "volume", "adjusted_close", "symbol",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Shows columns, date style and interval first and asks before it imports. One bad row\n"
        "refuses the whole file, with line, value and reason; the same file again adds nothing.\n\n"
        "  seraphim import prices/googl.csv\n"
        "  seraphim import eurusd.csv.gz --symbol EUR/USD --day-first --yes\n"
        "  seraphim import odd.csv --columns time=Stamp,close=Last,volume=\n"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV with a header, plain or .gz")
    parser.add_argument(
        "--symbol", default="", help="what these are the prices of, such as BTC/USD"
    )
    parser.add_argument("--interval", default="", help="length of a bar, such as 1m, 1h or 1d")
    parser.add_argument("--calendar", choices=tuple(DAYS_PER_YEAR), help="when the market trades")
    parser.add_argument("--quote", default="", help="what prices are in, such as USD")
    parser.add_argument("--timezone", default="UTC", help="of times that name none; default UTC")
    parser.add_argument(
        "--columns",
        default="",
        metavar="WORD=COLUMN,...",
        help=f"say which column is what; the words are {', '.join(_COLUMNS)}",
    )
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--day-first", action="store_true", help="03/04 is the 3rd of April")
    style.add_argument("--month-first", action="store_true", help="03/04 is the 4th of March")
    parser.add_argument(
        "--closing-times", action="store_true", help="a row's time is when its bar closes"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON; implies --yes"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    if not args.file.is_file():
        raise Stop(Exit.USAGE, f"{args.file}: there is no such file.")
    found = _look(args)
    request = _request(args, found)
    if not args.json:
        print(_shown(found, request))
    if found.problems:
        for problem in found.problems:
            print(f"{found.file_name}: {problem}", file=sys.stderr)
        return Exit.FAILED
    if missing := _missing(request):
        raise Stop(Exit.USAGE, missing)
    if not (args.yes or args.json) and not _confirmed():
        print("Nothing was imported.")
        return Exit.USAGE
    return _import(args, settings, request)


def _look(args: argparse.Namespace) -> Detection:
    from engine.importing.detection import detect
    from engine.importing.problems import BadFile

    try:
        return detect(args.file, mapping=_mapping(args), timezone=args.timezone, symbol=args.symbol)
    except BadFile as bad:
        raise Stop(Exit.FAILED, str(bad)) from bad
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from error


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


def _request(args: argparse.Namespace, found: Detection) -> ImportRequest:
    if args.interval:
        try:
            interval_seconds(args.interval)
        except ValueError as error:
            raise Stop(Exit.USAGE, f"--interval: {error}.") from error
    return ImportRequest(
        path="",
        file_name=args.file.name,
        symbol=args.symbol or found.symbol,
        interval=args.interval or found.interval_text,
        calendar=args.calendar or found.calendar,
        quote_asset=args.quote or found.quote_asset,
        asset_class=found.asset_class,
        timezone=args.timezone,
        mapping=found.mapping,
    )


def _missing(request: ImportRequest) -> str:
    wanted = [
        f"--{name}" for name, value in (("symbol", request.symbol), ("interval", request.interval))
        if not value
    ]  # fmt: skip
    return f"the file does not tell everything; say {' and '.join(wanted)}." if wanted else ""


def _shown(found: Detection, request: ImportRequest) -> str:
    """What was found, as a person reads it."""
    columns = ", ".join(
        f"{word} = {found.mapping[word]}" for word in _COLUMNS if found.mapping[word]
    )
    lines = [
        f"{found.file_name}: {found.rows:,} rows, {found.size:,} bytes",
        f"  columns    {columns}",
        f"  dates      {found.mapping['date_style'] or 'unknown'} ({found.date_style_why or 'no evidence'}),"
        f" {request.timezone}, time of each bar's {found.mapping['stamp']}",
        f"  interval   {request.interval or 'unknown'} ({found.interval_why})",
        f"  symbol     {request.symbol or 'unknown'}, in {request.quote_asset}, calendar {request.calendar}",
    ]
    lines += [_look_line(look) for look in found.first]
    if found.rows > len(found.first):
        lines += ["     ...", *(_look_line(look) for look in found.last[-1:])]
    return "\n".join([*lines, *(f"  note       {note}" for note in found.notes)])


def _look_line(look: Look) -> str:
    prices = f"{look.open} {look.high} {look.low} {look.close}"
    return f"  line {look.line:<6} {look.opened_at} to {look.closed_at}  {prices}  volume {look.volume}"


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise Stop(Exit.USAGE, "nobody is there to confirm this; add --yes if it is right.")
    return input("Import it? [y/N] ").strip().lower() in ("y", "yes")


def _import(args: argparse.Namespace, settings: Settings, request: ImportRequest) -> int:
    with services(settings) as ready:
        require_current(ready.database_url or "")
        copy = _copied(args.file, ready.home / "uploads")
        title = f"Import {args.file.name}"
        job = jobs_here.do(ready, _with_path(request, copy.name), title, quiet=args.json)
        copy.unlink(missing_ok=True)
    if job.state != "done":
        print(f"seraphim: nothing was imported.\n{job.error or job.progress_text}", file=sys.stderr)
        return Exit.FAILED
    print(json.dumps(job.result) if args.json else (job.result or {})["text"])
    return Exit.OK


def _copied(file: Path, uploads: Path) -> Path:
    """The file where a worker would find it, should this process die and the job be tried again."""
    uploads.mkdir(parents=True, exist_ok=True)
    copy = uploads / f"{uuid4().hex}{''.join(file.suffixes[-2:])}"
    shutil.copyfile(file, copy)
    return copy


def _with_path(request: ImportRequest, path: str) -> ImportRequest:
    from dataclasses import replace

    return replace(request, path=path)
