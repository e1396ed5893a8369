"""The catalogue of strategy types: files become rows by content hash, and rows become classes again."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import (
    LoadedFile,
    NoSuchStrategy,
    built_in_files,
    load_source,
    user_files,
)
from shared.db.trading import StrategyCodeRow, StrategyTypeRow


def sync(connection: sa.Connection, folder: Path) -> list[str]:
    """Bring the catalogue in line with the built-in files and the user's folder; names that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded = [("built-in", file) for file in built_in_files()]
    loaded += [("user", file) for file in user_files(folder)]
    wanted: dict[str, dict[str, Any]] = {}
    for origin, file in loaded:
        _keep_source(connection, file, origin)
        for row in _rows(file, origin):
            if (other := wanted.get(row["name"])) is not None:
                row = _clash(row, other)
            wanted[row["name"]] = row
    return _apply(connection, wanted)


def _keep_source(connection: sa.Connection, file: LoadedFile, origin: str) -> None:
    statement = insert(StrategyCodeRow).values(
        hash=file.hash, file_name=file.file_name, source=file.source, origin=origin
    )
    connection.execute(statement.on_conflict_do_nothing())


def _rows(file: LoadedFile, origin: str) -> Iterable[dict[str, Any]]:
    common = {"file_name": file.file_name, "origin": origin, "code_hash": file.hash}
    if file.error is not None:
        name = Path(file.file_name).stem
        yield {
            **common,
            "name": name,
            "title": _title(name),
            "doc": "",
            "schema": [],
            "error": file.error,
        }
    for name, cls in file.types.items():
        schema, error = _schema(cls)
        yield {
            **common,
            "name": name,
            "title": _title(name),
            "doc": " ".join(str(cls.__doc__ or "").replace("\0", "").split()),
            "schema": schema,
            "error": error,
        }


def _schema(cls: type[BaseStrategy]) -> tuple[list[dict[str, Any]], str | None]:
    """The form's schema, or why a form cannot be made of it."""
    try:
        schema = cls.schema()
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        return [], f"a parameter of {cls.__name__} cannot be shown in a form: {error}"
    return schema, None


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _clash(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two files with one name: the later one is told so, under a name of its own."""
    text = (
        f"{row['file_name']} registers {row['name']!r}, which {other['file_name']} "
        f"({other['origin']}) has already: choose another name"
    )
    stem = Path(row["file_name"]).stem
    return {**row, "name": f"{row['name']} ({stem}.py)", "schema": [], "error": text}


def _apply(connection: sa.Connection, wanted: dict[str, dict[str, Any]]) -> list[str]:
    known = {
        row.name: (row.code_hash, row.error)
        for row in connection.execute(
            sa.select(StrategyTypeRow.name, StrategyTypeRow.code_hash, StrategyTypeRow.error)
        )
    }
    changed = [
        name for name, row in wanted.items() if known.get(name) != (row["code_hash"], row["error"])
    ]
    gone = [name for name in known if name not in wanted]
    for name in changed:
        row = wanted[name]
        statement = insert(StrategyTypeRow).values(row)
        values = {**row, "updated_at": sa.func.clock_timestamp()}
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
    if gone:
        connection.execute(sa.delete(StrategyTypeRow).where(StrategyTypeRow.name.in_(gone)))
    return changed + gone


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the folder may have: name, size and time of change of each."""
    if not folder.is_dir():
        return ()
    found = []
    for path in sorted(folder.glob("*.py")):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(found)


def strategy_class(connection: sa.Connection, name: str, code_hash: str) -> type[BaseStrategy]:
    """The class of a type as it stood at `code_hash`, loaded from its row."""
    query = sa.select(StrategyCodeRow.file_name, StrategyCodeRow.source)
    row = connection.execute(query.where(StrategyCodeRow.hash == code_hash)).one_or_none()
    if row is None:
        raise NoSuchStrategy(f"no strategy code has the hash {code_hash[:12]}")
    file = _loaded(row.file_name, row.source)
    if file.error is not None:
        raise NoSuchStrategy(
            f"{row.file_name} does not load: {file.error.strip().splitlines()[-1]}"
        )
    if name not in file.types:
        raise NoSuchStrategy(f"{row.file_name} at {code_hash[:12]} registers no {name!r}")
    return file.types[name]


@functools.lru_cache(maxsize=64)
def _loaded(file_name: str, source: str) -> LoadedFile:
    return load_source(file_name, source)


def newest_hash(connection: sa.Connection, name: str) -> str:
    """The code hash of a type now; NoSuchStrategy says why there is none."""
    query = sa.select(StrategyTypeRow.code_hash, StrategyTypeRow.error)
    row = connection.execute(query.where(StrategyTypeRow.name == name)).one_or_none()
    if row is None:
        known = connection.scalars(sa.select(StrategyTypeRow.name).order_by(StrategyTypeRow.name))
        raise NoSuchStrategy(f"strategy type {name!r} is not one of {', '.join(known)}")
    if row.error is not None:
        raise NoSuchStrategy(f"{name} is broken: {row.error.strip().splitlines()[-1]}")
    return str(row.code_hash)
