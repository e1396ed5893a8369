"""Lows that are lower than the five bars on both sides."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("turning_points")
class TurningPoints(BaseStrategy):
    def features(self, bars):
        low = pd.Series(bars["main"].low)
        return {
            "low": low.to_numpy(),
            "least": low.rolling(11, center=True, min_periods=1).min().to_numpy(),
        }

    def generate_signals(self, f):
        return Signals(np.where(f["low"] == f["least"], 1.0, 0.0))
