"""What was measured, on this machine, just now. `make bench`, or `make bench ARGS=reading` for one part.

Data are deterministic one-minute bars from PCG64(7); nothing is read from outside.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from shared.settings import ROOT
from tests.benchmarks import backtests, books, importing, reading, starting, whole


def jobs() -> int:
    """In a process of their own, as workers give them: one that is full of other tasks' arrays is slower."""
    return subprocess.run([sys.executable, "-m", "tests.benchmarks.jobs"], cwd=ROOT).returncode


PARTS: Final = {
    "backtest": (backtests.main, jobs, whole.main, starting.main),
    "import": (importing.main,),
    "reading": (reading.main,),
    "books": (books.main,),
}


def main(asked: list[str]) -> int:
    """Returns 1 when a limit is missed, 2 for a part there is not."""
    if unknown := [name for name in asked if name not in PARTS]:
        print(f"no part {unknown[0]!r}: give {', '.join(PARTS)}, or nothing for all of them")
        return 2
    found = [part() for name in asked or PARTS for part in PARTS[name]]
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
