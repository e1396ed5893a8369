"""Resamples to hours and spreads the close of an hour over its first minutes."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("hour_known_early")
class HourKnownEarly(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        close = pd.Series(main.close, pd.to_datetime(main.opened_at))
        hourly = close.resample("1h", label="left").last()
        return {"close": main.close, "hour": hourly.reindex(close.index, method="ffill").to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["hour"] > f["close"], 1.0, 0.0))
