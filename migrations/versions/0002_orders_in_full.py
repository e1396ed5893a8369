"""Orders in full

More order types, time in force, post-only and OCO groups; amendments; margin and matching of an
account; ledger entries that name the instrument they are about.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

TYPES = "type IN ('market', 'limit', 'stop', {}'trailing_stop'{})"
JSON = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    for name in ("matching", "margin"):
        op.add_column("accounts", sa.Column(name, JSON, server_default="{}", nullable=False))
    op.add_column(
        "accounts", sa.Column("lot_method", sa.Text(), server_default="fifo", nullable=False)
    )
    op.add_column("accounts", sa.Column("dust_value", sa.Numeric(), nullable=True))
    op.create_check_constraint(
        op.f("ck_accounts_lot_method_known"),
        "accounts",
        "lot_method IN ('fifo', 'lifo', 'hifo', 'average')",
    )

    op.add_column(
        "order_intents", sa.Column("time_in_force", sa.Text(), server_default="gtc", nullable=False)
    )
    op.add_column(
        "order_intents", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "order_intents",
        sa.Column("post_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("order_intents", sa.Column("oco", sa.Uuid(), nullable=True))
    _types(TYPES.format("'stop_limit', ", ", 'take_profit'"))
    op.create_check_constraint(
        op.f("ck_order_intents_time_in_force_known"),
        "order_intents",
        "time_in_force IN ('gtc', 'ioc', 'fok', 'gtd', 'day')",
    )

    op.add_column(
        "orders", sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("orders", sa.Column("ended", sa.Text(), nullable=True))
    op.add_column(
        "orders",
        sa.Column("is_triggered", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )

    op.add_column("ledger_entries", sa.Column("instrument_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_ledger_entries_instrument_id"),
        "ledger_entries",
        "instruments",
        ["instrument_id"],
        ["id"],
    )
    op.add_column("ledger_entries", sa.Column("note", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("ledger_entries", "note")
    op.drop_column("ledger_entries", "instrument_id")
    op.drop_column("orders", "is_triggered")
    op.drop_column("orders", "ended")
    op.drop_column("orders", "revision")
    op.drop_constraint(op.f("ck_order_intents_time_in_force_known"), "order_intents")
    _types(TYPES.format("", ""))
    for name in ("oco", "post_only", "expires_at", "time_in_force"):
        op.drop_column("order_intents", name)
    for name in ("dust_value", "lot_method", "margin", "matching"):
        op.drop_column("accounts", name)


def _types(known: str) -> None:
    name = op.f("ck_order_intents_type_known")
    op.drop_constraint(name, "order_intents")
    op.create_check_constraint(name, "order_intents", known)
