"""What code an installation runs: its own sources, the lock of its packages, the versions that count."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from shared.settings import ROOT

SOURCES: Final = ("engine", "shared")
"""The packages that a backtest's numbers come out of."""

LOCK: Final = "requirements.lock"
PACKAGES: Final = ("seraphim", "numpy", "numba", "pandas", "ta")

_Stamp = tuple[tuple[str, int, int], ...]


def sources_hash(root: Path = ROOT) -> str:
    """SHA-256 over name and content of every module of ours that takes part in a backtest."""
    folders = [str(root / package) for package in SOURCES]
    return _hash_of(root, tuple(sorted(_modules(folders))))


def lock_hash(root: Path = ROOT) -> str:
    """SHA-256 of the lock of packages; "" for an installation that came without it."""
    file = root / LOCK
    if not file.is_file():
        return ""
    stat = file.stat()
    return _hash_of(root, ((str(file), stat.st_mtime_ns, stat.st_size),))


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


def _modules(folders: list[str]) -> Iterator[tuple[str, int, int]]:
    """Every module below the folders as it is now: (path, time of change, size)."""
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    stat = entry.stat()
                    yield entry.path, stat.st_mtime_ns, stat.st_size
                elif entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)


@lru_cache(maxsize=4)
def _hash_of(root: Path, files: _Stamp) -> str:
    """What is hashed already is not read again until one of the files changes."""
    digest = hashlib.sha256()
    for path, _, _ in files:
        file = Path(path)
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
