"""Directional index and moving average convergence."""

import numpy as np

from engine.indicators import adx, macd
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("strength_of_trend")
class StrengthOfTrend(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        line, average, _ = macd(main.close)
        return {"line": line, "average": average, "adx": adx(main.high, main.low, main.close)}

    def generate_signals(self, f):
        return Signals(np.where((f["line"] > f["average"]) & (f["adx"] > 15), 1.0, 0.0))
