"""Donchian breakout: buy a new high, leave on a new low, with a stop a few ATR away."""

import numpy as np

from engine.indicators import atr, donchian
from engine.strategies.base import BaseStrategy, param
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals, StopLoss


@register_strategy("donchian_breakout")
class DonchianBreakout(BaseStrategy):
    """Buys a close above the highest high of the `entry_window` bars before it; leaves on a close below
    the lowest low of the `exit_window` bars before it, or at a stop `stop_atr` average true ranges
    under the entry.
    """

    entry_window = param(20, ge=2, le=1000, help="Bars whose high a close must break to buy.")
    exit_window = param(10, ge=2, le=1000, help="Bars whose low a close must break to leave.")
    atr_window = param(14, ge=2, le=500, help="Bars in the average true range.")
    stop_atr = param(
        2.0, gt=0, le=50, help="Distance of the stop from the entry, in average true ranges."
    )

    def features(self, bars):
        main = bars["main"]
        _, upper = donchian(main.high, main.low, self.entry_window)
        lower, _ = donchian(main.high, main.low, self.exit_window)
        return {
            "close": main.close,
            "upper": upper,
            "lower": lower,
            "atr": atr(main.high, main.low, main.close, self.atr_window),
        }

    def generate_signals(self, f):
        target = np.full(len(f), np.nan)
        target[(f["close"] > f["upper"]) & ~np.isnan(f["atr"])] = 1.0
        target[f["close"] < f["lower"]] = 0.0
        return Signals(target, exits=(StopLoss(distance=f["atr"] * self.stop_atr),))

    def because(self, now):
        close, upper, lower = now["close"], now["upper"], now["lower"]
        if close > upper:
            return f"close {close:.6g} above the {self.entry_window}-bar high {upper:.6g}"
        if close < lower:
            return f"close {close:.6g} below the {self.exit_window}-bar low {lower:.6g}"
        return f"close {close:.6g} between {lower:.6g} and {upper:.6g}"
