"""The slope of a line fitted to the last twenty bars."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("line_through_a_window")
class LineThroughAWindow(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        x = np.arange(20) - 9.5
        slope = np.full(len(close), np.nan)
        if len(close) >= 20:
            windows = np.lib.stride_tricks.sliding_window_view(close, 20)
            slope[19:] = windows @ x / (x @ x)
        return {"slope": slope}

    def generate_signals(self, f):
        return Signals(np.where(f["slope"] > 0, 1.0, 0.0))
