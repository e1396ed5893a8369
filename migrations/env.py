"""Runs migrations against DATABASE_URL, or against the connection or URL the caller hands in."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy.pool import NullPool

from shared.db.schema import metadata
from shared.db.sessions import make_engine


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or os.environ["DATABASE_URL"]
    engine = make_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=metadata, transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()


run()
