"""The documents of the project: their blocks of code, and what is said about each.

    python tests/documents.py

lists the blocks that do not run in the tests, with their reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FOR_READERS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LOGS = DOCS / "research"  # records of what was tried, not instructions
SHELL = {"sh", "bash", "console", "powershell"}
KNOWN = SHELL | {"python", "yaml", "json", "text", "ini", "toml", "dockerfile"}
_FENCE = re.compile(r"^(`{3,})([^`]*)$")
_MARK = re.compile(r"^<!-- *(no-run|runs-in|file|exits): *(.+?) *-->$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: the first word behind the fence.
        mark: no-run, runs-in, file or exits, from a comment in the line above; or empty.
        about: the text of the mark.
    """

    document: Path
    line: int
    language: str
    code: str
    mark: str = ""
    about: str = ""

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Everything that a reader is meant to read, the logs last."""
    own = sorted(path for path in DOCS.glob("*.md"))
    return [*(ROOT / name for name in FOR_READERS), *own, *sorted(LOGS.glob("*.md"))]


def blocks_of(document: Path) -> list[Block]:
    """The fenced blocks of a document; directives of the site are none."""
    found: list[Block] = []
    lines = document.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        begin, end = number, number + 1
        while not lines[end].startswith(fence[1]):
            end += 1
        info = fence[2].strip()
        if not info.startswith("{"):
            mark = _MARK.match(lines[begin - 1]) if begin else None
            kind, about = mark.groups() if mark else ("", "")
            code = "\n".join(lines[begin + 1 : end]) + "\n"
            found.append(Block(document, begin + 1, info.partition(" ")[0], code, kind, about))
        number = end + 1
    return found


def blocks() -> list[Block]:
    return [block for document in pages() for block in blocks_of(document)]


def commands_in(code: str) -> Iterator[str]:
    """The single commands of a shell block."""
    for line in code.replace("\\\n", " ").splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line)
        yield from filter(None, (part.strip() for part in bare.split("&&")))


def prose(document: Path) -> str:
    """The text of a document without code, tables, comments, headings and addresses."""
    text = re.sub(r"<!--.*?-->", "", document.read_text(encoding="utf-8"), flags=re.S)
    text = re.sub(r"^(`{3,}).*?^\1$", "\n", text, flags=re.S | re.M)
    text = re.sub(r"^[ ]*\|.*$|^#.*$", "\n", text, flags=re.M)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"`[^`]+`", "code", text)


def sentences(document: Path) -> list[list[str]]:
    """The words of each whole sentence. Inline code counts as one word; fragments do not count."""
    found = []
    text = re.sub(r"^ *(?:[-*+:]|\d+\.) +", "\n\n", prose(document), flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        joined = re.sub(r"\b(et al|e\.g|i\.e)\.", r"\1", " ".join(paragraph.split()))
        for sentence in re.split(r"(?<=[.!?])[*)\"]*\s+(?=\S)", joined):
            if re.search(r"[.!?:][*)\"]*$", sentence):
                words = re.findall(r"[\w']+(?:[-.,/]\w+)*", sentence)
                found += [words] if words else []
    return found


def once(base: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of several test processes makes.

    Args:
        base: `tmp_path_factory.getbasetemp()`; with several processes its parent is shared.
    """
    shared = base.parent if base.name.startswith("popen-") else base
    with FileLock(shared / f"{name}.lock"):
        folder = shared / name
        if not folder.exists():
            unfinished = shared / f"{name}.part"
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


if __name__ == "__main__":
    for block in blocks():
        if block.mark == "no-run":
            print(f"{block.place}: {block.about}")
