"""A default argument that remembers the longest series it ever saw (mutable default)."""

import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("remembered_default")
class RememberedDefault(BaseStrategy):
    def features(self, bars, seen=[]):  # noqa: B006  the mistake is the point
        close = bars["main"].close
        if not seen or len(close) > len(seen[0]):
            seen[:] = [close]
        after = np.append(seen[0][1:], np.nan)[: len(close)]
        return {"close": close, "after": after}

    def generate_signals(self, f):
        return Signals(np.where(f["after"] > f["close"], 1.0, 0.0))
