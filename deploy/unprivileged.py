"""The account that embedded servers run as when we are root, which PostgreSQL refuses to be."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.exits import Stop

NAME: Final = "seraphim"


@dataclass(frozen=True, slots=True)
class Account:
    """Who a server runs as. None: whoever we are."""

    uid: int
    gid: int

    def popen_options(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account(data: Path) -> Account | None:
    """Who runs a server on `data`: ourselves; if we are root its owner, or a user made for it."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        entry = _make()
    return Account(entry.pw_uid, entry.pw_gid)


def _make() -> pwd.struct_passwd:
    command = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if command is None:
        raise Stop.servers(
            f"Running as root needs a system user {NAME!r} for PostgreSQL, and there is no "
            "useradd here to make it. Make the user by hand, or run as an ordinary user."
        )
    shell = "/usr/sbin/nologin"
    made = subprocess.run(
        [command, "--system", "--user-group", "--no-create-home", "--shell", shell, NAME],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return pwd.getpwnam(NAME)  # two first starts at once: either made it
    except KeyError:
        raise Stop.servers(
            f"The system user {NAME!r} could not be made: {made.stderr.strip()}"
        ) from None


def own(path: Path, who: Account | None) -> None:
    if who is not None:
        os.chown(path, who.uid, who.gid)


def let_reach(path: Path, who: Account | None) -> None:
    """Let the account pass through every folder above `path`; it learns nothing else there.

    An access list for this one account, instead of opening /root to everyone on the machine.
    """
    if who is None:
        return
    for folder in path.absolute().parents:
        if not folder.stat().st_mode & stat.S_IXOTH and folder.stat().st_uid != who.uid:
            try:
                _grant_passage(folder, who.uid)
            except OSError as error:
                raise Stop.servers(
                    f"The system user {NAME!r}, which runs the embedded servers for root, cannot "
                    f"pass through {folder} ({error.strerror}). Allow it (chmod o+x {folder}), put "
                    "SERAPHIM_HOME and the checkout elsewhere, or run as an ordinary user."
                ) from error


# The kernel's binary form of an access list: a version, then (tag, permissions, id) per entry.
_ACL: Final = "system.posix_acl_access"
_VERSION: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
_NOBODY: Final = 0xFFFFFFFF
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_PASS: Final = 1


def _grant_passage(folder: Path, uid: int) -> None:
    entries = _access_list(folder)
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _PASS
    entries[_MASK, _NOBODY] = entries.get((_MASK, _NOBODY), entries[_GROUP, _NOBODY]) | _PASS
    raw = _VERSION + b"".join(
        _ENTRY.pack(tag, permissions, who) for (tag, who), permissions in sorted(entries.items())
    )
    os.setxattr(folder, _ACL, raw)


def _access_list(folder: Path) -> dict[tuple[int, int], int]:
    """(tag, id) -> permissions, as stored or, where none is, as the mode says."""
    try:
        raw = os.getxattr(folder, _ACL)[len(_VERSION) :]
    except OSError:
        mode = folder.stat().st_mode
        return {
            (_OWNER, _NOBODY): mode >> 6 & 7,
            (_GROUP, _NOBODY): mode >> 3 & 7,
            (_OTHER, _NOBODY): mode & 7,
        }
    return {(tag, who): permissions for tag, permissions, who in _ENTRY.iter_unpack(raw)}
