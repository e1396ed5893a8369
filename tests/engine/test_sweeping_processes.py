"""A small sweep by two worker processes, one killed in the middle of a chunk, Redis flushed: nothing is missing."""

import pytest
import sqlalchemy as sa

from tests.engine.sweep_trouble import Trouble
from tests.engine.sweeps import Laboratory
from tests.engine.test_jobs_processes import Installation

SPACE = [
    {"name": "short_window", "low": 2, "high": 11},
    {"name": "long_window", "low": 20, "high": 65, "step": 5},
]
"""100 combinations; the proof has 10,000."""


@pytest.fixture
def installation(settings):
    made = Installation(settings)
    yield made
    made.end()


@pytest.fixture
def laboratory(settings):
    made = Laboratory(settings)
    yield made
    made.end()


def test_a_killed_worker_and_a_flushed_redis_cost_nothing_but_the_chunk_in_hand(
    laboratory, installation
):
    series = laboratory.series(bars=400)
    installation.start("clock")
    installation.start("worker", workers=2)
    trouble = Trouble(laboratory, installation, laboratory.sweep([series], SPACE))
    trouble.wait_for_share(0.1)
    lost = trouble.kill_a_busy_worker()
    trouble.flush_redis()
    with laboratory.sessions() as session:  # fifteen seconds of silence, without waiting for them
        session.execute(
            sa.text(
                "UPDATE job_attempts SET heartbeat_at = now() - interval '16 s' WHERE job_id = :id"
            ),
            {"id": lost},
        )
        session.commit()
    assert trouble.wait_until_done(seconds=60).state == "done"
    assert trouble.outcomes(lost) == ["lost", "done"]
    values = laboratory.values(trouble.sweep_id)
    assert len(values) == 100
    assert values == laboratory.alone(trouble.sweep_id)
