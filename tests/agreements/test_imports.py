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
