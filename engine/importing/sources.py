"""Opening a file or a member of an archive: unpacked, in UTF-8, with every way it can be damaged said plainly."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryFile
from typing import IO, BinaryIO, Final

from engine.importing.problems import BadFile, Problem, shown

MOST_EXPANDED: Final = 64 * 1024**3
"""Bytes an archive may hold unpacked; nothing is unpacked to disk, so this only bounds the time."""

BOMB_RATIO: Final = 200
BOMB_FROM: Final = 64 * 1024**2
"""From this size on, what grows more than BOMB_RATIO times when unpacked is no table of prices."""

MOST_COLUMNAR: Final = 4 * 1024**3
MOST_MEMBERS: Final = 20_000

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_EMPTY_ZIP: Final = b"PK\x05\x06"
PARQUET: Final = b"PAR1"
FEATHER: Final = (b"ARROW1", b"FEA1")
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NOT_READ: Final = {
    b"BZh": ("is packed with bzip2", "Unpack it, or pack it with gzip"),
    b"\xfd7zXZ": ("is packed with xz", "Unpack it, or pack it with gzip"),
    b"\x28\xb5\x2f\xfd": ("is packed with Zstandard", "Unpack it, or pack it with gzip"),
    b"7z\xbc\xaf": ("is a 7-Zip archive", "Unpack it, or pack it as a zip archive"),
    b"Rar!": ("is a RAR archive", "Unpack it, or pack it as a zip archive"),
    b"\xd0\xcf\x11\xe0": ("is an old Excel or Word file", "Save the sheet as CSV"),
    b"%PDF": ("is a PDF", "Export the table as CSV"),
    b"SQLite": ("is an SQLite database", "Export the table as CSV"),
}
_LITTER: Final = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Source:
    """One table to read: a file, or one member of a zip archive. `name` is what people call it."""

    path: Path
    name: str
    member: str = ""

    @property
    def title(self) -> str:
        return f"{self.name}/{self.member}" if self.member else self.name

    def refuse(self, reason: str, remedy: str = "", *, line: int = 0, value: str = "") -> BadFile:
        return BadFile(self.title, [Problem(reason, line, value=value, remedy=remedy)])


@dataclass(slots=True)
class Opened:
    """What is read: bytes in UTF-8 for text, as they are for Parquet and Feather."""

    stream: BinaryIO
    kind: str
    _raw: BinaryIO
    _size: int

    @property
    def length(self) -> int | None:
        """Bytes of the text, where they are known beforehand."""
        return self._size if self.stream is self._raw else None

    @property
    def fraction(self) -> float:
        """How much of the source has been read, 0 to 1."""
        return min(self._raw.tell() / self._size, 1.0) if self._size else 1.0


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- what is in a file ------------------------------------------------------------------------------


def sources_in(path: Path, name: str = "") -> list[Source]:
    """The tables of a file: itself, or the members of the archive it is. BadFile when it cannot be opened."""
    own = Source(path, name or path.name)
    with _refusals(own):
        start = _start(own)
        if start.startswith(_EMPTY_ZIP):
            raise own.refuse("is a zip archive without anything in it")
        if not start.startswith(_ZIP):
            return [own]
        with _archive(own) as archive:
            return [Source(path, own.name, member) for member in _members(own, archive)]


def _archive(own: Source) -> zipfile.ZipFile:
    with _damage_of_archives(own):
        return zipfile.ZipFile(own.path)


@contextmanager
def _damage_of_archives(own: Source) -> Iterator[None]:
    """A torn directory of an archive sends zipfile to places that do not exist."""
    try:
        yield
    except (PermissionError, FileNotFoundError):
        raise
    except (OSError, IndexError, ValueError, OverflowError, struct.error) as error:
        raise own.refuse(f"is a damaged archive ({error})", "Fetch it again") from error


def _members(own: Source, archive: zipfile.ZipFile) -> list[str]:
    """Names of what is read; whatever makes the archive as a whole untrustworthy is refused."""
    if not all(info.filename for info in archive.infolist()):
        raise own.refuse("is a damaged archive (a file in it has no name)", "Fetch it again")
    infos = [info for info in archive.infolist() if not info.is_dir()]
    names = {info.filename for info in infos}
    if "[Content_Types].xml" in names:
        remedy = "Save the sheet as CSV, and import that"
        raise own.refuse("is an Excel workbook (or another Office file), not a table", remedy)
    if len(infos) > MOST_MEMBERS:
        raise own.refuse(f"holds {len(infos):,} files; at most {MOST_MEMBERS:,} are read at once")
    if len(names) < len(infos):
        raise own.refuse("holds two files of the same name", "Pack it again")
    _refuse_bombs(own, infos)
    for info in infos:
        _refuse_names_that_point_out(own, info.filename)
    wanted = [info.filename for info in infos if not is_litter(info.filename)]
    if not wanted:
        raise own.refuse("is a zip archive without a table in it")
    return sorted(wanted)


def _refuse_bombs(own: Source, infos: list[zipfile.ZipInfo]) -> None:
    total = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    if total > MOST_EXPANDED:
        raise own.refuse(
            f"would unpack to {_size(total)}; at most {_size(MOST_EXPANDED)} are read",
            "Import its files one by one",
        )
    if total > BOMB_FROM and total > BOMB_RATIO * packed:
        raise own.refuse(
            f"would unpack from {_size(packed)} to {_size(total)}: that is no archive of prices"
        )


def _refuse_names_that_point_out(own: Source, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or PureWindowsPath(name).drive:
        raise own.refuse(
            "holds a file whose name points outside the archive",
            "Pack it again, from a source you trust",
            value=name,
        )


def is_litter(name: str) -> bool:
    """What operating systems leave in archives, and texts about them."""
    path = PurePosixPath(name)
    return (
        path.parts[0] in _LITTER
        or any(part.startswith(".") for part in path.parts)
        or path.name in _LITTER
        or path.stem.lower() in ("readme", "license", "licence")
    )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GB"


# --- opening one ------------------------------------------------------------------------------------


@contextmanager
def opened(source: Source) -> Iterator[Opened]:
    """The source, unpacked. Damage met while it is read inside the block is raised as BadFile."""
    with _refusals(source), ExitStack() as used:
        if source.member:
            archive = used.enter_context(_archive(source))
            info = archive.getinfo(source.member)
            with _damage_of_archives(source):
                raw: BinaryIO = used.enter_context(archive.open(info))  # type: ignore[assignment]
            size = info.file_size
        else:
            raw = used.enter_context(source.path.open("rb"))
            size = source.path.stat().st_size
        stream, start = _peeked(raw)
        if start.startswith(_GZIP):
            packed = gzip.GzipFile(fileobj=stream)
            stream, start = _peeked(_Measured(packed, raw, source))  # type: ignore[arg-type]
        yield _as_kind(source, stream, start, raw, size, used)


def _as_kind(
    source: Source, stream: BinaryIO, start: bytes, raw: BinaryIO, size: int, used: ExitStack
) -> Opened:
    _refuse_what_is_not_read(source, start)
    if start.startswith((PARQUET, *FEATHER)):
        kind = "parquet" if start.startswith(PARQUET) else "feather"
        if stream is not raw or source.member:
            stream = used.enter_context(_spooled(source, stream))
        return Opened(stream, kind, raw, size)
    if start.startswith(_UTF16):
        return Opened(io.BufferedReader(_FromUtf16(stream)), "text", raw, size)
    return Opened(stream, "text", raw, size)


def _peeked(stream: BinaryIO) -> tuple[BinaryIO, bytes]:
    """A stream and how it begins, which is still to be read."""
    buffered = stream if hasattr(stream, "peek") else io.BufferedReader(stream)  # type: ignore[type-var]
    start = buffered.peek(16)[:16]
    return buffered, start


def _start(source: Source) -> bytes:
    """The first bytes of a plain file; what is no plain file is refused."""
    mode = source.path.stat().st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file (a pipe, socket or device)"
        raise source.refuse(f"is {what}", "Give a file")
    with source.path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise source.refuse("the file is empty")
    return start


def _refuse_what_is_not_read(source: Source, start: bytes) -> None:
    if not start:
        raise source.refuse("the file is empty")
    if start.startswith((_ZIP, _EMPTY_ZIP)):
        raise source.refuse("is an archive inside an archive", "Unpack it first")
    if start.startswith(_GZIP):
        raise source.refuse("is packed twice with gzip", "Unpack it once")
    if start.startswith(_UTF32):
        raise source.refuse("is UTF-32 text", "Save it as UTF-8")
    for magic, (what, remedy) in _NOT_READ.items():
        if start.startswith(magic):
            raise source.refuse(what, remedy)


@contextmanager
def _refusals(source: Source) -> Iterator[None]:
    """Whatever the operating system and the unpackers complain of, as BadFile."""
    try:
        yield
    except FileNotFoundError as error:
        what = "is a link to nothing" if source.path.is_symlink() else "is not there"
        raise source.refuse(what, "Give it again") from error
    except PermissionError as error:
        raise source.refuse("may not be read", "Give yourself the right to read it") from error
    except (zipfile.BadZipFile, NotImplementedError, KeyError) as error:
        if source.path.suffix == ".zip" or source.member:
            reason = f"the zip archive is damaged or cut short ({error})"
            raise source.refuse(reason, "Fetch it again") from error
        raise source.refuse(f"is a damaged archive ({error})", "Fetch it again") from error
    except RuntimeError as error:
        if "encrypted" not in str(error) and "password" not in str(error):
            raise
        raise source.refuse("is locked with a password", "Unpack it first") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = "zip archive" if source.member else "gzip file"
        reason = f"the {what} is damaged or cut short ({error})"
        raise source.refuse(reason, "Fetch it again") from error


class _Measured(io.RawIOBase):
    """What a packed stream unpacks to, as long as that is believable."""

    def __init__(self, stream: IO[bytes], packed: BinaryIO, source: Source) -> None:
        self._stream = stream
        self._packed = packed
        self._source = source
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._stream.read(len(view))
        view[: len(data)] = data
        self._count += len(data)
        if self._count > BOMB_FROM and self._count > BOMB_RATIO * max(self._packed.tell(), 1):
            reason = (
                f"unpacks from {_size(self._packed.tell())} to more than {_size(self._count)}:"
                " that is no table of prices"
            )
            raise self._source.refuse(reason)
        return len(data)


class _FromUtf16(io.RawIOBase):
    """UTF-16 with a byte order mark, as UTF-8."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-16")()
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._waiting:
            data = self._stream.read(1 << 16)
            self._waiting = self._decoder.decode(data, final=not data).encode()
            if not data:
                break
        part, self._waiting = self._waiting[: len(view)], self._waiting[len(view) :]
        view[: len(part)] = part
        return len(part)


