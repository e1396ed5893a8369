"""Columns as they are

A run's columns come compressed, or not at all where that would not help: PostgreSQL need not try again.
"""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE run_series ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("ALTER TABLE run_series ALTER COLUMN data SET STORAGE EXTENDED")
