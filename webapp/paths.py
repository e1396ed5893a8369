"""Where to go next, never off this site."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request


def is_ours(path: str) -> bool:
    """A path on this site: no scheme, no host, no `//elsewhere`, no `/\\elsewhere`."""
    parts = urlsplit(path)
    return (
        path.startswith("/")
        and not parts.scheme
        and not parts.netloc
        and "\\" not in path
        and not path.startswith("//")
        and path.isprintable()
    )


def back_to(otherwise: str) -> str:
    """The page this form was on."""
    referrer = urlsplit(request.referrer or "")
    if referrer.netloc != request.host:
        return otherwise
    path = referrer.path + (f"?{referrer.query}" if referrer.query else "")
    return path if is_ours(path) else otherwise


def open_page() -> str | None:
    """The page that htmx asks from; None for the first page, or when it does not say."""
    there = urlsplit(request.headers.get("HX-Current-URL", ""))
    path = there.path + (f"?{there.query}" if there.query else "")
    return path if path != "/" and is_ours(path) else None


def next_page(otherwise: str) -> str:
    """`?next=` or the form's `next`, when it is ours."""
    wanted = request.values.get("next", "")
    return wanted if wanted and is_ours(wanted) else otherwise
