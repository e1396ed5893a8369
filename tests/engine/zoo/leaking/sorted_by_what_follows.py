"""Takes the tenth of all bars with the best return after them."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("sorted_by_what_follows")
class SortedByWhatFollows(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        after = np.append(close[5:], np.full(min(5, len(close)), np.nan)) / close - 1
        return {"rank": pd.Series(after).rank(pct=True).to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["rank"] > 0.9, 1.0, 0.0))
