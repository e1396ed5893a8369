"""Joins the slower bars by the time they open: each is known an hour early."""

import numpy as np

from engine.strategies.base import BaseStrategy, series
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("slower_by_opening")
class SlowerByOpening(BaseStrategy):
    slow = series(trades=False)

    def features(self, bars):
        main, slow = bars["main"], bars["slow"]
        rows = np.searchsorted(slow.opened_at, main.closed_at, side="right") - 1
        return {"close": main.close, "slow": slow.close[np.maximum(rows, 0)]}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] < f["slow"], 1.0, 0.0))
