"""Functions over arrays, compiled to machine code by numba and kept on disk beside their module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""No Python while it runs, so threads run side by side; division by zero gives what IEEE 754 says."""


def compiled(function: Function) -> Function:
    """Compile at the first call with each set of argument types; the next process takes it from disk."""
    made: Any = numba.njit(**OPTIONS)
    return made(function)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """A part of compiled functions, small enough to be copied into each of them."""
    made: Any = numba.njit(inline="always", **OPTIONS)
    return made(function)  # type: ignore[no-any-return]