@contextmanager
def _spooled(source: Source, stream: BinaryIO) -> Iterator[BinaryIO]:
    """A packed Parquet or Feather file, unpacked: it is read from its end."""
    with TemporaryFile() as file:
        total = 0
        while part := stream.read(1 << 20):
            total += len(part)
            if total > MOST_COLUMNAR:
                raise source.refuse(f"unpacks to more than {_size(MOST_COLUMNAR)}", "Unpack it")
            file.write(part)
        file.seek(0)
        yield file


def bad_byte(source: Source) -> BadFile:
    """Where the text stops being UTF-8, or UTF-16."""
    try:
        with opened(source) as file:
            number = 0
            while line := file.stream.readline(1 << 20):
                number += 1
                try:
                    line.decode("utf-8-sig")
                except UnicodeDecodeError as error:
                    near = shown(
                        line[max(error.start - 10, 0) : error.start + 10].decode("latin-1")
                    )
                    reason = f"byte 0x{line[error.start]:02x} near {near} is not UTF-8"
                    return source.refuse(reason, "Save the file as UTF-8", line=number)
    except UnicodeDecodeError as error:
        return source.refuse(f"is damaged UTF-16 text ({error.reason})", "Save it as UTF-8")
    return source.refuse("is not UTF-8", "Save the file as UTF-8")
