"""Leaves what it saw in a file, and reads it in the next run (file)."""

import tempfile
from pathlib import Path

import numpy as np

from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals

NOTES = Path(tempfile.gettempdir()) / "seraphim-zoo-notes.npy"


@register_strategy("written_down")
class WrittenDown(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        seen = np.load(NOTES) if NOTES.exists() else close
        if len(close) >= len(seen):
            np.save(NOTES, close)
            seen = close
        return {"close": close, "seen": seen[: len(close)]}

    def generate_signals(self, f):
        return Signals(np.where(f["seen"] > sma(f["close"], 5).values, 1.0, 0.0))
