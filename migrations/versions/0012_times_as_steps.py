"""Times as steps

Moments of a run mostly follow each other at one rate: they are kept as the first one, then steps and how
often each (int64), instead of eight bytes a moment.
"""

import zlib

import numpy as np
import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

TIMES = sa.text("SELECT data FROM run_series WHERE run_id = :id AND name = 'times'")
CHANGE = sa.text("UPDATE run_series SET data = :data WHERE run_id = :id AND name = 'times'")


def upgrade() -> None:
    _each(_in_steps)


def downgrade() -> None:
    _each(_in_full)


def _each(changed) -> None:
    connection = op.get_bind()
    for run_id in connection.scalars(
        sa.text("SELECT run_id FROM run_series WHERE name = 'times'")
    ).all():
        data = zlib.decompress(connection.scalar(TIMES, {"id": run_id}))
        after = changed(np.frombuffer(data, "<i8")).astype("<i8").tobytes()
        connection.execute(CHANGE, {"id": run_id, "data": zlib.compress(after, 1)})


def _in_steps(times):
    if not len(times):
        return times
    steps = np.diff(times)
    first = np.flatnonzero(np.concatenate([[True], steps[1:] != steps[:-1]])[: len(steps)])
    counts = np.diff(first, append=len(steps))
    return np.concatenate([times[:1], np.stack([steps[first], counts], axis=1).ravel()])


def _in_full(numbers):
    if not len(numbers):
        return numbers
    return np.concatenate(
        [numbers[:1], numbers[0] + np.cumsum(np.repeat(numbers[1::2], numbers[2::2]))]
    )
