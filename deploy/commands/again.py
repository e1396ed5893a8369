"""`seraphim again`: a run of before, once more, and whether it comes out the same."""

from __future__ import annotations

import argparse
import json
import sys

import sqlalchemy as sa

from deploy.commands import jobs_here
from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.backtests import RunRow
from shared.db.sessions import make_sessions
from shared.domain.repeats import differences, outcome
from shared.jobs import BacktestRequest, repeated
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The same request with the same strategy code, over no bars that came after those of the run."
        f" Ends with {int(Exit.DIFFERS)} if trades or numbers are not the same."
    )
    parser.add_argument("run", type=int, help="the number of the run, as the console shows it")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    with services(settings) as ready:
        url = ready.database_url or ""
        require_current(url)
        request = _request(url, args.run)
        job = jobs_here.do(ready, request, f"Run {args.run} again", quiet=args.json)
        if job.state != "done":
            print(f"seraphim: {job.error or job.progress_text}", file=sys.stderr)
            return Exit.FAILED
        same = _tell(url, args.run, int((job.result or {})["run_id"]), as_json=args.json)
    return Exit.OK if same else Exit.DIFFERS


def _request(url: str, run_id: int) -> BacktestRequest:
    sessions = make_sessions(url)
    try:
        with sessions() as session:
            first = session.get(RunRow, run_id)
            if first is None:
                raise Stop(Exit.USAGE, f"there is no run {run_id}; the console lists them")
            return repeated(first.request, first.id, first.code_hash, first.ends_at)
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from error
    finally:
        sessions.kw["bind"].dispose()


def _tell(url: str, first_id: int, run_id: int, *, as_json: bool) -> bool:
    """Print whether the new run came out as the first; whether it did."""
    sessions = make_sessions(url)
    with sessions() as session:
        query = sa.select(RunRow).where(RunRow.id.in_((first_id, run_id))).order_by(RunRow.id)
        first, again = session.scalars(query)
        same = first.digest == again.digest
        ways = (again.engine, first.engine)
        differs = list(
            differences(again.inputs, again.provenance, first.inputs, first.provenance, ways=ways)
        )
        digests = {"digest": again.digest, "first_digest": first.digest}
    sessions.kw["bind"].dispose()
    if as_json:
        print(
            json.dumps(
                {"run": run_id, "repeats": first_id, "same": same, **digests, "differs": differs}
            )
        )
    else:
        print(f"Run {run_id} repeats run {first_id}: {outcome(same=same, differs=differs)}.")
    return same
