"""Adds up the volume that is still to come."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("sum_from_the_end")
class SumFromTheEnd(BaseStrategy):
    def features(self, bars):
        volume = bars["main"].volume
        return {"left": np.cumsum(volume[::-1])[::-1] / max(1, len(volume))}

    def generate_signals(self, f):
        return Signals(np.where(f["left"] > 1e5, 1.0, 0.0))
