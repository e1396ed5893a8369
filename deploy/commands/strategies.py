"""`seraphim strategies list | new NAME | sync`."""

from __future__ import annotations

import argparse

import sqlalchemy as sa

from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.sessions import make_engine
from shared.db.trading import StrategyTypeRow
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    of = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    of.add_parser("list", help="the catalogue, broken files with what is wrong")
    new = of.add_parser("new", help="write a commented template into your strategies folder")
    new.add_argument("name", help="lower case, such as my_breakout")
    of.add_parser("sync", help="bring the catalogue in line with the files now")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.action == "new":
        return _new(args.name, settings)
    from engine import catalogue

    with services(settings) as ready:
        require_current(ready.database_url or "")
        engine = make_engine(ready.database_url or "")
        try:
            with engine.begin() as connection:
                changed = catalogue.sync(connection, settings.strategies_folder)
                if args.action == "sync":
                    print(f"changed: {', '.join(sorted(changed)) or 'nothing'}")
                    return Exit.OK
                return _list(connection)
        finally:
            engine.dispose()


def _new(name: str, settings: Settings) -> int:
    from engine.strategies.registry import BadStrategy, template

    try:
        text = template(name)
    except BadStrategy as error:
        raise Stop(Exit.USAGE, str(error)) from error
    settings.strategies_folder.mkdir(parents=True, exist_ok=True)
    path = settings.strategies_folder / f"{name}.py"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Stop(Exit.USAGE, f"{path} exists already: choose another name") from None
    print(
        f"{path}\nA running engine loads it within a second or two, and again whenever you save it."
    )
    return Exit.OK


def _list(connection: sa.Connection) -> int:
    rows = connection.execute(
        sa.select(StrategyTypeRow.__table__).order_by(StrategyTypeRow.origin, StrategyTypeRow.name)
    ).all()
    for row in rows:
        print(f"{row.name:<24} {row.origin:<9} {row.file_name:<28} {row.code_hash[:10]}")
        if row.error:
            print("    " + row.error.strip().replace("\n", "\n    "))
        else:
            settings = ", ".join(
                f"{p['name']}={p['default']}" for p in row.schema if p["type"] != "input"
            )
            print(f"    {row.doc}\n    {settings}")
    return Exit.FAILED if any(row.error for row in rows) else Exit.OK
