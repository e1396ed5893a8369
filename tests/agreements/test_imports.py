"""Imports flow one way. The rules stand in pyproject.toml under `tool.importlinter`."""

import subprocess
import sys
from pathlib import Path

from shared.settings import ROOT


def test_imports_flow_one_way():
    command = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_console_imports_nothing_that_calculates():
    program = "import sys, webapp\nprint(*sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    modules = set(done.stdout.split())
    assert "flask" in modules
    assert modules & {"pandas", "numba", "llvmlite", "optuna", "pyarrow", "apprise", "engine"} == (
        set()
    )
