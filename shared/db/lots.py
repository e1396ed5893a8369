"""Tax lots as they stand: read off the ledger, so they can be made again from it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Json, Recorded, Serial, one_of


class LotBookRow(Base):
    """How far an account's lots have been made, and by which method. Written by the clock.

    `entry_id` is the newest ledger entry that is in them; `books` is {book: {asset: sum}} up to it.
    A change of the account's method begins anew.
    `problem` says why they cannot be made further.
    """

    __tablename__ = "lot_books"

    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"), primary_key=True)
    method: Mapped[str]
    entry_id: Mapped[int] = mapped_column(default=0, server_default="0")
    books: Mapped[Json] = mapped_column(server_default="{}")
    problem: Mapped[str] = mapped_column(default="", server_default="")
    updated_at: Mapped[Recorded]


class LotRow(Base):
    """A lot that is open (`closed_at` of NULL), or a part of one that was closed. Written by the clock.

    An open lot's quantity and cost are signed: below 0 it was sold short. `quantity` of a closed one is
    above 0, and gain = proceeds - cost - fees.
    """

    __tablename__ = "lots"
    __table_args__ = (
        one_of("side", "long", "short"),
        one_of("term", "long", "short"),
        sa.Index(None, "account_id", "opened_at", "id"),
        sa.Index(None, "account_id", "closed_at", "id"),
        sa.Index(None, "account_id", "gain", "id"),
        sa.Index(None, "account_id", "strategy_id", "opened_at", "id"),
        sa.Index(None, "account_id", "instrument_id", "opened_at", "id"),
        sa.Index(None, "account_id", "opened_by"),
        sa.Index(None, "account_id", "closed_by"),
        sa.Index(
            "ix_lots_open", "account_id", "opened_at", "id", postgresql_where="closed_at IS NULL"
        ),
    )

    id: Mapped[Serial]
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategies.id"))
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"))
    side: Mapped[str]
    kind: Mapped[str]
    quantity: Mapped[Decimal]
    opened_at: Mapped[datetime]
    opened_by: Mapped[str]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str] = mapped_column(default="", server_default="")
    proceeds: Mapped[Decimal | None]
    cost: Mapped[Decimal]
    fees: Mapped[Decimal]
    gain: Mapped[Decimal | None]
    term: Mapped[str | None]
