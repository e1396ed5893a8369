"""Reads a page the way a strict browser would, and says what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
)
SVG_LEAVES = frozenset({"path", "rect", "circle", "line", "polyline", "ellipse"})
URL_ATTRIBUTES = ("href", "src", "action", "hx-get", "hx-post", "hx-put", "hx-delete", "data-url")


@dataclass
class Markup(HTMLParser):
    """What a document or fragment holds. `wrong` is empty when it is sound."""

    ids: list[str] = field(default_factory=list)
    urls: list[tuple[str, str]] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if len(given) != len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice: {attrs}")
        self._note(tag, given)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._note(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self._open[-1:] or 'nothing'}")
            if tag in self._open:
                while self._open.pop() != tag:
                    pass
            return
        self._open.pop()

    def _note(self, tag: str, given: dict[str, str | None]) -> None:
        if "id" in given:
            self.ids.append(given["id"] or "")
        if tag == "label" and given.get("for"):
            self.labels.append(given["for"] or "")
        for name, value in given.items():
            if name.startswith(("on", "hx-on")) or name == "style":
                self.wrong.append(f"<{tag} {name}>: the content policy forbids it")
            if name in URL_ATTRIBUTES and value:
                self.urls.append((name, value))
            if name in ("aria-describedby", "aria-labelledby", "aria-controls", "list"):
                self.references += (value or "").split()
        if tag == "script" and "src" not in given:
            self.wrong.append("an inline script: the content policy forbids it")
        is_control = tag in ("input", "select", "textarea") and given.get("type") not in (
            "hidden", "submit",
        )  # fmt: skip
        if is_control and "aria-label" not in given and "label" not in self._open:
            self.unlabelled.append(given.get("id") or f"{tag} {given.get('name')}")

    def finish(self) -> None:
        self.close()
        if self._open:
            self.wrong.append(f"never closed: {self._open}")
        twice = sorted({i for i in self.ids if self.ids.count(i) > 1})
        if twice:
            self.wrong.append(f"ids twice: {twice}")
        lost = sorted(set(self.references) - set(self.ids))
        if lost:
            self.wrong.append(f"refers to ids that are not there: {lost}")
        mute = [control for control in self.unlabelled if control not in self.labels]
        if mute:
            self.wrong.append(f"controls without a label: {mute}")


def read(html: str) -> Markup:
    markup = Markup()
    markup.feed(html)
    markup.finish()
    return markup
