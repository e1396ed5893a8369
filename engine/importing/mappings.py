"""Mappings that were saved under a name, and found again by the header they were made for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from engine.importing.layout import Layout
from engine.importing.sources import Source
from engine.importing.tables import open_table
from shared.db.market import ImportMappingRow


def fingerprint(header: Sequence[str]) -> str:
    """The same for two files with the same columns in the same order, however they are parted."""
    plain = "\x1f".join(name.strip().lower() for name in header)
    return hashlib.sha256(plain.encode()).hexdigest()


def for_header(
    session: Session, header: Sequence[str], found: Mapping[str, str]
) -> ImportMappingRow | None:
    """The newest mapping saved for this header. Files without a header have none: nothing tells them apart."""
    if found["header"] == "no":
        return None
    return session.scalars(
        sa.select(ImportMappingRow)
        .where(ImportMappingRow.fingerprint == fingerprint(header))
        .order_by(ImportMappingRow.saved_at.desc())
        .limit(1)
    ).first()


def by_name(session: Session, name: str) -> ImportMappingRow | None:
    return session.scalars(
        sa.select(ImportMappingRow).where(ImportMappingRow.name == name)
    ).one_or_none()


def listed(session: Session) -> list[ImportMappingRow]:
    return list(session.scalars(sa.select(ImportMappingRow).order_by(ImportMappingRow.name)))


def save(session: Session, name: str, source: Source, layout: Layout) -> None:
    """Under this name from now on; what had the name before is replaced."""
    with open_table(source, layout.delimiter, has_header=layout.has_header) as table:
        header = list(table.header)
    values = {
        "name": name.strip()[:80],
        "fingerprint": fingerprint(header),
        "header": header,
        "mapping": {key: value for key, value in layout.as_mapping().items() if key != "delimiter"},
    }
    changed = {**values, "saved_at": sa.func.clock_timestamp()}
    statement = insert(ImportMappingRow).values(**values)
    session.execute(
        statement.on_conflict_do_update(index_elements=[ImportMappingRow.name], set_=changed)
    )


def forget(session: Session, name: str) -> bool:
    """Whether there was one of this name."""
    gone = sa.delete(ImportMappingRow).where(ImportMappingRow.name == name)
    return session.execute(gone.returning(ImportMappingRow.id)).first() is not None
