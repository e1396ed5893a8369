"""The slope between the bar before and the bar after."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("central_gradient")
class CentralGradient(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        return {"slope": np.gradient(close) if len(close) > 1 else close * 0}

    def generate_signals(self, f):
        return Signals(np.where(f["slope"] > 0, 1.0, 0.0))
