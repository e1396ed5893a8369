"""Imports

Mappings that are kept for the next file with the same header. Bars lose their foreign key, which cost
more than all the rest of storing a row; the series beside them keeps the instrument.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

JSON = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    op.create_table(
        "import_mappings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("header", JSON, nullable=False),
        sa.Column("mapping", JSON, nullable=False),
        sa.Column(
            "saved_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_mappings")),
        sa.UniqueConstraint("name", name=op.f("uq_import_mappings_name")),
    )
    op.create_index(op.f("ix_import_mappings_fingerprint"), "import_mappings", ["fingerprint"])
    op.drop_constraint(op.f("fk_bars_instrument_id"), "bars", type_="foreignkey")


def downgrade() -> None:
    op.create_foreign_key(
        op.f("fk_bars_instrument_id"), "bars", "instruments", ["instrument_id"], ["id"]
    )
    op.drop_index(op.f("ix_import_mappings_fingerprint"), table_name="import_mappings")
    op.drop_table("import_mappings")
