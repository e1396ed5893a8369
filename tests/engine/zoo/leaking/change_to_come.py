"""The change over the next three bars."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("change_to_come")
class ChangeToCome(BaseStrategy):
    def features(self, bars):
        return {"change": pd.Series(bars["main"].close).pct_change(-3).to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["change"] < -0.002, 1.0, 0.0))
