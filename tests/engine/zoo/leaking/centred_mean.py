"""An average over bars on both sides."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("centred_mean")
class CentredMean(BaseStrategy):
    def features(self, bars):
        close = pd.Series(bars["main"].close)
        return {"close": close.to_numpy(), "mean": close.rolling(9, center=True).mean().to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] < f["mean"], 1.0, 0.0))
