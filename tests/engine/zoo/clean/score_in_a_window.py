"""Distance from the mean of a window, in its deviations."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("score_in_a_window")
class ScoreInAWindow(BaseStrategy):
    def features(self, bars):
        close = pd.Series(bars["main"].close)
        window = close.rolling(30)
        return {"score": ((close - window.mean()) / window.std()).to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["score"] < -1, 1.0, 0.0))
