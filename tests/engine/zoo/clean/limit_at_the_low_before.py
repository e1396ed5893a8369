"""Rests a limit order at the low of the bar that has closed."""

import numpy as np

from engine.indicators import atr
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Limit, Signals, StopLoss, TakeProfit


@register_strategy("limit_at_the_low_before")
class LimitAtTheLowBefore(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        return {"low": main.low, "range": atr(main.high, main.low, main.close)}

    def generate_signals(self, f):
        target = np.where(np.arange(len(f)) % 6 < 3, 1.0, 0.0)
        exits = (StopLoss(distance=2 * f["range"]), TakeProfit(distance=3 * f["range"]))
        return Signals(target, entry=Limit(f["low"]), exits=exits)
