"""On-balance volume: a sum from the first bar on, against its average."""

import numpy as np
import pandas as pd

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("volume_so_far")
class VolumeSoFar(BaseStrategy):
    def features(self, bars):
        main = bars["main"]
        flow = np.cumsum(np.sign(np.diff(main.close, prepend=main.close[:1])) * main.volume)
        return {"flow": flow, "mean": pd.Series(flow).rolling(15).mean().to_numpy()}

    def generate_signals(self, f):
        return Signals(np.where(f["flow"] > f["mean"], 1.0, 0.0))
