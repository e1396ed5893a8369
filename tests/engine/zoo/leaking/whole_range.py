"""Places the close between the lowest and the highest of all bars."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("whole_range")
class WholeRange(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        low, high = main.low.min(), main.high.max()
        return {"place": (main.close - low) / (high - low)}

    def generate_signals(self, f):
        return Signals(np.where(f["place"] < 0.4, 1.0, 0.0))
