"""Large arrays that come and go: the process keeps their memory instead of giving it back each time.

The C library asks the system anew for every large piece and returns it when it is freed; the system clears
it each time. In a process that runs one backtest after another that costs more than the backtests.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3

_LARGEST_KEPT: Final = 32 * 1024 * 1024  # as much as glibc allows
_KEPT: Final = 1024 * 1024 * 1024
_AHEAD: Final = 64 * 1024 * 1024


@cache
def keep() -> bool:
    """From now on; whether this C library can be asked. It is asked once a process."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    asked = ((_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _AHEAD))
    return all(library.mallopt(option, size) == 1 for option, size in asked)


@contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """A run keeps what it makes: looking through all of it for cycles, again and again, finds none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
