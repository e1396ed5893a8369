"""Bodies for jobs under test, and the processes that run them: `python job_bodies.py worker|clock`.

What a body does is told by the symbol of its ImportRequest.
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime

from engine import jobs
from engine.work import JobRefused
from shared.db.trading import EventRow


def run(request, work):
    return BODIES[request.symbol](work)


def quick(work):
    return {"text": "Quick", "link": "/somewhere"}


def short(work):
    """About a second of steps."""
    for step in range(20):
        time.sleep(0.05)
        work.counted(step, 20, "steps")
    return {"text": "Short"}


def endless(work):
    """Until cancelled; what it has written by then must not stay."""
    with work.sessions() as session:
        session.add(_note("half-stored"))
        session.flush()
        while True:
            time.sleep(0.02)
            work.progress(0.5, "Going on")


def first_dies(work):
    """The first attempt waits to be killed, later ones succeed."""
    if work.attempt == 1:
        endless(work)
    return {"text": f"Attempt {work.attempt}"}


def suicide(work):
    os.kill(os.getpid(), signal.SIGKILL)


def refused(work):
    raise JobRefused("line 7, Close: is no number.")


def broken(work):
    raise RuntimeError("a mistake of ours")


def superseded(work):
    """Somebody takes this attempt for dead while it works."""
    with work.sessions() as session:
        jobs.lose(session, work.job_id, work.attempt, "taken for dead")
    with work.sessions() as session:
        session.add(_note("written by a dead attempt"))
        work.finish(session, {"text": "too late"})
        session.commit()


def stores(work):
    """Its row and "done" in one transaction."""
    result = {"text": "Stored"}
    with work.sessions() as session:
        session.add(_note("stored"))
        work.finish(session, result)
        session.commit()
    return result


def _note(text):
    return EventRow(kind="note", severity="info", text=text, happened_at=datetime.now(UTC))


BODIES = {
    body.__name__: body
    for body in (
        quick, short, endless, first_dies, suicide, refused, broken, superseded, stores,
    )
}  # fmt: skip


def main(process):
    from engine import clock, worker
    from shared.settings import Settings

    jobs.BODIES["import"] = "job_bodies:run"
    return {"worker": worker, "clock": clock}[process].main(Settings.load())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
