"""Bars that were read before, as columns in files of this machine: checked when opened, and never stale.

A file belongs to one content of one series (`SeriesRow.content`) and to the code that filled its quiet
intervals, and is never changed: a writer makes a new one and renames it into place. What is damaged, of
another layout or of other code counts as not there. Nothing here may fail a reading: a folder that cannot be
read or written only means that bars come out of PostgreSQL every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, Self
from uuid import UUID, uuid4

import numpy as np
import orjson
from sqlalchemy.orm import Session, sessionmaker

from engine import bars as code_of_bars
from engine.bar_hash import digests
from engine.bars import Bars
from shared.settings import Settings

LAYOUT: Final = 1
_MAGIC: Final = b"SERAPHIM BARS\r\n\x1a"
_HEAD: Final = struct.Struct("<16sIII")
"""Magic, layout, length of the description that follows, and its CRC-32."""

_ALIGNED: Final = 64
_TYPES: Final = {
    "opened_at": "<i8",
    "closed_at": "<i8",
    "open": "<f8",
    "high": "<f8",
    "low": "<f8",
    "close": "<f8",
    "volume": "<f8",
    "filled": "|b1",
}
_ABANDONED_SECONDS: Final = 86_400
_SUFFIX: Final = ".bars"
_SESSION_KEY: Final = "bar_cache"


class Damaged(ValueError):
    """A file is not what it was when it was written, or was written by other code."""


@dataclass(frozen=True, slots=True)
class Key:
    """What bars a file holds. `calendar` says how quiet intervals were filled."""

    content: UUID
    instrument_id: int
    interval: int
    calendar: str


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest stored bar and when it was recorded: by it, bars that only grew are known again.

    `opened_at` in nanoseconds, `recorded_at` in microseconds since 1970.
    """

    opened_at: int
    revision: int
    recorded_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """All bars of a series, quiet intervals filled. Without overlap (`in_order`) ranges may be cut from them."""

    bars: Bars
    newest: Newest
    in_order: bool

    @classmethod
    def of(cls, bars: Bars, newest: Newest) -> Self:
        """With the digests of the bars worked out."""
        in_order = bool((bars.opened_at[1:] >= bars.closed_at[:-1]).all())
        return cls(_with_digests(bars, digests(bars)), newest, in_order)


class BarCache:
    """A folder of files, at most so many bytes of them; the least recently used go first."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def get(self, key: Key) -> Held | None:
        """The bars, as a mapping of the file that may be written to without changing it; None if there are none."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                held = _read(file, key)
        except (OSError, Damaged):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # what says that it was used
        return held

    def put(self, key: Key, held: Held) -> bool:
        """Keep the bars, in place of what is kept under the key; whether they are."""
        parts = _described(key, held)
        size = sum(map(len, parts))
        if size > self._most_bytes:
            return False
        draft = self._folder / f"{uuid4().hex}.draft"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(size)
            with draft.open("xb") as file:
                for part in parts:
                    file.write(part)
            draft.replace(self._path(key))
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            return False
        return True

    def asked_before(self, key: Key) -> bool:
        """Whether part of these bars was asked for before. From now on it was."""
        mark = self._path(key).with_suffix(".asked")
        if mark.exists():
            return True
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mark.touch()
        return False

    def _path(self, key: Key) -> Path:
        how = hashlib.sha256(f"{key.calendar} {key.interval} {_code()}".encode()).hexdigest()
        return self._folder / f"{key.content.hex}-{how[:16]}{_SUFFIX}"

    def _make_room(self, size: int) -> None:
        """Remove the least recently used files until `size` bytes fit, and what nobody came back for."""
        left = self._most_bytes - size
        for used_at, length, path in sorted(self._files(), reverse=True):
            left -= length
            abandoned = path.suffix != _SUFFIX and used_at < time.time() - _ABANDONED_SECONDS
            if left < 0 or abandoned:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """(last used, bytes, path) of each file of ours."""
        for path in self._folder.iterdir():
            if path.suffix in (_SUFFIX, ".draft", ".asked"):
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    yield found.st_mtime, found.st_size, path


