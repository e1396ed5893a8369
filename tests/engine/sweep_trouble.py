"""A sweep done by worker processes while one is killed and Redis forgets everything."""

from __future__ import annotations

import os
import signal

import sqlalchemy as sa

from shared.db.backtests import JobAttemptRow, JobRow
from shared.db.sweeps import SweepChunkRow
from tests.engine.test_jobs_processes import is_alive


class Trouble:
    """What happens to one sweep of an installation, at which share of its work."""

    def __init__(self, laboratory, installation, sweep_id):
        self.laboratory = laboratory
        self.installation = installation
        self.sweep_id = sweep_id

    def done(self):
        """Combinations that are stored."""
        query = sa.select(sa.func.coalesce(sa.func.sum(SweepChunkRow.points), 0)).where(
            SweepChunkRow.sweep_id == self.sweep_id, SweepChunkRow.done_at.is_not(None)
        )
        with self.laboratory.sessions() as session:
            return session.scalar(query)

    def wait_for_share(self, share, seconds=600):
        wanted = share * self.laboratory.row(self.sweep_id).total
        self.installation.wait(lambda: self.done() >= wanted, seconds)

    def busy(self):
        """Process ids of workers in the middle of a chunk, with their jobs."""
        query = (
            sa.select(JobAttemptRow.worker, JobRow.id)
            .join(JobRow, sa.and_(JobRow.id == JobAttemptRow.job_id))
            .where(
                JobRow.kind == "sweep_chunk",
                JobRow.state == "running",
                JobAttemptRow.number == JobRow.attempt,
            )
        )
        with self.laboratory.sessions() as session:
            return {int(w.rpartition("-")[2]): job for w, job in session.execute(query)}

    def kill_a_busy_worker(self):
        """-9, in the middle of a chunk; the job it leaves behind."""
        while True:
            found = {}
            self.installation.wait(lambda found=found: found.update(self.busy()) or found)
            pid, job_id = next(iter(found.items()))
            os.kill(pid, signal.SIGKILL)
            self.installation.wait(lambda pid=pid: not is_alive(pid))
            if job_id in self.busy().values():
                return job_id  # it did not end in its last moment

    def flush_redis(self):
        self.installation.client.flushdb()

    def outcomes(self, job_id):
        return [attempt.outcome for attempt in self.installation.attempts(job_id)]

    def wait_until_done(self, seconds=600):
        self.installation.wait(
            lambda: self.laboratory.row(self.sweep_id).state != "running", seconds
        )
        return self.laboratory.row(self.sweep_id)
