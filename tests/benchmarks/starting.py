"""What it takes to begin: `import webapp`, `seraphim --help`, and a first backtest from frame to numbers."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Final

from shared.settings import ROOT

REPEATS: Final = 5

BACKTEST: Final = """
from engine.backtest import run
from tests.benchmarks.data import one_minute_bars
found = run("moving_average_cross", one_minute_bars(10_000))
print(f"{len(found.fills):,} fills by the {found.engine}, look-ahead {found.gate['verdict']}")
"""


def main() -> int:
    print(f"\nwhole processes, median of {REPEATS}\n")
    missed = told("import webapp", 0.8, ["-c", "import webapp"])
    missed |= told("seraphim --help", 0.25, ["-m", "deploy", "--help"])
    missed |= told("a backtest of 10,000 bars from Python, gate on", 3.0, ["-c", BACKTEST])
    with tempfile.TemporaryDirectory() as empty:
        name = "the same with nothing compiled, once"
        told(name, None, ["-c", BACKTEST], {"NUMBA_CACHE_DIR": empty}, repeats=1)
    return int(missed)


def told(
    name: str,
    most: float | None,
    arguments: list[str],
    also: dict[str, str] | None = None,
    repeats: int = REPEATS,
) -> bool:
    """One line: seconds from start to end, and how many they may be. Whether they were more."""
    times, said = [], ""
    for _ in range(repeats):
        started = time.perf_counter()
        said = process(arguments, also or {})
        times.append(time.perf_counter() - started)
    limit = "" if most is None else f"at most {most:g} s"
    note = said.splitlines()[-1] if "-c" in arguments and said else ""
    seconds = statistics.median(times)
    print(f"{name:<52} {seconds:>6.2f} s   {limit:<14} {note}")
    return most is not None and seconds > most


def process(arguments: list[str], also: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **also},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
