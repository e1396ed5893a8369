"""Where runs come from

What a run was asked with and made with, so that it can be made again; notes, tags and favourites.
Runs of before keep what their job still says of the request.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"

JSON = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    op.create_table(
        "installation_diffs",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("diff", sa.LargeBinary(), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_installation_diffs")),
    )
    for name in ("request", "provenance"):
        op.add_column("runs", sa.Column(name, JSON, server_default="{}", nullable=False))
    op.add_column("runs", sa.Column("repeats", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("notes", sa.Text(), server_default="", nullable=False))
    op.add_column("runs", sa.Column("tags", JSON, server_default="[]", nullable=False))
    op.add_column(
        "runs",
        sa.Column("favourite", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_foreign_key(
        op.f("fk_runs_repeats"), "runs", "runs", ["repeats"], ["id"], ondelete="SET NULL"
    )
    op.create_index(op.f("ix_runs_repeats"), "runs", ["repeats"])
    op.execute(
        "UPDATE runs SET request = jobs.arguments || jsonb_build_object('code_hash', runs.code_hash)"
        " FROM jobs WHERE jobs.id = runs.job_id AND jobs.kind = 'backtest'"
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_runs_repeats"), table_name="runs")
    op.drop_constraint(op.f("fk_runs_repeats"), "runs", type_="foreignkey")
    for name in ("favourite", "tags", "notes", "repeats", "provenance", "request"):
        op.drop_column("runs", name)
    op.drop_table("installation_diffs")
