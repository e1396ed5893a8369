"""The rank of the last return among those of the last fifty bars."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("rank_in_a_window")
class RankInAWindow(BaseStrategy):
    def features(self, bars):
        change = pd.Series(bars["main"].close).pct_change()
        return {"rank": change.rolling(50).rank(pct=True).to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["rank"] > 0.8, 1.0, 0.0))
