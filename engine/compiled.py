"""Functions over arrays, compiled to machine code by numba and kept on disk.

numba looks only at a function's own file to know whether its code on disk is still right; functions
that call each other across files would go on with old code. So the folder it is kept in carries a hash
of all files with such functions. `seraphim compile` fills it ahead of the first run (`engine.warming`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from llvmlite.binding import get_host_cpu_name

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""No Python while it runs, so threads run side by side; division by zero gives what IEEE 754 says."""

READY: Final = "ready.json"
"""In the folder of machine code once all of it is there: what it was made from and for, to the file's time."""

_ENGINE: Final = Path(__file__).parent
_BESIDE: Final = _ENGINE / "__pycache__"
_MARK: Final = b"from engine.compiled import"


def compiled(function: Function) -> Function:
    """Compile at the first call with each set of argument types; the next process takes it from disk."""
    made: Any = numba.njit(**OPTIONS)
    return made(function)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """A part of compiled functions, small enough to be copied into each of them."""
    made: Any = numba.njit(inline="always", **OPTIONS)
    return made(function)  # type: ignore[no-any-return]


def sources() -> dict[str, bytes]:
    """{path below `engine`: content} of the files whose functions are compiled."""
    read = {str(path.relative_to(_ENGINE)): path.read_bytes() for path in _ENGINE.rglob("*.py")}
    return {name: read[name] for name in sorted(read) if _MARK in read[name]}


def folder_name() -> str:
    """Says what its machine code was made from and for: sources, Python, numba and processor."""
    digest = hashlib.sha256(f"{numba.__version__} {get_host_cpu_name()}".encode())
    for name, content in sources().items():
        digest.update(name.encode() + b"\0" + content)
    return f"compiled-{sys.implementation.cache_tag}-{digest.hexdigest()[:16]}"


def folder() -> Path:
    """Where the machine code lies."""
    return Path(numba.config.CACHE_DIR)  # type: ignore[attr-defined]


def is_ready() -> bool:
    """Whether nothing is left to compile: all was compiled ahead, from the files as they are."""
    try:
        return bool(json.loads((folder() / READY).read_text()) == _made_from())
    except (OSError, ValueError):
        return False


def say_ready() -> None:
    """Note that all is compiled."""
    folder().mkdir(parents=True, exist_ok=True)
    (folder() / READY).write_text(json.dumps(_made_from()))


def drop_older() -> int:
    """Throw away what other sources were compiled to for this Python, beside the code; how many folders."""
    if folder().parent != _BESIDE:
        return 0
    every = _BESIDE.glob(f"compiled-{sys.implementation.cache_tag}-*")
    older = [path for path in every if path != folder()]
    for path in older:
        shutil.rmtree(path, ignore_errors=True)
    return len(older)


def _made_from() -> dict[str, Any]:
    """The times too: numba compiles a file's functions anew when its time is another."""
    times = {name: (_ENGINE / name).stat().st_mtime_ns for name in sources()}
    return {"name": folder_name(), "times": times}


def _folder() -> str:
    """Beside the code where that may be written, else where this user keeps what may go."""
    name = folder_name()
    for place in (_BESIDE, Path(tempfile.gettempdir()) / f"seraphim-{os.getuid()}"):
        try:
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        if os.access(place, os.W_OK) and place.stat().st_uid == os.getuid():
            return str(place / name)
    return str(_BESIDE / name)


if not numba.config.CACHE_DIR:  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = _folder()  # type: ignore[attr-defined]
