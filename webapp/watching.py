"""Whose watch lists one sees: one's own and everyone's."""

from __future__ import annotations

from typing import Final

from flask_login import current_user

EVERYONE: Final = ""
"""The owner of a list that all see and all traders change."""


def owners() -> tuple[str, str]:
    return EVERYONE, str(current_user.username)
