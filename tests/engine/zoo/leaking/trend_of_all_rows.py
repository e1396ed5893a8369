"""Holds the close against a line fitted to all bars."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("trend_of_all_rows")
class TrendOfAllRows(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        x = np.arange(len(close), dtype=float)
        line = np.polyval(np.polyfit(x, close, 1), x) if len(close) > 1 else close
        return {"close": close, "line": line}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] < f["line"], 1.0, 0.0))
