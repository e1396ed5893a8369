"""The clock keeps lots: in a process that imports nothing else of the schema."""

from __future__ import annotations

import subprocess
import sys

from shared.settings import ROOT


def test_lots_can_be_kept_by_a_process_that_knows_only_what_it_imports_itself():
    script = (
        "from engine import clock\n"
        "from shared.db.base import Base\n"
        "for table in Base.metadata.tables.values():\n"
        "    for key in table.foreign_keys:\n"
        "        key.column\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
