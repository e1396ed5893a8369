"""A stop as wide as the deviation of the whole series."""

import numpy as np

from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals, StopLoss


@register_strategy("stop_from_all_bars")
class StopFromAllBars(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        return {"close": close, "mean": sma(close, 12)}

    def generate_signals(self, f):
        target = np.where(f["close"] > f["mean"], 1.0, 0.0)
        return Signals(target, exits=(StopLoss(distance=float(np.std(f["close"]))),))
