"""Looks ahead in few bars only: those with a large range."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("ahead_in_spikes")
class AheadInSpikes(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        wide = (main.high - main.low) > 0.011 * main.close
        after = np.append(main.close[1:], main.close[-1:])
        return {"close": main.close, "seen": np.where(wide, after, 0.0)}

    def generate_signals(self, f):
        return Signals(np.where(f["seen"] > f["close"], 1.0, 0.0))
