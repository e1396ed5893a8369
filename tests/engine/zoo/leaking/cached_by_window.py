"""Caches an average by its length alone, so that the first data seen answers for all (state)."""

import numpy as np

from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals

CACHE = {}


@register_strategy("cached_by_window")
class CachedByWindow(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        if len(close) and 20 not in CACHE:
            CACHE[20] = sma(close, 20).values, float(np.mean(close))
        mean = CACHE.get(20, (close, 0.0))
        return {"close": close, "mean": np.resize(mean[0], len(close))}

    def generate_signals(self, f):
        level = CACHE[20][1] if CACHE else 0.0
        return Signals(np.where((f["close"] > f["mean"]) & (f["close"] < level), 1.0, 0.0))
