"""`seraphim`: the one command line. Only the command that is asked for is imported."""

from __future__ import annotations

import argparse
import atexit
import importlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from deploy.exits import Exit, Stop

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "up": ("run everything on this machine", "deploy.commands.up"),
    "web": ("serve the console", "deploy.commands.web"),
    "engine": ("run the trading engine", "deploy.commands.engine"),
    "worker": ("run workers for backtests and imports", "deploy.commands.worker"),
    "clock": ("run the scheduler and the alert sender", "deploy.commands.clock"),
    "migrate": ("bring the database's schema up to date", "deploy.commands.migrate"),
    "compile": ("make the machine code that backtests run on", "deploy.commands.compile_"),
    "doctor": ("check this installation and say what is wrong", "deploy.commands.doctor"),
    "user": ("add and list users, set passwords", "deploy.commands.user"),
    "import": ("read a price file into the history", "deploy.commands.import_"),
    "sample-data": ("load the price history that comes along", "deploy.commands.sample_data"),
    "backtest": ("run a strategy over stored history", "deploy.commands.backtest"),
    "again": ("run a backtest once more: is it the same?", "deploy.commands.again"),
    "sweep": (
        "run a strategy with many combinations of parameters",
        "deploy.commands.sweep",
    ),
    "export": ("write fills, orders, ledger, lots or positions as CSV", "deploy.commands.export"),
    "books": ("check an exported ledger against the books", "deploy.commands.books"),
    "strategies": ("list strategies and write a new one's template", "deploy.commands.strategies"),
    "kill": ("stop trading now: cancel all, halt everything", "deploy.commands.kill"),
}
"""Command -> what it does, and the module with its `configure(parser)` and `run(args, settings)`."""


def script() -> NoReturn:
    """Run the command of this process and leave it."""
    code = main()
    working = [one for one in threading.enumerate() if one is not threading.main_thread()]
    if not any(one.is_alive() and not one.daemon for one in working):
        # Everything is done and written: taking a large process apart piece by piece helps nobody.
        atexit._run_exitfuncs()
        with suppress(OSError, ValueError):  # what cannot be written is told by the usual way out
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # it was closed before we began
                    stream.flush()
            os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; `deploy.exits` lists them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except Stop as stop:
        print(f"seraphim: {stop}", file=sys.stderr)
        return int(stop.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `seraphim ... | head`
        sys.stderr.close()
        return int(Exit.FAILED)


def _run(arguments: list[str]) -> int:
    name = next((word for word in arguments if not word.startswith("-")), "")
    parser, commands = _parser()
    if name not in COMMANDS:
        parser.parse_args(arguments)  # says what is wrong, or prints the help, and exits
        parser.print_help()
        return int(Exit.USAGE)
    module = importlib.import_module(COMMANDS[name][1])
    module.configure(commands[name])
    parsed = parser.parse_args(arguments)
    return int(module.run(parsed, _settings()))


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="seraphim", description="Trade your own money by your own strategies."
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="which release this is")
    of = parser.add_subparsers(metavar="COMMAND", dest="command")
    commands = {
        name: of.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, (what, _module) in COMMANDS.items()
    }
    return parser, commands


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"seraphim {version('seraphim')}")
        except PackageNotFoundError:
            print("seraphim, not installed: run from its checkout")
        parser.exit()


def _settings() -> Any:
    from shared.settings import Settings, SettingsError

    try:
        return Settings.load()
    except SettingsError as error:
        listed = "".join(f"\n  {problem}" for problem in error.problems)
        raise Stop(Exit.SETTINGS, f"the settings cannot be used:{listed}") from error


if __name__ == "__main__":
    sys.exit(main())
