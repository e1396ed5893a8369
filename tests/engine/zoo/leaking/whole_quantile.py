"""Buys below a quantile of all returns, later ones too."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("whole_quantile")
class WholeQuantile(BaseStrategy):
    def features(self, bars):
        change = np.diff(np.log(bars["main"].close), prepend=np.nan)
        return {"change": change, "limit": np.full(len(change), np.nanquantile(change, 0.2))}

    def generate_signals(self, f):
        return Signals(np.where(f["change"] < f["limit"], 1.0, 0.0))
