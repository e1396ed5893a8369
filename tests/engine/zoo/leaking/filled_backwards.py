"""Fills what is missing with what came next."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("filled_backwards")
class FilledBackwards(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        seldom = pd.Series(np.where(main.volume > np.roll(main.volume, 1), main.close, np.nan))
        return {"close": main.close, "level": seldom.bfill().to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["level"] > f["close"], 1.0, 0.0))
