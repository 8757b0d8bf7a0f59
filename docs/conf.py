"""Settings of the documentation site: `make docs`, or `sphinx-build -W -n docs build/docs`.

The site asks nothing of other servers: a test holds the built pages to that.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

from sphinx.ext import autodoc

from urd.system.versions import VERSION

project = "urd"
author = "The urd authors"
project_copyright = "The urd authors, Apache-2.0"
version = release = VERSION
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build"]
suppress_warnings = ["epub"]
nitpicky = True

myst_heading_anchors = 4  # the anchors that code hosts make of headings
myst_enable_extensions = ["deflist", "colon_fence"]
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes in the list of the class, not once more as members
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

# Types in signatures: those of other packages, whose inventories are not fetched, and inner ones.
# Links that a person wrote are Markdown, and stay strict.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"urd {VERSION}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd0a5", "color-brand-content": "#5fd0a5"},
}


def plain_text(text: str) -> str:
    """Docstrings and helps are plain words with names in backticks: the same for RST."""
    pieces = re.split(r"(`+[^`]+`+|\*\*Required\*\*)", text)
    for place, piece in enumerate(pieces):
        if piece == "**Required**":  # the words of sphinx-click
            continue
        if piece.startswith("`"):
            pieces[place] = f"``{piece.strip('`')}``"
        else:
            escaped = re.sub(r"([*|\\]|(?<=\w)_(?=\W|$))", r"\\\1", piece)
            pieces[place] = re.sub(r"(?<![^\s(])(--[a-z][a-z-]*)(?![^\s.,;:)])", r"``\1``", escaped)
    return "".join(pieces)


def example_as_code(text: str) -> str:
    return re.sub(r"^( *)Example:\n((?:\1 +.*\n?|\n)+)", r"\1Example::\n\n\2\n", text, flags=re.M)


def setup(app: Any) -> None:
    """Before napoleon reads a docstring, and when sphinx-click has read a help."""
    kept: dict[str, list[str]] = {}
    # anomalib is slow to import and an extra: its classes need only names here.
    mocked = ExitStack()
    mocked.enter_context(autodoc.mock(["anomalib", "lightning"]))

    def before(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        text = example_as_code(plain_text("\n".join(lines)))
        # napoleon would take "a, b: TEXT" for a type and a name.
        text = re.sub(r"^( +\w+(?:, \w+)+):", lambda m: m[0].replace(", ", ","), text, flags=re.M)
        lines[:] = text.splitlines()
        if what in ("property", "attribute"):  # and "WORDS: WORDS" in their first line for a type
            kept[name], lines[:] = list(lines), []

    def after(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        lines[:] = kept.pop(name, lines)

    def of_help(app: Any, ctx: Any, lines: list[str]) -> None:
        for number, line in enumerate(lines):
            if not line.startswith((".. ", ":")):
                lines[number] = plain_text(line)

    app.connect("build-finished", lambda app, error: mocked.close())
    app.connect("autodoc-process-docstring", before, priority=100)
    app.connect("autodoc-process-docstring", after, priority=900)
    for part in ("description", "arguments", "options"):
        app.connect(f"sphinx-click-process-{part}", of_help)
