"""Runs an engine whose watchdog waits only as many seconds as the command line says."""

import asyncio
import faulthandler
import signal
import sys

from engine.__main__ import Engine
from shared.logs import configure
from shared.settings import Settings

faulthandler.register(signal.SIGUSR1)  # where it stands, when a proof wants to know
settings = Settings.load()
configure(settings.log_level, settings.log_format)
engine = Engine(settings, stall_seconds=float(sys.argv[1]))
raise SystemExit(asyncio.run(engine.run()))
