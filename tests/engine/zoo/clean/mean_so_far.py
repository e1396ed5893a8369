"""The mean of all bars up to this one."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("mean_so_far")
class MeanSoFar(BaseStrategy):
    def features(self, bars):
        close = pd.Series(bars["main"].close)
        return {"close": close.to_numpy(), "mean": close.expanding().mean().to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["mean"], 1.0, 0.0))
