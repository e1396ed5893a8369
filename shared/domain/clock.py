"""Moments that mostly follow each other at one rate, kept as that: the first one, then steps and how often each."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_NUMBERS: Final = "<i8"


def pack(times: npt.NDArray[np.int64]) -> bytes:
    """Nanoseconds, in order, as little-endian int64: the first, then pairs of a step and a count."""
    if not len(times):
        return b""
    steps = np.diff(times)
    first = np.flatnonzero(np.concatenate([[True], steps[1:] != steps[:-1]])[: len(steps)])
    counts = np.diff(first, append=len(steps))
    pairs = np.stack([steps[first], counts], axis=1).ravel()
    return np.concatenate([times[:1], pairs]).astype(_NUMBERS).tobytes()


def unpack(data: bytes) -> npt.NDArray[np.int64]:
    """int64[moments] of what `pack` made."""
    numbers = np.frombuffer(data, _NUMBERS)
    if not len(numbers):
        return np.zeros(0, np.int64)
    steps = np.repeat(numbers[1::2], numbers[2::2])
    return np.concatenate([numbers[:1], numbers[0] + np.cumsum(steps)])
