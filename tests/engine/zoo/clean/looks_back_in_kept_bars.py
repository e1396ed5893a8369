"""Keeps the bars and looks at earlier ones only."""

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal


@register_strategy("looks_back_in_kept_bars")
class LooksBackInKeptBars(BaseStrategy):
    def features(self, bars):
        self.kept = bars["main"].close
        return {"close": bars["main"].close}

    def generate_signal(self, now):
        before = self.kept[max(0, now.row - 7)]
        return Signal("X1", 1.0 if now["close"] > before else 0.0)
