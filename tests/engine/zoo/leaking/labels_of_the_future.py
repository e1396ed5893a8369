"""Weights learned from returns that follow, over all bars."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("labels_of_the_future")
class LabelsOfTheFuture(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        change = np.diff(np.log(close), prepend=np.log(close[:1]))
        past = np.column_stack([np.roll(change, n) for n in range(1, 6)])
        after = np.roll(change, -1)
        weights = np.linalg.lstsq(past, after, rcond=None)[0] if len(close) > 9 else np.zeros(5)
        return {"forecast": past @ weights}

    def generate_signals(self, f):
        return Signals(np.where(f["forecast"] > 0, 1.0, 0.0))
