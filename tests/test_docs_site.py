"""The documentation site: built strictly, whole, and without a request to another server."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from documents import DOCS, ROOT, once

pytest.importorskip("sphinx", reason="the extra docs is not installed")
pytest.importorskip("furo", reason="the extra docs is not installed")
LOADED = {  # attributes whose address the browser fetches by itself
    "img": ("src", "srcset"),
    "script": ("src",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "object": ("data",),
    "embed": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
LOADED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"}


def build(folder: Path) -> None:
    options = ["-W", "-n", "--keep-going", "-q", "-b", "html", "-d", str(folder / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return once(tmp_path_factory.getbasetemp(), "site", build) / "html"


class Page(HTMLParser):
    """What a page loads, what it links to, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        self.loads += [given[name] for name in LOADED.get(tag, ()) if name in given]
        self.loads += re.findall(r"url\(([^)]*)\)", given.get("style", ""))
        if tag == "link" and LOADED_LINKS & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def external(address: str) -> bool:
    address = address.strip(" '\"")
    return not address.startswith("data:") and ("://" in address or address.startswith("//"))


def test_no_page_loads_anything_from_another_server(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    loads = {(page.name, address) for page in pages for address in Page(page).loads}
    assert any(address.endswith((".css", ".js")) or ".css?" in address for _, address in loads)
    assert [load for load in loads if external(load[1])] == []


def test_no_style_loads_anything_from_another_server(site):
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert len(styles) > 2
    for style in styles:
        addresses = re.findall(r"url\(([^)]*)\)|@import\s+['\"]([^'\"]+)", style)
        assert [a or b for a, b in addresses if external(a or b)] == []


def test_every_link_inside_of_the_site_holds(site):
    pages = {page.resolve(): Page(page) for page in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not link.strip("#"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].places, f"{path.name}: {link}"


def test_every_verb_and_flag_is_in_the_command_reference(site):
    from urd.cli import VERBS
    from urd.cli.options import FitConfig

    text = re.sub(r"<[^>]+>", "", (site / "commands.html").read_text(encoding="utf-8"))
    assert [verb for verb in VERBS if f"urd {verb}" not in text] == []
    flags = [f"--{name.replace('_', '-')}" for name in FitConfig.__dataclass_fields__]
    assert [flag for flag in flags if flag not in text] == []


def test_every_public_name_is_in_the_api_reference(site):
    import urd

    places = Page(site / "api.html").places
    assert [n for n in urd.__all__ if n != "__version__" and f"urd.{n}" not in places] == []


def test_a_browser_asks_for_files_of_the_site_only_and_no_phone_scrolls_sideways(site, browser):
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index", "inspector", "choosing", "commands", "api", "reliability"):
        page.goto((site / f"{name}.html").as_uri())
        wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{name} is {wider} pixels wider than a phone"
    page.close()
    assert asked and [a for a in asked if not a.startswith(("file://", "data:"))] == []
