"""How a command ends when it cannot go on: one sentence for a person, one exit code for a script."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """Exit codes of `seraphim`; `seraphim up --help` prints this table."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SETTINGS = 10
    PORT_BUSY = 11
    HOME_IN_USE = 12
    SCHEMA = 13
    SERVERS = 14
    CHILD_LOST = 15
    LOOKS_AHEAD = 16
    DIFFERS = 17


MEANINGS = {
    Exit.OK: "ended as asked, Ctrl-C included",
    Exit.FAILED: "failed; the message says why",
    Exit.USAGE: "the command line was not understood",
    Exit.SETTINGS: "settings are wrong; all problems are listed",
    Exit.PORT_BUSY: "the console's port is in use",
    Exit.HOME_IN_USE: "another `seraphim up` uses the data folder",
    Exit.SCHEMA: "the database's schema is older or newer than the code",
    Exit.SERVERS: "PostgreSQL or Redis cannot be started or reached",
    Exit.CHILD_LOST: "a process kept ending and was given up",
    Exit.LOOKS_AHEAD: "the backtest ran, but its strategy looks ahead",
    Exit.DIFFERS: "a run was made once more, and did not come out the same",
}


class Stop(Exception):
    """End this command with a message and a code; caught in one place, `deploy.cli.main`."""

    def __init__(self, code: Exit, message: str) -> None:
        self.code = code
        super().__init__(message)

    @classmethod
    def servers(cls, message: str) -> Self:
        return cls(Exit.SERVERS, message)
