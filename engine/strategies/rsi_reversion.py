"""RSI reversion: buy what has fallen too fast, sell it when it has recovered."""

import numpy as np

from engine.indicators import rsi
from engine.strategies.base import BadParameter, BaseStrategy, param
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals, StopLoss


@register_strategy("rsi_reversion")
class RsiReversion(BaseStrategy):
    """Buys when the relative strength index falls under `buy_below`, leaves when it rises over `sell_above`.

    The index is Wilder's, or Cutler's with simple averages. A stop bounds the loss of a fall that goes on.
    """

    window = param(14, ge=2, le=500, help="Bars in the index.")
    buy_below = param(30.0, gt=0, lt=100, help="Buy when the index is under this.")
    sell_above = param(55.0, gt=0, lt=100, help="Sell when the index is over this.")
    stop = param(0.05, ge=0, lt=1, help="Stop loss as a fraction of the entry price; 0 for none.")
    method = param(
        "wilder", choices=("wilder", "cutler"), help="How gains and losses are averaged."
    )

    def check(self):
        if self.buy_below >= self.sell_above:
            raise BadParameter(
                "buy_below", self.buy_below, f"must be less than sell_above {self.sell_above:g}"
            )

    def features(self, bars):
        return {"rsi": rsi(bars["main"].close, self.window, self.method)}

    def generate_signals(self, f):
        target = np.full(len(f), np.nan)
        target[f["rsi"] < self.buy_below] = 1.0
        target[f["rsi"] > self.sell_above] = 0.0
        return Signals(target, exits=(StopLoss(fraction=self.stop),) if self.stop else ())

    def because(self, now):
        value = now["rsi"]
        if value < self.buy_below:
            return f"RSI {value:.2f} under {self.buy_below:g}"
        if value > self.sell_above:
            return f"RSI {value:.2f} over {self.sell_above:g}"
        return f"RSI {value:.2f} between {self.buy_below:g} and {self.sell_above:g}"
