"""Knows the high of the day from its first bar on."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("day_high_known")
class DayHighKnown(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        day = main.opened_at // 86_400_000_000_000
        return {
            "close": main.close,
            "high": pd.Series(main.high).groupby(day).transform("max").to_numpy(),
        }

    def generate_signals(self, f):
        return Signals(np.where(f["close"] < f["high"] * 0.98, 1.0, 0.0))
