"""Functions over arrays, compiled to machine code by numba and kept on disk.

numba looks only at a function's own file to know whether its code on disk is still right; functions
that call each other across files would go on with old code. So the folder it is kept in carries a hash
of all files whose functions do.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""No Python while it runs, so threads run side by side; division by zero gives what IEEE 754 says."""

_ENGINE: Final = Path(__file__).parent
_TOGETHER: Final = ("backtest/kernels",)
"""Folders whose compiled functions call each other across files."""


def compiled(function: Function) -> Function:
    """Compile at the first call with each set of argument types; the next process takes it from disk."""
    made: Any = numba.njit(**OPTIONS)
    return made(function)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """A part of compiled functions, small enough to be copied into each of them."""
    made: Any = numba.njit(inline="always", **OPTIONS)
    return made(function)  # type: ignore[no-any-return]


def source_hash() -> str:
    """Of everything whose machine code belongs together."""
    digest = hashlib.sha256()
    for folder in _TOGETHER:
        for file in sorted((_ENGINE / folder).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _folder() -> str:
    """Beside the code where that may be written, else where the user keeps caches."""
    name = f"compiled-{source_hash()}"
    beside = _ENGINE / "__pycache__"
    for place in (beside, Path(tempfile.gettempdir()) / f"seraphim-{os.getuid()}"):
        try:
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        if os.access(place, os.W_OK) and place.stat().st_uid == os.getuid():
            return str(place / name)
    return str(beside / name)


if not numba.config.CACHE_DIR:  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = _folder()  # type: ignore[attr-defined]