def use(sessions: sessionmaker[Session], settings: Settings) -> None:
    """Let the sessions made from now on read bars through this installation's cache."""
    if settings.cache_megabytes:
        cache = BarCache(settings.cache_folder, settings.cache_megabytes * 1_000_000)
        sessions.configure(info={_SESSION_KEY: cache})


def cache_of(session: Session) -> BarCache | None:
    """The cache this session reads through, if it does."""
    found: BarCache | None = session.info.get(_SESSION_KEY)
    return found


# Files ------------------------------------------------------------------------------------------


def _described(key: Key, held: Held) -> list[bytes | memoryview]:
    """The file's parts: head, description, and the columns, each from a multiple of 64 bytes on."""
    columns = [_column(held.bars, name) for name in _TYPES]
    description = orjson.dumps(
        {
            "key": _named(key),
            "code": _code(),
            "rows": len(held.bars),
            "newest": asdict(held.newest),
            "in_order": held.in_order,
            "digests": [digest.hex() for digest in held.bars.digests],
            "check": _check(columns),
        }
    )
    head = _HEAD.pack(_MAGIC, LAYOUT, len(description), zlib.crc32(description))
    parts: list[bytes | memoryview] = [head, description]
    at = len(head) + len(description)
    for column in columns:
        parts += [bytes(-at % _ALIGNED), column]
        at += -at % _ALIGNED + len(column)
    return parts


def _read(file: IO[bytes], key: Key) -> Held:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if _size(file) else b""
    told, at = _description(mapped)
    if told["key"] != _named(key) or told["code"] != _code():
        raise Damaged("bars of another series, or filled by other code")
    columns = {}
    for name, kind in _TYPES.items():
        at += -at % _ALIGNED
        columns[name] = _mapped_column(mapped, kind, told["rows"], at)
        at += columns[name].nbytes
    if _check([column.data.cast("B") for column in columns.values()]) != told["check"]:
        raise Damaged("the columns are not those that were written")
    known = tuple(bytes.fromhex(digest) for digest in told["digests"])
    bars = Bars(key.instrument_id, key.interval, **columns, digests=known)
    return Held(bars, Newest(**told["newest"]), told["in_order"])


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _description(mapped: mmap.mmap | bytes) -> tuple[dict[str, Any], int]:
    """What a file says of itself, and where that ends."""
    if len(mapped) < _HEAD.size:
        raise Damaged("too short for a head")
    magic, layout, length, check = _HEAD.unpack_from(mapped)
    end = _HEAD.size + length
    text = mapped[_HEAD.size : end]
    if (magic.rstrip(b"\0"), layout) != (_MAGIC, LAYOUT) or zlib.crc32(text) != check:
        raise Damaged("no file of this layout")
    told: dict[str, Any] = orjson.loads(text)
    return told, end


def _mapped_column(mapped: mmap.mmap | bytes, kind: str, rows: int, at: int) -> Any:
    if at + rows * np.dtype(kind).itemsize > len(mapped):
        raise Damaged("the file is cut off")
    return np.frombuffer(mapped, kind, rows, at)


def _column(bars: Bars, name: str) -> memoryview:
    return np.ascontiguousarray(getattr(bars, name), dtype=_TYPES[name]).data.cast("B")


def _check(columns: list[memoryview]) -> int:
    check = 0
    for column in columns:
        check = zlib.crc32(column, check)
    return check


def _named(key: Key) -> dict[str, Any]:
    return {**asdict(key), "content": key.content.hex}


def _with_digests(bars: Bars, known: tuple[bytes, ...]) -> Bars:
    columns = {name: getattr(bars, name) for name in _TYPES}
    return Bars(bars.instrument_id, bars.interval, **columns, digests=known)


class _Code:
    hash: str = ""


def _code() -> str:
    """Of the code that fills quiet intervals: other code may fill them otherwise."""
    if not _Code.hash:
        source = Path(code_of_bars.__file__).read_bytes()
        _Code.hash = hashlib.sha256(source).hexdigest()
    return _Code.hash
