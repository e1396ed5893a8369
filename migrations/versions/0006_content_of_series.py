"""The content of a series

A name for the bars a series has: a new one whenever they change, but for bars that were appended. What was
read before is known by it to be the same still. Bars that are taken away or changed by hand count as changes
too, though nothing of ours does either.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

COUNT = """
CREATE OR REPLACE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changes := OLD.changes + 1;
    IF NEW.appended <= OLD.appended THEN
        NEW.content := gen_random_uuid();
        NEW.appended := 0;
    END IF;
    RETURN NEW;
END
$$
"""
COUNT_ONLY = """
CREATE OR REPLACE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changes := OLD.changes + 1;
    RETURN NEW;
END
$$
"""
TAKEN = """
CREATE FUNCTION bars_taken() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE series SET updated_at = clock_timestamp()
    FROM (SELECT DISTINCT instrument_id, source, interval FROM taken) AS of
    WHERE series.instrument_id = of.instrument_id AND series.source = of.source
      AND series.interval = of.interval;
    RETURN NULL;
END
$$
"""
CHANGED = """
CREATE FUNCTION bars_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE series SET updated_at = clock_timestamp();
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    op.add_column(
        "series",
        sa.Column(
            "content", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
    )
    op.add_column(
        "series", sa.Column("appended", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.execute(COUNT)
    op.execute(TAKEN)
    op.execute(CHANGED)
    op.execute(
        "CREATE TRIGGER bars_taken AFTER DELETE ON bars REFERENCING OLD TABLE AS taken"
        " FOR EACH STATEMENT EXECUTE FUNCTION bars_taken()"
    )
    op.execute(
        "CREATE TRIGGER bars_changed AFTER UPDATE OR TRUNCATE ON bars"
        " FOR EACH STATEMENT EXECUTE FUNCTION bars_changed()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER bars_changed ON bars")
    op.execute("DROP TRIGGER bars_taken ON bars")
    op.execute("DROP FUNCTION bars_changed()")
    op.execute("DROP FUNCTION bars_taken()")
    op.execute(COUNT_ONLY)
    op.drop_column("series", "appended")
    op.drop_column("series", "content")
