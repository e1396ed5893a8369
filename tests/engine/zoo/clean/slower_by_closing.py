"""Joins the slower bars by hand, on the time they close."""

import numpy as np

from engine.strategies.base import BaseStrategy, series
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("slower_by_closing")
class SlowerByClosing(BaseStrategy):
    slow = series(trades=False)

    def features(self, bars):
        main, slow = bars["main"], bars["slow"]
        rows = np.searchsorted(slow.closed_at, main.closed_at, side="right") - 1
        return {
            "close": main.close,
            "slow": np.where(rows >= 0, slow.close[np.maximum(rows, 0)], np.nan),
        }

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > f["slow"], 1.0, 0.0))
