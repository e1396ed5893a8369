"""Where a run's numbers come from: the code, packages and bars it was made with, kept so that it can be made again."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared import installation
from shared.db.backtests import InstallationDiffRow, RunRow
from shared.jobs import BacktestRequest, encode
from shared.settings import ROOT

TRACKED: Final = (
    "deploy", "engine", "migrations", "shared", "webapp", "pyproject.toml", "requirements.lock",
)  # fmt: skip
"""What of a work tree is an installation's code."""

MOST_DIFF: Final = 2_000_000
"""Bytes of a diff that are kept; its hash is of all of it."""

_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class WorkTree:
    """The commit an installation stands at, and what was changed since: b"" where it is as committed."""

    commit: str
    diff: bytes

    @property
    def diff_hash(self) -> str:
        return hashlib.sha256(self.diff).hexdigest() if self.diff else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "diff_hash": self.diff_hash,
            "diff_bytes": len(self.diff),
            "cut": len(self.diff) > MOST_DIFF,
        }


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run is made with, beside its strategy's code and its bars."""

    tree: WorkTree | None
    sources: str
    lock: str
    versions: dict[str, str]

    def record(self, session: Session, row: RunRow, request: BacktestRequest) -> None:
        """Put it into the run's row, and the diff beside it if it is new. The caller commits."""
        row.request = {**encode(request), "code_hash": row.code_hash}
        row.repeats = request.repeats if session.get(RunRow, request.repeats) else None
        row.provenance = {
            "git": None if self.tree is None else self.tree.as_json(),
            "sources": self.sources,
            "lock": self.lock,
            "versions": self.versions,
            "seed": request.seed,
        }
        if self.tree is not None and self.tree.diff:
            _keep_diff(session, self.tree)


def origin() -> Origin:
    """Of this installation, as its files are now. Git has not been asked."""
    return Origin(
        None,
        installation.sources_hash(),
        installation.lock_hash(),
        installation.versions(),
    )


def start_chance(seed: int) -> None:
    """Let chance begin at the same place in every run, for strategies that throw dice."""
    random.seed(seed)
    np.random.seed(seed)  # the generator that user code reaches without asking


def work_tree(root: Path = ROOT) -> WorkTree | None:
    """Of a checkout; None for what is no git work tree, or where git does not say."""
    if not (root / ".git").exists():
        return None
    try:
        commit, is_changed, new = _status(root)
        diff = b""
        if is_changed:
            diff = _git(
                root, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--", *TRACKED
            )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return WorkTree(commit, diff + _of_new_files(root, new))


def _status(root: Path) -> tuple[str, bool, list[str]]:
    """(commit, whether files that git knows were changed, files it does not know), in one question."""
    said = _git(
        root, "status", "--porcelain=v2", "--branch", "--no-renames", "--untracked-files=all", "-z",
        "--", *TRACKED,
    )  # fmt: skip
    lines = said.decode().split("\0")
    (commit,) = (line.split()[2] for line in lines if line.startswith("# branch.oid"))
    is_changed = any(line.startswith(("1 ", "2 ", "u ")) for line in lines)
    return commit, is_changed, sorted(line[2:] for line in lines if line.startswith("? "))


def _of_new_files(root: Path, names: Sequence[str]) -> bytes:
    """A line for each file that git does not know yet."""
    lines = []
    for name in names:
        file = root / name
        if file.is_file():
            lines.append(f"new file {name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    return "".join(lines).encode()


def _git(root: Path, *words: str) -> bytes:
    program = shutil.which("git")
    if program is None:
        raise FileNotFoundError("git")
    # Nothing but this: whoever started us may have pointed git somewhere else, and it must not touch the index.
    environment = {
        "PATH": str(Path(program).parent),
        "HOME": str(Path.home()),
        "GIT_OPTIONAL_LOCKS": "0",
    }
    return subprocess.run(
        [program, "-C", str(root), *words],
        env=environment,
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    ).stdout


def _keep_diff(session: Session, tree: WorkTree) -> None:
    kept = zlib.compress(tree.diff[:MOST_DIFF], 6)
    session.execute(
        insert(InstallationDiffRow)
        .values(hash=tree.diff_hash, diff=kept)
        .on_conflict_do_nothing(index_elements=[InstallationDiffRow.hash])
    )
