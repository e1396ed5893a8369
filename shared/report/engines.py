"""Which way a run was simulated, in words. The user chooses nothing: the fastest way that gives the core's answer."""

from __future__ import annotations

from typing import Final

_WAYS: Final = {"kernel": "compiled kernel", "loop": "asked bar by bar", "core": "the core"}
_TITLES: Final = {
    "kernel": (
        "Its signals were worked out over all bars at once, and a compiled kernel traded them: "
        "the same times, prices and quantities as the core, which trades on paper and live."
    ),
    "loop": (
        "Its strategy was asked at every bar, and compiled steps traded what it said: "
        "the same times, prices and quantities as the core, which trades on paper and live."
    ),
    "core": "The core, which also trades on paper and live, went through every moment",
}


def engine_text(engine: str, why_core: str = "") -> str:
    """compiled kernel; asked bar by bar; the core: a pair list decides who may be entered."""
    way = _WAYS.get(engine, engine)
    return f"{way}: {why_core}" if engine == "core" and why_core else way


def engine_title(engine: str, why_core: str = "") -> str:
    """What that means, in a sentence."""
    title = _TITLES.get(engine, "")
    if engine != "core":
        return title
    return f"{title}: no compiled kernel does this: {why_core}." if why_core else f"{title}."
