"""`seraphim up`."""

from __future__ import annotations

import argparse

from deploy.exits import MEANINGS
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    codes = "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())
    parser.epilog = (
        "Starts PostgreSQL and Redis unless DATABASE_URL and REDIS_URL name yours, brings the\n"
        "schema up to date, then runs every process of the Procfile. Ctrl-C stops all of it in\n"
        "order; a second Ctrl-C does not wait.\n\n"
        f"exit codes:\n{codes}\n"
    )


def run(_args: argparse.Namespace, settings: Settings) -> int:
    from deploy.up import up

    return up(settings)
