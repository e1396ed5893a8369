"""Fills what is missing with what came before."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("filled_forwards")
class FilledForwards(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        seldom = pd.Series(np.where(main.close > main.open, main.close, np.nan))
        return {"close": main.close, "level": seldom.ffill().to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["level"] * 0.999, 1.0, 0.0))
