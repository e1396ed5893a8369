"""Draws lines between turning points, the next one included."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("interpolated")
class Interpolated(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        points = pd.Series(np.where(np.arange(len(main)) % 12 == 0, main.close, np.nan))
        return {"close": main.close, "line": points.interpolate().to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] < f["line"], 1.0, 0.0))
