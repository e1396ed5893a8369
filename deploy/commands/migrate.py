"""`seraphim migrate`: the release step."""

from __future__ import annotations

import argparse

from deploy.embedded import services
from deploy.exits import Exit
from deploy.schema import migrate
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Safe to repeat. A schema newer than this code is left alone, with exit code 13."
    )


def run(_args: argparse.Namespace, settings: Settings) -> int:
    with services(settings) as ready:
        before, after = migrate(ready.database_url or "")
    if before == after:
        print(f"The schema is up to date ({after.found}).")
    else:
        print(f"The schema went from {before.found or 'nothing'} to {after.found}.")
    return Exit.OK
