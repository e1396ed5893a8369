"""What a run decided, out of its rows."""

from __future__ import annotations

import numpy as np
from sqlalchemy.orm import Session

from shared.db.backtests import RunRow, RunSeriesRow
from shared.domain.decided import Decided, Kept
from shared.domain.told import Told


def decisions_of(session: Session, run_id: int) -> Kept:
    """The decisions of a run that is stored, whoever made them."""
    numbers = session.get(RunSeriesRow, (run_id, "decisions"))
    if numbers is not None:
        return Decided.of(numbers.data, session.get_one(RunRow, run_id).options)
    words = session.get(RunSeriesRow, (run_id, "told"))
    return Told(words.data) if words is not None else NONE


NONE = Kept({name: np.empty(0, np.int64) for name in ("at", "instrument", "outcome")})
