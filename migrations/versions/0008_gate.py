"""The look-ahead gate

What examining a run came to; NULL where it was not examined.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

LEAKS = sa.text("gate ->> 'verdict' = 'leaks'")


def upgrade() -> None:
    op.add_column("runs", sa.Column("gate", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.create_index(
        "ix_runs_leaking", "runs", ["code_hash", "strategy_type"], postgresql_where=LEAKS
    )


def downgrade() -> None:
    op.drop_index("ix_runs_leaking", table_name="runs", postgresql_where=LEAKS)
    op.drop_column("runs", "gate")
