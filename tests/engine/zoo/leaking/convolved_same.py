"""A kernel laid over the middle of its window."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("convolved_same")
class ConvolvedSame(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        if len(close) < 7:
            return {"close": close, "mean": close}
        return {"close": close, "mean": np.convolve(close, np.ones(7) / 7, mode="same")}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] < f["mean"], 1.0, 0.0))
