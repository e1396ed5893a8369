"""A Kalman filter of the level, in a loop."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("filtered_step_by_step")
class FilteredStepByStep(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        level, out, doubt = 0.0, np.empty(len(close)), 1e6
        for row, price in enumerate(close.tolist()):
            doubt += 0.05
            gain = doubt / (doubt + 1.0)
            level += gain * (price - level)
            doubt *= 1 - gain
            out[row] = level
        return {"close": close, "level": out}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["level"], 1.0, 0.0))
