"""A run beside the one it repeats: whether it came out the same, and what was not the same when it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(
    inputs: Mapping[str, Any],
    provenance: Mapping[str, Any],
    first_inputs: Mapping[str, Any],
    first_provenance: Mapping[str, Any],
    *,
    ways: tuple[str, str] = ("", ""),
) -> Iterator[str]:
    """What two runs of one request were made with that is not the same, in words.

    `ways` is what simulated it, now and then: the last digits of its equity hang on that.
    """
    for key, chosen in inputs.items():
        if chosen.get("used_hash") != (first_inputs.get(key) or {}).get("used_hash"):
            yield f"bars of {chosen['symbol']}"
    now_by, then_by = ways
    if now_by != then_by:
        yield f"what ran it (the {then_by}, now the {now_by}), which shows in the last digits"
    if not first_provenance:
        yield "the first did not keep what it was made with"
        return
    if provenance.get("sources") != first_provenance.get("sources"):
        yield "Seraphim's code"
    then, now = first_provenance.get("versions") or {}, provenance.get("versions") or {}
    others = list(other_versions(then, now))
    if others or provenance.get("lock") != first_provenance.get("lock"):
        yield ", ".join(others) or "the lock of packages"


def other_versions(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """numpy 2.1.0, now 2.2.0; our own version is told by the code itself."""
    for name in dict(then) | dict(now):
        if name != "seraphim" and then.get(name) != now.get(name):
            yield f"{name} {then.get(name, 'none')}, now {now.get(name, 'none')}"


def outcome(*, same: bool, differs: list[str]) -> str:
    """As the end of a sentence."""
    if same:
        return "the same trades and numbers"
    why = ", ".join(differs) or "nothing that is recorded: the strategy answers differently"
    return f"other trades or numbers. What was not the same: {why}"
