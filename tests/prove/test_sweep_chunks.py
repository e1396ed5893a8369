"""A sweep of 10,000 combinations by two workers, one killed at half, Redis flushed at 70 %: as if alone."""

import pytest

from tests.engine.sweep_trouble import Trouble
from tests.engine.sweeps import Laboratory
from tests.engine.test_jobs_processes import Installation

pytestmark = [pytest.mark.prove, pytest.mark.timeout(3600)]

SPACE = [
    {"name": "short_window", "low": 2, "high": 101},
    {"name": "long_window", "low": 110, "high": 209},
]


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


def test_ten_thousand_combinations_live_through_a_killed_worker_and_a_flushed_redis(
    laboratory, installation
):
    series = laboratory.series(bars=260, seed=11)
    installation.start("clock")
    workers = [installation.start("worker") for _ in range(2)]
    trouble = Trouble(laboratory, installation, laboratory.sweep([series], SPACE, seed=1))
    trouble.wait_for_share(0.5)
    at_kill = trouble.done()
    lost = trouble.kill_a_busy_worker()
    installation.wait(lambda: any(worker.poll() is not None for worker in workers))
    trouble.wait_for_share(0.7)
    at_flush = trouble.done()
    trouble.flush_redis()
    sweep = trouble.wait_until_done(seconds=1800)
    print(f"\nkilled at {at_kill:,}, flushed at {at_flush:,} of {sweep.total:,}; {sweep.text}")
    assert sweep.state == "done"
    assert at_flush < 10_000
    assert trouble.outcomes(lost) == ["lost", "done"]
    values = laboratory.values(trouble.sweep_id)
    assert len(values) == sweep.total == 10_000
    assert values == laboratory.alone(trouble.sweep_id)
