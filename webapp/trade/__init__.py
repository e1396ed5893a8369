"""Trading by hand: a ticket with its preview, positions, working orders, and what was asked."""

from webapp.trade import actions, page, settings
from webapp.trade.blueprint import bp

__all__ = ["actions", "bp", "page", "settings"]
