"""Puts the slower bars on the index of the faster ones by opening time."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy, series
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("slower_reindexed")
class SlowerReindexed(BaseStrategy):
    slow = series(trades=False)

    def features(self, bars):
        main, slow = bars["main"], bars["slow"]
        column = pd.Series(slow.high, slow.opened_at).reindex(main.opened_at, method="ffill")
        return {"close": main.close, "high": column.to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["high"] * 0.995, 1.0, 0.0))
