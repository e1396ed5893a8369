"""Normalises by mean and deviation of the whole series."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("whole_normalisation")
class WholeNormalisation(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        return {"score": (close - close.mean()) / close.std()}

    def generate_signals(self, f):
        return Signals(np.where(f["score"] < -0.5, 1.0, 0.0))
