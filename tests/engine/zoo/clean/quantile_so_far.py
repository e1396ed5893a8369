"""A quantile of all returns up to this bar."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("quantile_so_far")
class QuantileSoFar(BaseStrategy):
    def features(self, bars):
        change = pd.Series(bars["main"].close).pct_change()
        return {"change": change.to_numpy(), "limit": change.expanding(20).quantile(0.2).to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["change"] < f["limit"], 1.0, 0.0))
