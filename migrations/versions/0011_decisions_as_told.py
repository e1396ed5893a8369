"""Decisions as they were told

What a run through the core decided comes out of its table into one row a run: JSON, a thousand decisions
at a time, behind the columns they are looked up by.
"""

import json
import struct
import zlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OUTCOMES = ("ordered", "denied", "nothing")
TOLD = (
    "instrument_id", "decided_at", "kind", "target", "because", "bar", "checks", "steps", "outcome",
    "reason",
)  # fmt: skip
DECISIONS = sa.table(
    "run_decisions",
    *(sa.column(name) for name in ("run_id", "number")),
    *(sa.column(name, JSON if name in ("bar", "checks", "steps") else None) for name in TOLD),
)
"""One `told` row: length of the head, head, int64 columns (at, instrument, outcome), pieces."""


def upgrade() -> None:
    connection = op.get_bind()
    runs = connection.scalars(sa.text("SELECT DISTINCT run_id FROM run_decisions")).all()
    for run_id in runs:
        query = sa.select(*(DECISIONS.c[name] for name in TOLD)).where(DECISIONS.c.run_id == run_id)
        rows = connection.execute(query.order_by(DECISIONS.c.number)).all()
        connection.execute(
            sa.text("INSERT INTO run_series (run_id, name, data) VALUES (:id, 'told', :data)"),
            {"id": run_id, "data": _packed([tuple(row) for row in rows])},
        )
    op.drop_table("run_decisions")


def downgrade() -> None:
    op.create_table(
        "run_decisions",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("instrument_id", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Double(), nullable=True),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("bar", JSON, nullable=True),
        sa.Column("checks", JSON, nullable=False),
        sa.Column("steps", JSON, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instruments.id"], name=op.f("fk_run_decisions_instrument_id")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_decisions_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_decisions")),
    )
    op.create_index(
        op.f("ix_run_decisions_run_id_outcome_number"),
        "run_decisions",
        ["run_id", "outcome", "number"],
        unique=False,
    )
    connection = op.get_bind()
    kept = connection.execute(sa.text("SELECT run_id, data FROM run_series WHERE name = 'told'"))
    for run_id, data in kept.all():
        for number, line in enumerate(_lines(bytes(data)), 1):
            row = dict(zip(TOLD, line, strict=True))
            connection.execute(DECISIONS.insert().values(run_id=run_id, number=number, **row))
    connection.execute(sa.text("DELETE FROM run_series WHERE name = 'told'"))


def _packed(rows: list[tuple]) -> bytes:
    at = [(row[1] - EPOCH) // timedelta(microseconds=1) * 1000 for row in rows]
    numbers = [*at, *(row[0] for row in rows), *(OUTCOMES.index(row[8]) for row in rows)]
    pieces = [
        zlib.compress(json.dumps([(row[0], row[1].isoformat(), *row[2:]) for row in some]).encode(), 1)
        for some in (rows[first : first + 1000] for first in range(0, len(rows), 1000))
    ]  # fmt: skip
    head = json.dumps({"count": len(rows), "pieces": [len(piece) for piece in pieces]}).encode()
    columns = struct.pack(f"<{len(numbers)}q", *numbers)
    return b"".join([len(head).to_bytes(4, "little"), head, columns, *pieces])


def _lines(data: bytes) -> list[list]:
    start = 4 + int.from_bytes(data[:4], "little")
    head = json.loads(data[4:start])
    ends = [start + 24 * head["count"]]
    for length in head["pieces"]:
        ends.append(ends[-1] + length)
    pieces = (json.loads(zlib.decompress(data[a:b])) for a, b in pairwise(ends))
    return [line for piece in pieces for line in piece]
