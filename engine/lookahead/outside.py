"""What a strategy's code touches beside the bars: files, connections, databases, other programs.

Python tells of these through audit events. A hook cannot be taken away again, so there is one for the
process, and it is deaf unless an examination listens in its thread.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba

CODE: Final = (".py", ".pyc", ".so", ".pyd", ".nbi", ".nbc", ".pth", "METADATA", "RECORD", ".txt")
"""Endings of the files that libraries read to load themselves."""

WRITES: Final = "writes the file"
TIME_ZONES: Final = "zoneinfo"

CONNECTIONS: Final = {
    "socket.connect": "connects to {1!r}",
    "socket.sendto": "sends to {1!r}",
    "socket.getaddrinfo": "looks up {0!r}",
    "sqlite3.connect": "opens the database {0!r}",
    "subprocess.Popen": "starts {0!r}",
    "os.system": "runs {0!r}",
    "os.exec": "starts {0!r}",
    "os.posix_spawn": "starts {0!r}",
    "os.fork": "starts a process",
    "os.listdir": "lists the folder {0!r}",
    "os.scandir": "lists the folder {0!r}",
    "urllib.Request": "asks {0!r}",
}

OPAQUE: Final = ("psycopg", "psycopg2", "sqlalchemy", "pyarrow", "ctypes", "cffi", "duckdb")
"""Modules that reach outside without an event."""

_STANDARD: Final = str(Path(os.__file__).parent)
_COMPILER: Final = (*numba.__path__, *llvmlite.__path__)

_listening = threading.local()
_installed = threading.Lock()
_is_installed = False


@contextmanager
def listening() -> Iterator[dict[str, str]]:
    """{what was done: with what}, filled as this thread's code does it: "reads the file 'x.csv'"."""
    _install()
    heard: dict[str, str] = {}
    before = getattr(_listening, "heard", None)
    _listening.heard = heard
    try:
        yield heard
    finally:
        _listening.heard = before


def tell(said: str) -> None:
    """Note something no event tells of, if anybody listens in this thread."""
    heard: dict[str, str] | None = getattr(_listening, "heard", None)
    if heard is not None:
        heard.setdefault(said, "told")


def only_writes(heard: Iterable[str]) -> bool:
    """Whether nothing came in from outside: what is only written down tells nobody the future."""
    return all(said.startswith(WRITES) for said in heard)


def _install() -> None:
    global _is_installed
    with _installed:
        if not _is_installed:
            sys.addaudithook(_hear)
            _is_installed = True


def _hear(event: str, given: tuple[Any, ...]) -> None:
    if event != "open" and event not in CONNECTIONS:
        return
    heard: dict[str, str] | None = getattr(_listening, "heard", None)
    if heard is None or _is_import():
        return
    _listening.heard = None  # what we do here is not the strategy's doing
    try:
        said = _opened(given) if event == "open" else _connected(event, given)
        if said:
            heard.setdefault(said, event)
    finally:
        _listening.heard = heard


def _is_import() -> bool:
    """Whether the import system does it, for whoever imports, or the compiler for what it compiles."""
    frame = sys._getframe(2)
    asks = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return True
        if not asks and not _is_standard(file):
            asks = file
        frame = frame.f_back  # type: ignore[assignment]
    return asks.startswith(_COMPILER)


def _is_standard(file: str) -> bool:
    """Python's own library: it does what somebody else asks."""
    return file.startswith(("<", _STANDARD)) and "site-packages" not in file


def _opened(given: tuple[Any, ...]) -> str:
    path, mode, flags = given
    if not isinstance(path, str | bytes | os.PathLike):
        return ""  # a descriptor that is open already
    name = os.fsdecode(path)
    if _is_code(name):
        return ""
    writes = (isinstance(mode, str) and any(c in mode for c in "wax+")) or bool(
        isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
    )
    return f"{WRITES if writes else 'reads the file'} {name!r}"


def _is_code(name: str) -> bool:
    """Code and time zones that libraries load as they go; sample data beside code is data."""
    if TIME_ZONES in Path(name).parts or name in (os.devnull, "/dev/urandom"):
        return True
    roots = (sys.prefix, sys.base_prefix, *(p for p in sys.path if p))
    inside = any(name.startswith(root) for root in roots) or "__pycache__" in name
    return inside and name.endswith(CODE[:-1])


def _connected(event: str, given: tuple[Any, ...]) -> str:
    try:
        plain = [os.fsdecode(one) if isinstance(one, os.PathLike) else one for one in given]
        return CONNECTIONS[event].format(*plain)
    except (IndexError, ValueError):
        return event
