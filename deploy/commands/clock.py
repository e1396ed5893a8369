"""`seraphim clock`."""

from __future__ import annotations

import argparse

from deploy.process import serve
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    del parser  # everything it needs is a setting


def run(_args: argparse.Namespace, settings: Settings) -> int:
    from engine.clock import main

    return serve(settings, main)
