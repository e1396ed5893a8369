"""Books

What a ledger entry was worth in the account's base asset; tax lots; and indexes by which every list of
an account is read by key, narrowed or not, its deepest page as fast as its first.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

JSON = postgresql.JSONB(astext_type=sa.Text())
NOW = sa.text("clock_timestamp()")

LISTS = (
    ("ledger_entries", "at", "id", ("strategy_id", "instrument_id", "kind", "asset")),
    ("fills", "filled_at", "id", ("strategy_id", "instrument_id")),
    ("orders", "decided_at", "client_order_id", ("strategy_id", "instrument_id", "state")),
    ("decisions", "decided_at", "id", ("strategy_id", "instrument_id", "outcome")),
)
SORTED = (
    ("ledger_entries", "amount", "id"),
    ("fills", "realised", "id"),
    ("fills", "fee", "id"),
    ("orders", "updated_at", "client_order_id"),
    ("orders", "filled_value", "client_order_id"),
)


def upgrade() -> None:
    op.add_column("ledger_entries", sa.Column("worth", sa.Numeric(), nullable=True))
    for table, columns in _indexes():
        op.create_index(_name(table, columns), table, list(columns))
    for table, time, _id, _narrowed in LISTS:
        columns = ("account_id", time)
        op.drop_index(_name(table, columns), table)
    _lots()


def downgrade() -> None:
    op.drop_table("lots")
    op.drop_table("lot_books")
    for table, time, _id, _narrowed in LISTS:
        columns = ("account_id", time)
        op.create_index(_name(table, columns), table, list(columns))
    for table, columns in _indexes():
        op.drop_index(_name(table, columns), table)
    op.drop_column("ledger_entries", "worth")


def _indexes() -> list[tuple[str, tuple[str, ...]]]:
    found = [(table, ("account_id", column, id_)) for table, column, id_ in SORTED]
    # Lots go on from the newest entry that is in them: see engine/lot_keeping.py.
    found.append(("ledger_entries", ("account_id", "id")))
    found.append(("ledger_entries", ("account_id", "strategy_id", "instrument_id", "at", "id")))
    for table, time, id_, narrowed in LISTS:
        found.append((table, ("account_id", time, id_)))
        found.extend((table, ("account_id", name, time, id_)) for name in narrowed)
    return found


def _name(table: str, columns: tuple[str, ...]) -> str:
    return op.f(f"ix_{table}_{'_'.join(columns)}")


def _lots() -> None:
    op.create_table(
        "lot_books",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("books", JSON, server_default="{}", nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], op.f("fk_lot_books_account_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_lot_books")),
    )
    numbers = [
        sa.Column(name, sa.Numeric(), nullable=name in ("proceeds", "gain"))
        for name in ("proceeds", "cost", "fees", "gain")
    ]
    op.create_table(
        "lots",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("strategy_id", sa.BigInteger(), nullable=True),
        sa.Column("instrument_id", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), server_default="", nullable=False),
        *numbers,
        sa.Column("term", sa.Text(), nullable=True),
        sa.CheckConstraint("side IN ('long', 'short')", name=op.f("ck_lots_side_known")),
        sa.CheckConstraint("term IN ('long', 'short')", name=op.f("ck_lots_term_known")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], op.f("fk_lots_account_id")),
        sa.ForeignKeyConstraint(["strategy_id"], ["strategies.id"], op.f("fk_lots_strategy_id")),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instruments.id"], op.f("fk_lots_instrument_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lots")),
    )
    for columns in (
        ("account_id", "opened_at", "id"),
        ("account_id", "closed_at", "id"),
        ("account_id", "gain", "id"),
        ("account_id", "strategy_id", "opened_at", "id"),
        ("account_id", "instrument_id", "opened_at", "id"),
        ("account_id", "opened_by"),
        ("account_id", "closed_by"),
    ):
        op.create_index(_name("lots", columns), "lots", list(columns))
    op.create_index(
        "ix_lots_open",
        "lots",
        ["account_id", "opened_at", "id"],
        postgresql_where=sa.text("closed_at IS NULL"),
    )
