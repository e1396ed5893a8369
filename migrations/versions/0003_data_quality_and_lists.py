"""Data quality and lists

What is known about a series (content hash, bars a day, findings), fees of an instrument, watch lists, and
pair lists recorded per day. A trigger counts the changes of a series, so that what was worked out from its
bars is known to be of other bars as soon as one is added.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

JSON = postgresql.JSONB(astext_type=sa.Text())
NOW = sa.text("clock_timestamp()")
COUNT = """
CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changes := OLD.changes + 1;
    RETURN NEW;
END
$$
"""


def upgrade() -> None:
    for name in ("maker_fee", "taker_fee"):
        op.add_column("instruments", sa.Column(name, sa.Numeric(), nullable=True))
    op.add_column(
        "instruments", sa.Column("version", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "series", sa.Column("changes", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("series", sa.Column("content_hash", sa.Text(), nullable=True))
    op.add_column("series", sa.Column("hashed_change", sa.BigInteger(), nullable=True))
    op.execute(COUNT)
    op.execute(
        "CREATE TRIGGER series_changed BEFORE UPDATE OF bars, revision, updated_at ON series"
        " FOR EACH ROW EXECUTE FUNCTION count_change()"
    )
    _about_series()
    _watch_lists()
    _pair_lists()


def _about_series() -> None:
    op.create_table(
        "series_days",
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("bars", sa.LargeBinary(), nullable=False),
        sa.Column("expected", sa.LargeBinary(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], op.f("fk_series_days_series_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_id", name=op.f("pk_series_days")),
    )
    op.create_table(
        "series_quality",
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("findings", JSON, nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], op.f("fk_series_quality_series_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "series_id", "content_hash", "rules", name=op.f("pk_series_quality")
        ),
    )


def _watch_lists() -> None:
    op.create_table(
        "watch_lists",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watch_lists")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_watch_lists_owner_name")),
    )
    op.create_table(
        "watch_list_items",
        sa.Column("list_id", sa.BigInteger(), nullable=False),
        sa.Column("instrument_id", sa.BigInteger(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instruments.id"], op.f("fk_watch_list_items_instrument_id")
        ),
        sa.ForeignKeyConstraint(
            ["list_id"], ["watch_lists.id"], op.f("fk_watch_list_items_list_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("list_id", "instrument_id", name=op.f("pk_watch_list_items")),
    )


def _pair_lists() -> None:
    op.create_table(
        "pair_lists",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rules", JSON, nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("is_daily", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pair_lists")),
        sa.UniqueConstraint("name", name=op.f("uq_pair_lists_name")),
    )
    op.create_table(
        "pair_list_records",
        sa.Column("list_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("considered", sa.BigInteger(), nullable=False),
        sa.Column("members", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["list_id"], ["pair_lists.id"], op.f("fk_pair_list_records_list_id")
        ),
        sa.PrimaryKeyConstraint("list_id", "day", name=op.f("pk_pair_list_records")),
    )
    op.create_table(
        "pair_list_days",
        sa.Column("list_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("instrument_id", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("values", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instruments.id"], op.f("fk_pair_list_days_instrument_id")
        ),
        sa.ForeignKeyConstraint(["list_id"], ["pair_lists.id"], op.f("fk_pair_list_days_list_id")),
        sa.PrimaryKeyConstraint("list_id", "day", "instrument_id", name=op.f("pk_pair_list_days")),
    )
    op.create_index(
        op.f("ix_pair_list_days_list_id_instrument_id_day"),
        "pair_list_days",
        ["list_id", "instrument_id", "day"],
    )


def downgrade() -> None:
    for table in (
        "pair_list_days", "pair_list_records", "pair_lists", "watch_list_items", "watch_lists",
        "series_quality", "series_days",
    ):  # fmt: skip
        op.drop_table(table)
    op.execute("DROP TRIGGER series_changed ON series")
    op.execute("DROP FUNCTION count_change()")
    for name in ("hashed_change", "content_hash", "changes"):
        op.drop_column("series", name)
    for name in ("version", "taker_fee", "maker_fee"):
        op.drop_column("instruments", name)
