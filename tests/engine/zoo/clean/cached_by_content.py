"""Caches an average by the bars it is of."""

import numpy as np

from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals

CACHE = {}


@register_strategy("cached_by_content")
class CachedByContent(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        key = close.tobytes()
        if key not in CACHE:
            CACHE[key] = sma(close, 20)
        return {"close": close, "mean": CACHE[key]}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["mean"], 1.0, 0.0))
