"""`seraphim sample-data`."""

from __future__ import annotations

import argparse
import json
import sys

from deploy.commands import jobs_here
from deploy.embedded import services
from deploy.exits import Exit
from deploy.schema import require_current
from shared.jobs import SampleDataRequest
from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Daily prices of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013. Loading them again adds nothing."
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    with services(settings) as ready:
        require_current(ready.database_url or "")
        job = jobs_here.do(ready, SampleDataRequest(), "Load sample data", quiet=args.json)
    if job.state != "done":
        print(f"seraphim: {job.error or job.progress_text}", file=sys.stderr)
        return Exit.FAILED
    print(json.dumps(job.result) if args.json else (job.result or {})["text"])
    return Exit.OK
