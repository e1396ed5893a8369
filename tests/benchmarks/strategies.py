"""Strategies of the benchmark tasks, written as a user writes one."""

import numpy as np

from engine.indicators import bollinger, ema, rsi, sma
from engine.strategies.base import BaseStrategy, param
from shared.domain.signals import Signal, Signals, StopLoss, TakeProfit


class ExponentialCross(BaseStrategy):
    """Long while the short exponential average of the close is above the long one."""

    short_window = param(10, ge=1)
    long_window = param(30, ge=2)

    def features(self, bars):
        close = bars["main"].close
        return {"short": ema(close, self.short_window), "long": ema(close, self.long_window)}

    def generate_signals(self, f):
        target = (f["short"] > f["long"]).astype(float)
        target[np.isnan(f["long"])] = np.nan
        return Signals(target)


class Reversion(BaseStrategy):
    """Buys what is oversold under the lower band, sells what is overbought over the upper one."""

    window = param(20, ge=2)
    strength = param(14, ge=2)
    protected = param(False)

    def features(self, bars):
        close = bars["main"].close
        lower, _, upper = bollinger(close, self.window, 2.0)
        return {"rsi": rsi(close, self.strength), "lower": lower, "upper": upper, "close": close}

    def generate_signals(self, f):
        target = np.full(len(f), np.nan)
        target[(f["rsi"] < 30) & (f["close"] < f["lower"])] = 1.0
        target[(f["rsi"] > 70) & (f["close"] > f["upper"])] = 0.0
        exits = (StopLoss(fraction=0.02), TakeProfit(fraction=0.04)) if self.protected else ()
        return Signals(target, exits=exits, again=True)


class ScalarCross(BaseStrategy):
    """The moving-average cross, asked bar by bar."""

    def features(self, bars):
        close = bars["main"].close
        return {"short": sma(close, 10), "long": sma(close, 30)}

    def generate_signal(self, now):
        return Signal("X", 1.0 if now["short"] > now["long"] else 0.0)


class ManyCrosses(BaseStrategy):
    """The moving-average cross on each of many symbols, with one purse."""

    def features(self, bars):
        found = {}
        for key, one in bars.items():
            found[f"short {key}"], found[f"long {key}"] = sma(one.close, 10), sma(one.close, 30)
        return found

    def generate_signals(self, f):
        keys = [name[6:] for name in f.columns if name.startswith("short ")]
        target = np.empty((len(f), len(keys)))
        for column, key in enumerate(keys):
            target[:, column] = f[f"short {key}"] > f[f"long {key}"]
        return Signals(target)
