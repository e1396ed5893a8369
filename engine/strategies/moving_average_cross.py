"""Moving-average cross: be long while the short average stands above the long one."""

import numpy as np

from engine.indicators import sma
from engine.strategies.base import BadParameter, BaseStrategy, param
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("moving_average_cross")
class MovingAverageCross(BaseStrategy):
    """Long while the short simple average of the close is above the long one, flat otherwise.

    A trend follower: it earns in long moves and pays small losses in sideways markets.
    """

    short_window = param(10, ge=1, le=1000, help="Bars in the short average.")
    long_window = param(30, ge=2, le=5000, help="Bars in the long average.")

    def check(self):
        if self.short_window >= self.long_window:
            raise BadParameter(
                "short_window",
                self.short_window,
                f"must be less than long_window {self.long_window}",
            )

    def features(self, bars):
        close = bars["main"].close
        return {"short": sma(close, self.short_window), "long": sma(close, self.long_window)}

    def generate_signals(self, f):
        target = (f["short"] > f["long"]).astype(float)
        target[np.isnan(f["long"])] = np.nan
        return Signals(target)

    def because(self, now):
        short, long = now["short"], now["long"]
        above = "above" if short > long else "not above"
        return f"short average {short:.6g} {above} long average {long:.6g}"
