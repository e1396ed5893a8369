"""Two exponential averages."""

import numpy as np

from engine.indicators import ema
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("averages_cross")
class AveragesCross(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        return {"fast": ema(close, 8), "slow": ema(close, 21)}

    def generate_signals(self, f):
        return Signals(np.where(f["fast"] > f["slow"], 1.0, 0.0))
