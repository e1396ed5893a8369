"""The books: orders, fills, positions, ledger, lots, decisions, and what the account is worth."""

from webapp.books import account, details, lists, positions
from webapp.books.blueprint import bp

__all__ = ["account", "bp", "details", "lists", "positions"]
