"""A run of research: its page, its pictures and tables, its files."""

from webapp.runs import charting, files, listing, page, reporting
from webapp.runs.blueprint import bp

__all__ = ["bp", "charting", "files", "listing", "page", "reporting"]
