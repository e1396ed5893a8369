"""Instruments of runs

Trades and fills of runs name an instrument their job has just read: looking each up once more, row by row, took
as long as storing them.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

TABLES = ("run_trades", "run_fills")


def upgrade() -> None:
    for table in TABLES:
        op.drop_constraint(op.f(f"fk_{table}_instrument_id"), table, type_="foreignkey")


def downgrade() -> None:
    for table in TABLES:
        name = op.f(f"fk_{table}_instrument_id")
        op.create_foreign_key(name, table, "instruments", ["instrument_id"], ["id"])
