"""What a job's body may use: sessions, progress, and the right to write, as long as it has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from shared.db.backtests import JobAttemptRow, JobRow
from shared.db.trading import EventRow
from shared.settings import Settings

PROGRESS_EVERY_SECONDS: Final = 0.2


class JobRefused(Exception):
    """The request cannot be done as asked. The message is for whoever asked; trying again would not help."""


class JobCancelled(Exception):
    """Somebody called the job off."""


class AttemptSuperseded(Exception):
    """This attempt was given up for dead and another one runs: it must not write any more."""


class Work:
    """One attempt at one job, as its body sees it.

    A body stores its rows and calls `finish` in one transaction, so that they and "done" stand or fall
    together. Anything it raises rolls that transaction back.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        settings: Settings,
        job: JobRow,
        listener: Callable[[float, str], None] | None = None,
    ) -> None:
        self.sessions = sessions
        self.settings = settings
        self.job_id: UUID = job.id
        self.attempt: int = job.attempt
        self.kind: str = job.kind
        self.title: str = job.title
        self.actor: str = job.requested_by
        self.finished = False
        self._listener = listener
        self._started = time.monotonic()
        self._told = float("-inf")
        self._holding = False

    def progress(self, fraction: float, text: str) -> None:
        """Say how far it is (0 to 1) and what it is at; written at most five times a second.

        Raises JobCancelled or AttemptSuperseded when the body should end here and now. Silent once
        `hold` has locked the job's row: the end is then a matter of moments.
        """
        now = time.monotonic()
        if self._holding or now - self._told < PROGRESS_EVERY_SECONDS:
            return
        self._told = now
        fraction = min(max(fraction, 0.0), 1.0)
        text += self._time_left(fraction)
        if self._listener:
            self._listener(fraction, text)
        try:
            self._store_progress(fraction, text)
        except DBAPIError as error:
            # Progress may be lost; a body that computes lives through a restart of PostgreSQL.
            if not error.connection_invalidated:
                raise

    def counted(self, done: int, total: int | None, what: str) -> None:
        """Progress by count: "120,000 of 400,000 rows · 85,000 a second · 3 s left"."""
        if time.monotonic() - self._told < PROGRESS_EVERY_SECONDS:
            return
        rate = done / max(time.monotonic() - self._started, 1e-9)
        of = f" of {total:,}" if total else ""
        self.progress(done / total if total else 0.0, f"{done:,}{of} {what} · {rate:,.0f} a second")

    def hold(self, session: Session) -> None:
        """Lock the right to write until `session`'s transaction ends.

        Nobody can cancel or supersede this attempt meanwhile; raises if somebody already has.
        """
        row = session.execute(
            sa.select(JobRow.attempt, JobRow.state, JobRow.cancel_requested_at)
            .where(JobRow.id == self.job_id)
            .with_for_update(key_share=True)  # inserts that refer to the job do not wait for this
        ).one()
        self._raise_if_over(row.attempt == self.attempt and row.state == "running", row[2])
        self._holding = True

    def finish(self, session: Session, result: dict[str, Any]) -> None:
        """Mark the job done inside the body's own transaction, which the caller commits.

        `result` may hold "text", the sentence shown to people, and "link", the page of what came of it.
        """
        self.hold(session)
        now = datetime.now(UTC)
        text = str(result.get("text") or "Done")
        session.execute(
            sa.update(JobRow)
            .where(JobRow.id == self.job_id)
            .values(state="done", result=result, progress=1.0, progress_text=text, finished_at=now)
        )
        session.execute(
            sa.update(JobAttemptRow)
            .where(JobAttemptRow.job_id == self.job_id, JobAttemptRow.number == self.attempt)
            .values(outcome="done", finished_at=now)
        )
        if self.kind not in QUIET_KINDS and self.actor != CLOCK:
            session.add(happened(self.job_id, "good", f"{self.title}: {text}", result, self.actor))
        self.finished = True

    def _time_left(self, fraction: float) -> str:
        elapsed = time.monotonic() - self._started
        if fraction < 0.02 or elapsed < 1.0 or fraction >= 1.0:
            return ""
        left = elapsed * (1 - fraction) / fraction
        return f" · {left / 60:.0f} min left" if left >= 90 else f" · {left:.0f} s left"

    def _store_progress(self, fraction: float, text: str) -> None:
        with self.sessions() as session:
            row = session.execute(
                sa.update(JobRow)
                .where(
                    JobRow.id == self.job_id,
                    JobRow.attempt == self.attempt,
                    JobRow.state == "running",
                )
                .values(progress=fraction, progress_text=text)
                .returning(JobRow.cancel_requested_at)
            ).one_or_none()
            session.commit()
        self._raise_if_over(row, row[0] if row else None)

    def _raise_if_over(self, still_mine: object, cancel_requested_at: datetime | None) -> None:
        if not still_mine:
            raise AttemptSuperseded(f"attempt {self.attempt} at job {self.job_id}")
        if cancel_requested_at is not None:
            raise JobCancelled


CLOCK: Final = "clock"
"""Who asks for upkeep: nobody waits for it, so its end is not told unless it failed."""

QUIET_KINDS: Final = frozenset({"inspect", "why", "sweep", "sweep_chunk"})
"""Kinds whose end is no news: somebody is looking at the answer already, or it is a step of something larger."""


def happened(
    job_id: UUID, severity: str, text: str, result: dict[str, Any] | None, actor: str
) -> EventRow:
    """The line for "What happened" when a job ends."""
    return EventRow(
        kind="job",
        severity=severity,
        text=text,
        link=str((result or {}).get("link") or f"/jobs/{job_id}"),
        actor=actor,
        happened_at=datetime.now(UTC),
    )
