"""Relative strength by Wilder averages."""

import numpy as np

from engine.indicators import rsi
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("wilder_strength")
class WilderStrength(BaseStrategy):
    def features(self, bars):
        return {"strength": rsi(bars["main"].close, 14)}

    def generate_signals(self, f):
        return Signals(np.where(f["strength"] < 45, 1.0, 0.0))
