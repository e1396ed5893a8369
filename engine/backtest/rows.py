"""Rows by time, where times mostly follow each other at one rate."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.backtest.kernels.lanes import fetched
from engine.bars import Instants
from engine.compiled import compiled

_SOON: Final = 16
"""Moments between asking for the times around one and looking at them."""


@compiled
def _searched(times: Instants, at: int) -> int:
    """The first row later than `at`."""
    low, high = 0, len(times)
    while low < high:
        middle = (low + high) // 2
        if times[middle] <= at:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def rows_after(times: Instants, moments: Instants) -> npt.NDArray[np.int64]:
    """int64[moments]: the first row later than each, the number of rows where none is.

    What `numpy.searchsorted(times, moments, side="right")` finds. While times follow each other at the rate
    of the first two, a row is found at one look that waits for no other; after a gap it is searched for once.
    """
    count = len(times)
    found = np.empty(len(moments), np.int64)
    rate = 1.0 / (times[1] - times[0]) if count > 1 else 0.0
    known_row, known_at = 0, times[0] if count else 0
    for i in range(len(moments)):
        soon = moments[min(i + _SOON, len(moments) - 1)]
        fetched(times.ctypes.data + 8 * (known_row + int((soon - known_at) * rate)))
        at = moments[i]
        guess = known_row + 1 + int((at - known_at) * rate + 1e-6)
        if not (0 < guess < count and times[guess] > at >= times[guess - 1]):
            guess = _searched(times, at)
            if guess > 0:
                known_row, known_at = guess - 1, times[guess - 1]
        found[i] = guess
    return found
