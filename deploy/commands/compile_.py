"""`seraphim compile`: machine code for everything that is compiled, before the first run needs it."""

from __future__ import annotations

import argparse
import time

from deploy.exits import Exit
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Takes about half a minute the first time and after an update, and no time when all is there.\n"
        "`make run` does it; until it is done, short backtests take the slower way and say so."
    )


def run(_args: argparse.Namespace, _settings: Settings) -> int:
    from engine import compiled

    started = time.perf_counter()
    if compiled.is_ready():
        print("Everything is compiled.")
        return Exit.OK
    from engine import warming

    print(f"Compiling into {compiled.folder()}")
    warming.make_ready(_tell)
    print(f"Everything is compiled, in {time.perf_counter() - started:.0f} s.")
    return Exit.OK


def _tell(name: str, seconds: float) -> None:
    print(f"  {name:<28} {seconds:>5.1f} s", flush=True)
