"""Reads the clock to see how long it takes, and lets nothing hang on it."""

import time

import numpy as np

from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("times_itself")
class TimesItself(BaseStrategy):
    def features(self, bars):
        started = time.perf_counter()
        mean = sma(bars["main"].close, 10)
        self.took = time.perf_counter() - started
        return {"close": bars["main"].close, "mean": mean}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["mean"], 1.0, 0.0))
