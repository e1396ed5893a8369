"""The hash of bars as a run used them, worked out piece by piece, so that what is known is not hashed again.

It is SHA-256 over the digests of pieces of 65,536 rows; a piece's digest is SHA-256 of its columns, one after
another. Bars that were read from the cache bring the digests of their whole pieces along.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from engine.bars import Bars

PIECE: Final = 65_536
DIGEST_BYTES: Final = 32
_COLUMNS: Final = ("opened_at", "closed_at", "open", "high", "low", "close", "volume")


def used_hash(bars: Bars) -> str:
    """SHA-256 of the bars as they were used: those of the range, quiet intervals filled."""
    whole = len(bars) // PIECE
    digest = hashlib.sha256()
    for known in bars.digests[:whole]:
        digest.update(known)
    for first in range(min(len(bars.digests), whole) * PIECE, len(bars), PIECE):
        digest.update(_digest(bars, first))
    return digest.hexdigest()


def digests(bars: Bars) -> tuple[bytes, ...]:
    """The digest of every whole piece; what the bars know of themselves is taken from them."""
    whole = len(bars) // PIECE
    known = bars.digests[:whole]
    return known + tuple(_digest(bars, n * PIECE) for n in range(len(known), whole))


def _digest(bars: Bars, first: int) -> bytes:
    rows = slice(first, first + PIECE)
    digest = hashlib.sha256()
    for name in _COLUMNS:
        digest.update(np.ascontiguousarray(getattr(bars, name)[rows]).data.cast("B"))
    return digest.digest()
