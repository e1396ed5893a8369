"""A small sweep by two worker processes, one killed in the middle of a chunk, Redis flushed: nothing is missing."""

import time

import pytest
import sqlalchemy as sa

from engine.clock import Clock
from tests.engine.sweep_trouble import Trouble
from tests.engine.sweeps import Laboratory
from tests.engine.test_jobs_processes import Installation

SPACE = [
    {"name": "short_window", "low": 2, "high": 6},
    {"name": "long_window", "low": 20, "high": 55, "step": 5},
]
"""40 combinations; the proof has 10,000."""


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
    series = laboratory.series(bars=30_000)
    installation.start("worker", workers=2)
    clock = Clock(laboratory.sessions, installation.client, laboratory.settings.home / "uploads")
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
    for _ in range(600):
        clock.tick()
        if laboratory.row(trouble.sweep_id).state != "running":
            break
        time.sleep(0.1)
    assert laboratory.row(trouble.sweep_id).state == "done"
    assert trouble.outcomes(lost) == ["lost", "done"]
    values = laboratory.values(trouble.sweep_id)
    assert len(values) == 40
    assert values == laboratory.alone(trouble.sweep_id)
