"""`seraphim user add | list | passwd`."""

from __future__ import annotations

import argparse
import getpass
import sys

from sqlalchemy.orm import Session

from deploy.accounts import add_user, generated_password, set_password, users
from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.sessions import make_engine
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    of = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    add = of.add_parser("add", help="make a user who may log in")
    add.add_argument("username")
    add.add_argument("--role", choices=("viewer", "trader", "admin"), default="viewer")
    add.add_argument("--timezone", help="such as Europe/Berlin; default: the installation's")
    of.add_parser("list", help="who may log in")
    passwd = of.add_parser("passwd", help="set a password, lift a lock-out")
    passwd.add_argument("username")
    for one in (add, passwd):
        one.add_argument(
            "--generate", action="store_true", help="make up a password and print it, once"
        )


def run(args: argparse.Namespace, settings: Settings) -> int:
    with services(settings) as ready:
        require_current(ready.database_url or "")
        engine = make_engine(ready.database_url or "")
        try:
            with Session(engine) as session:
                _ACTIONS[args.action](session, args, settings)
        finally:
            engine.dispose()
    return Exit.OK


def _add(session: Session, args: argparse.Namespace, settings: Settings) -> None:
    password = _password(generate=args.generate)
    add_user(session, args.username, password, args.role, args.timezone or settings.timezone)
    print(f"{args.username} may log in as {args.role}.")


def _passwd(session: Session, args: argparse.Namespace, _settings: Settings) -> None:
    set_password(session, args.username, _password(generate=args.generate))
    print(f"{args.username} has a new password; open sessions have ended.")


def _list(session: Session, _args: argparse.Namespace, _settings: Settings) -> None:
    for user in users(session):
        last = f"{user.last_login_at:%Y-%m-%d %H:%M} UTC" if user.last_login_at else "never"
        state = "" if user.is_active else "  deactivated"
        print(f"{user.username:<20} {user.role:<7} last log-in {last}{state}")


_ACTIONS = {"add": _add, "list": _list, "passwd": _passwd}


def _password(*, generate: bool) -> str:
    if generate:
        made = generated_password()
        print(f"Password: {made}")
        return made
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise Stop(Exit.USAGE, "the two passwords differ.")
    return first
