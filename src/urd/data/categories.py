"""Find the categories below a folder: each is a data set for one detector."""

from __future__ import annotations

from pathlib import Path

from urd.data.finding import search
from urd.data.layouts import is_category
from urd.errors import UsageError, some
from urd.system.progress import note


def categories_below(root: Path, results: Path | None = None) -> list[str]:
    """The paths of all categories below `root`, relative to it, with `/` between folders.

    A category is a folder in a layout such as MVTec's, or else a folder with images directly in
    it. There is none inside of another one. `note` reports what is not used.

    Args:
        results: a folder for results; it is not searched.

    Raises:
        UsageError: there is no such folder, there are no categories in it, or it is one itself.
    """
    if not root.is_dir():
        raise UsageError(f"no folder at {root}")
    if is_category(root):
        raise UsageError(f"{root} is one category, not a folder of categories: use urd fit")
    found = search(root, results=results)
    with_images = {path.parent for path in found.images}
    known: dict[Path, Path | None] = {root: None}

    def category_of(folder: Path) -> Path | None:
        if folder not in known:
            above = category_of(folder.parent)
            own = folder if folder in with_images or is_category(folder) else None
            known[folder] = above or own
        return known[folder]

    categories = sorted({of for of in map(category_of, with_images) if of is not None})
    if not categories:
        hint = ": it holds images itself, so use urd fit" if root in with_images else ""
        raise UsageError(f"no categories below {root}{hint}")
    for line in found.passed_over():
        if "results" in line or "link" in line:
            note(line)
    if direct := sum(path.parent == root for path in found.images):
        note(f"skipped {direct} images directly in {root}: they belong to no category")
    first = {path.relative_to(root).parts[0] for path in with_images - {root}}
    empty = [p for p in sorted(root.iterdir()) if _is_shown(p) and p.name not in first]
    if empty := [path for path in empty if path not in found.results and path not in found.loops]:
        note(f"skipped folders without images: {some(empty)}")
    return [category.relative_to(root).as_posix() for category in categories]


def _is_shown(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")
