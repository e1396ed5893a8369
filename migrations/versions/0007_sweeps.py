"""Sweeps

A search over parameters, the chunks its work is done in, and one row a combination that was tried.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

JSON = postgresql.JSONB(astext_type=sa.Text())
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("strategy_type", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("base", JSON, nullable=False),
        sa.Column("space", JSON, nullable=False),
        sa.Column("constraints", JSON, nullable=False),
        sa.Column("objectives", JSON, nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("aggregate", sa.Text(), nullable=False),
        sa.Column("series", JSON, nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("planned", sa.BigInteger(), nullable=False),
        sa.Column("carved", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("excluded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rate", sa.Double(), nullable=True),
        sa.Column("wanted", sa.Text(), server_default="running", nullable=False),
        sa.Column("resumed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("simulated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.Column("requested_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'cancelled', 'failed')",
            name=op.f("ck_sweeps_state_known"),
        ),
        sa.CheckConstraint("wanted IN ('running', 'stopped')", name=op.f("ck_sweeps_wanted_known")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_sweeps_job_id")),
        sa.ForeignKeyConstraint(
            ["code_hash"], ["strategy_code.hash"], name=op.f("fk_sweeps_code_hash")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("job_id", name=op.f("uq_sweeps_job_id")),
    )
    op.create_table(
        "sweep_chunks",
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("resumed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_chunks_sweep_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_sweep_chunks_job_id")),
        sa.PrimaryKeyConstraint("sweep_id", "number", name=op.f("pk_sweep_chunks")),
    )
    op.create_table(
        "sweep_points",
        sa.Column("sweep_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("numbers", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("by_series", sa.ARRAY(sa.Double()), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("plateau", sa.Double(), nullable=True),
        sa.Column("is_best", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_points_sweep_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sweep_id", "number", name=op.f("pk_sweep_points")),
    )


def downgrade() -> None:
    op.drop_table("sweep_points")
    op.drop_table("sweep_chunks")
    op.drop_table("sweeps")
