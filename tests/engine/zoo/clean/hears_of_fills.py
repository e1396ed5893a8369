"""Holds for some bars after a fill it was told of."""

from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal, StopLoss


@register_strategy("hears_of_fills")
class HearsOfFills(BaseStrategy):
    def features(self, bars):
        return {"close": bars["main"].close, "mean": sma(bars["main"].close, 10)}

    def on_fill(self, fill, now):
        self.state["wait"] = 5

    def generate_signal(self, now):
        left = int(self.state.get("wait", 0))
        self.state["wait"] = max(0, left - 1)
        if left:
            return None
        wanted = 0.0 if now.held.get("X1") else float(now["close"] > now["mean"])
        return Signal("X1", wanted, exits=(StopLoss(fraction=0.02),))
