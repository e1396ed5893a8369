"""All models in one import, for migrations and tests; and the schema's version."""

from __future__ import annotations

from shared.db import backtests, console, lists, lots, market, sweeps, trading
from shared.db.base import Base

metadata = Base.metadata
MODULES = (backtests, console, lists, lots, market, sweeps, trading)
