"""Buys up to the bar with the highest close of all."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("best_bar_of_all")
class BestBarOfAll(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        best = int(np.argmax(close)) if len(close) else 0
        return {"left": best - np.arange(len(close), dtype=float)}

    def generate_signals(self, f):
        return Signals(np.where(f["left"] > 0, 1.0, 0.0))
