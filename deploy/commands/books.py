"""`seraphim books check FILE`: reads an exported ledger back and holds it against the database."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands.export import ledger_rows, named
from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.sessions import make_engine
from shared.domain.ledger import HOLDING, LedgerEntry
from shared.domain.ledger_file import NotALedger, Totals, read, totals
from shared.domain.lots import Method
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    of = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    check = of.add_parser("check", help="read an exported ledger back and compare its totals")
    check.add_argument("file", help="from `seraphim export ledger -o FILE`, or the console's CSV")
    check.add_argument("--account", help="its name; default: the first account")


def run(args: argparse.Namespace, settings: Settings) -> int:
    entries = of_file(Path(args.file))
    with services(settings) as ready:
        require_current(ready.database_url or "")
        engine = make_engine(ready.database_url or "")
        try:
            account = named(engine, args.account)
            known = totals(ledger_rows(engine, account.id), Method(account.lot_method))
        finally:
            engine.dispose()
    told = totals(entries, Method(account.lot_method))
    for (book, asset), amount in sorted(known.books.items()):
        if book == HOLDING:
            print(f"{asset:<8} {amount:f}")
    wrong = differences(told, known)
    for line in wrong:
        print(line)
    if wrong:
        return Exit.FAILED
    print(f"{told.entries:,} entries: every book and every gain is what the database has.")
    return Exit.OK


def of_file(path: Path) -> list[LedgerEntry]:
    """A file's entries; `Stop` says what cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return read(file)
    except (OSError, UnicodeDecodeError, NotALedger) as error:
        raise Stop(Exit.FAILED, f"{path}: {error}") from error


def differences(told: Totals, known: Totals) -> list[str]:
    """What the two do not agree on, a line each."""
    lines = [f"{asset}: the file does not balance, by {amount:f}" for asset, amount in told.out_of_balance.items()]  # fmt: skip
    for name, one, other in (
        ("book", told.books, known.books),
        ("gain of", told.gains, known.gains),
        ("open", told.open, known.open),
    ):
        for key in sorted({*one, *other}, key=str):
            mine, theirs = one.get(key), other.get(key)
            if mine != theirs:
                lines.append(f"{name} {key}: the file says {mine}, the database {theirs}")
    return lines
