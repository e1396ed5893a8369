"""Runs an engine whose watchdog waits only as many seconds as the command line says."""

import asyncio
import sys

from engine.__main__ import Engine
from shared.logs import configure
from shared.settings import Settings

settings = Settings.load()
configure(settings.log_level, settings.log_format)
engine = Engine(settings, stall_seconds=float(sys.argv[1]))
raise SystemExit(asyncio.run(engine.run()))
