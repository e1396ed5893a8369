"""Sweeps: asking for a search over parameters, watching it, and looking at what it found."""

from webapp.sweeps import actions, asking, page, pictures
from webapp.sweeps.blueprint import bp

__all__ = ["actions", "asking", "bp", "page", "pictures"]
