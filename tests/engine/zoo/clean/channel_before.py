"""The extremes of the bars before this one."""

import numpy as np

from engine.indicators import donchian
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("channel_before")
class ChannelBefore(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        low, high = donchian(main.high, main.low, 14)
        return {"close": main.close, "high": high, "low": low}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["high"], 1.0, 0.0))
