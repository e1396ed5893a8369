"""What code an installation runs: its own sources, the lock of its packages, the versions that count."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from shared.settings import ROOT

SOURCES: Final = ("engine", "shared")
"""The packages that a backtest's numbers come out of."""

LOCK: Final = "requirements.lock"
PACKAGES: Final = ("seraphim", "numpy", "numba", "pandas", "ta")

_Stamp = tuple[tuple[Path, int, int], ...]


def sources_hash(root: Path = ROOT) -> str:
    """SHA-256 over name and content of every module of ours that takes part in a backtest."""
    files = sorted(file for package in SOURCES for file in (root / package).rglob("*.py"))
    return _hash_of(root, _stamped(files))


def lock_hash(root: Path = ROOT) -> str:
    """SHA-256 of the lock of packages; "" for an installation that came without it."""
    file = root / LOCK
    return _hash_of(root, _stamped([file])) if file.is_file() else ""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Python's version and that of each package that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _stamped(files: Iterable[Path]) -> _Stamp:
    """The files as they are now: what is hashed already is not read again until one of them changes."""
    found = [(file, file.stat()) for file in files]
    return tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in found)


@lru_cache(maxsize=4)
def _hash_of(root: Path, files: _Stamp) -> str:
    digest = hashlib.sha256()
    for file, _, _ in files:
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
