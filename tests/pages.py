"""Read a page that urd has written."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

_VOID = ("meta", "img", "br", "input", "rect", "path", "circle")


class Page(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.seen, self.links, self.ids, self.text = [], [], [], [], text
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "popovertarget")]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _VOID:
            assert self.open.pop() == tag

    def needs_nothing_from_outside(self) -> bool:
        """No script, no address; every name inside of the page is there, and once."""
        assert len(set(self.ids)) == len(self.ids)
        inside = [link[1:] for link in self.links if link.startswith("#")]
        assert set(inside) <= set(self.ids)
        loads = ("http:", "https:", "//", "<script", "@import", "url(", "<link", "<iframe")
        found = [word for word in loads if word in self.text.replace("</", "")]
        return not [word for word in found if word != "//" or 'href="//' in self.text]


def parsed(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))
