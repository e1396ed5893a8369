"""The average price of the day so far, weighted by volume."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("session_vwap")
class SessionVwap(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        day = main.opened_at // 86_400_000_000_000
        value = pd.Series(main.close * main.volume).groupby(day).cumsum()
        return {
            "close": main.close,
            "vwap": (value / pd.Series(main.volume).groupby(day).cumsum()).to_numpy(),
        }

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["vwap"], 1.0, 0.0))
