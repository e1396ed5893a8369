"""Trades otherwise when the bars are history (wall clock)."""

from datetime import UTC, datetime, timedelta

from engine.indicators import sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal


@register_strategy("by_the_wall_clock")
class ByTheWallClock(BaseStrategy):
    def features(self, bars):
        return {"close": bars["main"].close, "mean": sma(bars["main"].close, 10)}

    def generate_signal(self, now):
        is_history = datetime.now(UTC) - now.closed_at > timedelta(days=1)
        up = now["close"] > now["mean"]
        return Signal("X1", 1.0 if up == is_history else 0.0)
