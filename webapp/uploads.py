"""Files on their way in: kept under the data folder until a worker has read them."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import uuid4

from flask import current_app
from werkzeug.datastructures import FileStorage

from shared.settings import Settings

ENDINGS: Final = (".csv", ".txt", ".tsv", ".zip", ".parquet", ".pq", ".feather", ".arrow")
PACKED: Final = ".gz"
SPREADSHEETS: Final = (".xlsx", ".xls", ".xlsm", ".ods")
LONGEST_NAME: Final = 120


class UploadRefused(ValueError):
    """The file was not taken. The message says why and what to do."""


def keep(upload: FileStorage | None) -> tuple[str, str]:
    """(name in the folder of uploads, the file's own name) of a file that was sent."""
    name = Path((upload.filename if upload else "") or "").name.strip()[-LONGEST_NAME:]
    if upload is None or not name:
        raise UploadRefused(
            "No file was chosen. Choose a table: CSV, a zip archive of such, Parquet or Feather."
        )
    if name.lower().endswith(SPREADSHEETS):
        raise UploadRefused(f"{name} is a spreadsheet: export a spreadsheet as CSV first.")
    ending = _ending(name)
    if ending is None:
        raise UploadRefused(
            f"{name}: files ending in {', '.join(ENDINGS)} are read, and the same with {PACKED}. "
            "Export the table as one of these."
        )
    kept = f"{uuid4().hex}{ending}"
    path = _folder() / kept
    upload.save(path)
    if path.stat().st_size == 0:
        path.unlink()
        raise UploadRefused(f"{name} is empty. Choose a file with a header and at least one row.")
    return kept, name


def is_kept(name: str) -> bool:
    """Whether an uploaded file is still there: one that was imported, or is a week old, is gone."""
    return Path(name).name == name and (_folder() / name).is_file()


def _ending(name: str) -> str | None:
    lower = name.lower()
    packed = PACKED if lower.endswith(PACKED) else ""
    plain = Path(lower.removesuffix(PACKED)).suffix
    return f"{plain}{packed}" if plain in ENDINGS else None


def _folder() -> Path:
    settings: Settings = current_app.config["SERAPHIM"]
    folder = settings.home / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
