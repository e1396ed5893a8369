"""Counts rising bars in its state."""

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal


@register_strategy("counts_in_state")
class CountsInState(BaseStrategy):
    def features(self, bars):
        return {"close": bars["main"].close}

    def generate_signal(self, now):
        rising = now["close"] > now.before("close")
        self.state["rising"] = int(self.state.get("rising", 0)) + 1 if rising else 0
        return Signal("X1", 1.0 if self.state["rising"] >= 2 else 0.0)
