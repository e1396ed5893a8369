"""Backtests: the same core over history, and the numbers it leaves.

`from engine.backtest import run, sweep` are the doors for notebooks; they are imported when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from engine.backtest.notebook import Run, run
    from engine.sweeping.notebook import sweep

__all__ = ["Run", "run", "sweep"]

_FROM: Final = {
    "Run": "engine.backtest.notebook",
    "run": "engine.backtest.notebook",
    "sweep": "engine.sweeping.notebook",
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)
