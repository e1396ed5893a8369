"""The average of a slower input, joined once its bars have closed."""

import numpy as np

from engine.indicators import sma
from engine.strategies.base import BaseStrategy, series
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("slower_average")
class SlowerAverage(BaseStrategy):
    slow = series(trades=False)

    def features(self, bars):
        return {"close": bars["main"].close, "slow": sma(bars["slow"].close, 4).on("slow")}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["slow"], 1.0, 0.0))
