"""Bollinger reversion: buy under the lower band, sell at the middle."""

import numpy as np

from engine.indicators import bollinger
from engine.strategies.base import BaseStrategy, param
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals, StopLoss, TimeExit


@register_strategy("bollinger_reversion")
class BollingerReversion(BaseStrategy):
    """Buys a close under the lower Bollinger band and leaves when the close is back over the middle.

    A stop bounds the loss, and a position that has not come back after `patience` bars is given up.
    """

    window = param(20, ge=2, le=1000, help="Bars in the average and its deviation.")
    deviations = param(2.0, gt=0, le=10, help="Width of the bands in population deviations.")
    stop = param(0.04, ge=0, lt=1, help="Stop loss as a fraction of the entry price; 0 for none.")
    patience = param(40, ge=0, le=10000, help="Leave after this many bars; 0 to wait for ever.")

    def features(self, bars):
        close = bars["main"].close
        lower, middle, _ = bollinger(close, self.window, self.deviations)
        return {"close": close, "lower": lower, "middle": middle}

    def generate_signals(self, f):
        target = np.full(len(f), np.nan)
        target[f["close"] < f["lower"]] = 1.0
        target[f["close"] > f["middle"]] = 0.0
        stop = [StopLoss(fraction=self.stop)] if self.stop else []
        patience = [TimeExit(self.patience)] if self.patience else []
        return Signals(target, exits=(*stop, *patience))

    def because(self, now):
        close, lower, middle = now["close"], now["lower"], now["middle"]
        if close < lower:
            return f"close {close:.6g} under lower band {lower:.6g}"
        if close > middle:
            return f"close {close:.6g} over middle {middle:.6g}"
        return f"close {close:.6g} between lower band {lower:.6g} and middle {middle:.6g}"
