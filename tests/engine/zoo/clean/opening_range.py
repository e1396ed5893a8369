"""The high of the first hour of each day, once that hour is over."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("opening_range")
class OpeningRange(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        day = main.opened_at // 86_400_000_000_000
        early = main.closed_at % 86_400_000_000_000
        first = np.where((early > 0) & (early <= 3_600_000_000_000), main.high, np.nan)
        high = pd.Series(first).groupby(day).cummax().groupby(day).ffill().to_numpy()
        return {"close": main.close, "high": np.where(early > 3_600_000_000_000, high, np.nan)}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["high"], 1.0, 0.0))
