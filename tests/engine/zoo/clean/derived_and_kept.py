"""Derives an average of its own in features and reads it bar by bar."""

from engine.indicators import ema
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal


@register_strategy("derived_and_kept")
class DerivedAndKept(BaseStrategy):
    def features(self, bars):
        self.mean = ema(bars["main"].close, 12).values
        return {"close": bars["main"].close}

    def generate_signal(self, now):
        return Signal("X1", 1.0 if now["close"] > self.mean[now.row] else 0.0)
