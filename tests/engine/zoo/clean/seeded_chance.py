"""Random numbers, from a seed."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("seeded_chance")
class SeededChance(BaseStrategy):
    def features(self, bars):
        random = np.random.Generator(np.random.PCG64(5))
        return {"chance": random.random(len(bars["main"]))}

    def generate_signals(self, f):
        return Signals(np.where(f["chance"] > 0.5, 1.0, 0.0))
