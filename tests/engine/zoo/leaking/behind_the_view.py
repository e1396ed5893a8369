"""Finds the whole array behind the view it is given (state)."""

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal


@register_strategy("behind_the_view")
class BehindTheView(BaseStrategy):
    def features(self, bars):
        return {"close": bars["main"].close}

    def generate_signal(self, now):
        view = now.bars["main"].close
        whole = view if view.base is None else view.base
        after = whole[min(now.row + 1, len(whole) - 1)]
        return Signal("X1", 1.0 if after > now["close"] else 0.0)
