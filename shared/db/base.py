"""The base of all rows, and the column types they share."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

Instant = Annotated[datetime, mapped_column(sa.DateTime(timezone=True))]
Recorded = Annotated[
    datetime, mapped_column(sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp())
]
Serial = Annotated[int, mapped_column(sa.BigInteger, sa.Identity(always=False), primary_key=True)]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
JsonList = Annotated[list[Any], mapped_column(JSONB)]


class Base(DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        str: sa.Text,
        int: sa.BigInteger,
        Decimal: sa.Numeric,
        datetime: sa.DateTime(timezone=True),
        UUID: sa.Uuid,
    }


def one_of(column: str, *values: str) -> sa.CheckConstraint:
    """A column that holds one of a few words."""
    words = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({words})", name=f"{column}_known")
