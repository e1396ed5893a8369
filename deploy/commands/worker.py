"""`seraphim worker`."""

from __future__ import annotations

import argparse
import subprocess
import sys

from deploy.process import serve
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compile",
        action="store_true",
        help="make the machine code of backtests first, where it is not there yet",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.compile:
        _compile()
    from engine.worker import main

    return serve(settings, main)


def _compile() -> None:
    """In a process of its own: what the compiler needs is given back, and a failure stops no worker."""
    subprocess.run([sys.executable, "-m", "deploy", "compile"], check=False)
