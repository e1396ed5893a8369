"""Opening a file of text, plain or gzip, with every way it can be damaged said plainly."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from engine.importing.problems import BadFile, Problem, shown

LONGEST_LINE: Final = 100_000
"""Characters. A longer line is no bar; reading it whole could fill the memory."""

_GZIP: Final = b"\x1f\x8b"
_NOT_TEXT: Final = {
    b"PK\x03\x04": ("is a zip archive or a spreadsheet", "Unpack it, or export it as CSV"),
    b"\xff\xfe": ("is UTF-16 text", "Save it as UTF-8"),
    b"\xfe\xff": ("is UTF-16 text", "Save it as UTF-8"),
    b"BZh": ("is packed with bzip2", "Unpack it, or pack it with gzip"),
    b"\xfd7zXZ": ("is packed with xz", "Unpack it, or pack it with gzip"),
    b"PAR1": ("is a Parquet file", "Export it as CSV"),
}


@dataclass(slots=True)
class Table:
    """A CSV file being read: its header, its rows as they come, and how far it is."""

    header: list[str]
    rows: Iterator[list[str]]
    size: int
    _raw: BinaryIO
    _reader: Iterator[list[str]]

    @property
    def line(self) -> int:
        """The line of the row that came last; the header is line 1."""
        return self._reader.line_num  # type: ignore[attr-defined, no-any-return]

    @property
    def fraction(self) -> float:
        """How much of the file has been read, 0 to 1."""
        return self._raw.tell() / self.size if self.size else 1.0


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_table(path: Path, file_name: str, delimiter: str) -> Iterator[Table]:
    """The file as header and rows. Whatever is wrong with the file itself is raised as BadFile."""
    with _open_text(path, file_name) as (text, raw):
        reader = csv.reader(_lines(text, file_name), delimiter=delimiter)
        try:
            header = next(reader, None)
            if not header:
                raise BadFile(
                    file_name, [Problem("line 1, which should name the columns, is empty")]
                )
            size = path.stat().st_size
            yield Table([name.strip() for name in header], reader, size, raw, reader)
        except csv.Error as error:
            raise BadFile(
                file_name, [Problem(f"is no CSV there: {error}", reader.line_num)]
            ) from error


def first_line(path: Path, file_name: str) -> str:
    """The header as it stands, for finding the delimiter."""
    with _open_text(path, file_name) as (text, _):
        line = next(_lines(text, file_name), "").rstrip("\r\n")
    if not line.strip():
        raise BadFile(file_name, [Problem("line 1, which should name the columns, is empty")])
    return line


@contextmanager
def _open_text(path: Path, file_name: str) -> Iterator[tuple[io.TextIOWrapper, BinaryIO]]:
    try:
        with path.open("rb") as raw:
            start = raw.read(8)
            raw.seek(0)
            _refuse_what_is_no_text(start, file_name)
            binary = gzip.GzipFile(fileobj=raw) if start.startswith(_GZIP) else raw
            # newline="" as csv wants it; utf-8-sig drops the mark that some editors put first.
            with io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
                yield text, raw
    except FileNotFoundError as error:
        raise BadFile(file_name, [Problem("is not there", remedy="Give it again")]) from error
    except UnicodeDecodeError as error:
        raise BadFile(file_name, [_bad_byte(path)]) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = Problem(
            f"the gzip file is damaged or cut short ({error})", remedy="Fetch it again"
        )
        raise BadFile(file_name, [problem]) from error


def _refuse_what_is_no_text(start: bytes, file_name: str) -> None:
    if not start:
        raise BadFile(file_name, [Problem("the file is empty")])
    for magic, (what, remedy) in _NOT_TEXT.items():
        if start.startswith(magic):
            raise BadFile(file_name, [Problem(what, remedy=remedy)])


def _lines(text: io.TextIOWrapper, file_name: str) -> Iterator[str]:
    number = 0
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            reason = (
                f"the line is longer than {LONGEST_LINE:,} characters: this is no table of bars"
            )
            raise BadFile(file_name, [Problem(reason, number, value=line[:100])])
        yield line


def _bad_byte(path: Path) -> Problem:
    """Where the text stops being UTF-8."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
    with gzip.open(path) if packed else path.open("rb") as binary:
        for number, line in enumerate(binary, 1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                near = shown(line[max(error.start - 10, 0) : error.start + 10].decode("latin-1"))
                reason = f"byte 0x{line[error.start]:02x} near {near} is not UTF-8"
                return Problem(reason, number, remedy="Save the file as UTF-8")
    return Problem("is not UTF-8", remedy="Save the file as UTF-8")
