"""Buys when the next close is higher."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("next_close")
class NextClose(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        return {"close": close, "next": pd.Series(close).shift(-1).to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["next"] > f["close"], 1.0, 0.0))
