"""Rests a limit order at the low of the bar it will fill in."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Limit, Signals


@register_strategy("limit_in_the_bar_to_come")
class LimitInTheBarToCome(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        return {"close": main.close, "low": np.append(main.low[1:], main.low[-1:])}

    def generate_signals(self, f):
        target = np.where(np.arange(len(f)) % 6 < 3, 1.0, 0.0)
        return Signals(target, entry=Limit(f["low"]))
