"""Removes what is fast from the spectrum of all bars."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("smoothed_by_fourier")
class SmoothedByFourier(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        if len(close) < 8:
            return {"close": close, "smooth": close}
        spectrum = np.fft.rfft(close)
        spectrum[len(spectrum) // 20 :] = 0
        return {"close": close, "smooth": np.fft.irfft(spectrum, len(close))}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] < f["smooth"], 1.0, 0.0))
