"""Find images, and say which files are skipped: the same rules for all verbs.

A file is an image if its content begins like one, with any name. A file with the name of an image
also counts, and so do pipes, broken links and files without read permission: reading them later
says what is wrong. Linked folders are followed. Hidden files and folders are skipped.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from urd.data.formats import HEAD_BYTES, format_of
from urd.data.globs import is_glob
from urd.data.image_files import IMAGE_SUFFIXES
from urd.errors import UrdError, UsageError, some
from urd.system.files import special

_OTHER_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".jxl", ".tga", ".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw"),
    ".orf",
)
_SUFFIXES = frozenset((*IMAGE_SUFFIXES, *_OTHER_SUFFIXES))
_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download")
GROUND_TRUTH = "ground_truth"
# Files of `urd predict`, finished or not, also on Ray, and of `urd fit`.
SETTINGS_NAME = "predictions.settings.json"
RESULT_FILES = (
    *("predictions.jsonl", "predictions.partial.jsonl", SETTINGS_NAME, "model.safetensors"),
)
_PICTURES_OF_RESULTS = ("overlays", "maps")
_MOST_FOLDERS = 100_000
_Identity = tuple[int, int]  # device and inode number; a link has those of its folder


@dataclass
class Found:
    """The result of a search; each list is sorted by path.

    Attributes:
        images: files to read; some may not be readable.
        others: files that are not images.
        results: folders of earlier results; they are not searched.
        ground_truth: folders of masks that were not searched.
        links: linked folders that were searched.
        loops: links that lead back to a folder above them.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    ground_truth: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)

    @classmethod
    def together(cls, searches: Sequence[Found]) -> Found:
        """Join several searches; each path is there once."""
        return cls(
            *(
                list(dict.fromkeys(chain.from_iterable(getattr(s, part.name) for s in searches)))
                for part in fields(cls)
            )
        )

    def passed_over(self) -> list[str]:
        """A line for each kind of file or folder that was not used."""
        kinds = (
            (self.others, "file that is not an image", "files that are not images"),
            (self.results, "folder of earlier results", "folders of earlier results"),
            (self.ground_truth, "folder of masks", "folders of masks"),
            (self.loops, "link to a folder above it", "links to folders above them"),
        )
        return [
            f"skipped {len(paths)} {one if len(paths) == 1 else many}: {some(paths)}"
            for paths, one, many in kinds
            if paths
        ]


def search(
    folder: Path,
    *,
    masks: bool = True,
    results: Path | None = None,
    wanted: Callable[[Path], bool] | None = None,
    most_folders: int = _MOST_FOLDERS,
) -> Found:
    """All files below a folder.

    Args:
        masks: search folders called `ground_truth`, too.
        results: a folder for new results; it is skipped like folders that hold results.
        wanted: decides whether a file is an image; by default `is_image`.

    Raises:
        UrdError: a folder cannot be read.
        UsageError: links make the folders endless.
    """
    wanted, found = wanted or is_image, Found()
    left_out = None if results is None or not results.exists() else _identity(results)
    waiting: list[tuple[Path, tuple[_Identity, ...]]] = [(folder, (_identity(folder),))]
    count = 0
    while waiting:
        here, above = waiting.pop()
        count += 1
        if count > most_folders:
            raise UsageError(
                f"over {most_folders} folders below {folder}: check whether linked folders "
                "contain each other"
            )
        for path, is_folder in _entries(here):
            if not is_folder:
                (found.images if wanted(path) else found.others).append(path)
            elif path.name == GROUND_TRUTH and not masks:
                found.ground_truth.append(path)
            elif (identity := _identity(path)) in above:
                found.loops.append(path)
            elif identity == left_out or holds_results(path):
                found.results.append(path)
            else:
                if path.is_symlink():
                    found.links.append(path)
                waiting.append((path, (*above, identity)))
    for part in fields(found):
        getattr(found, part.name).sort(key=lambda path: path.parts)  # faster than paths
    return found


def is_image(path: Path) -> bool:
    """Whether to read a file as an image; the rules are at the top of this module."""
    if has_image_name(path) or special(path):
        return True
    try:
        with path.open("rb", buffering=0) as file:
            return format_of(file.read(HEAD_BYTES)) is not None
    except OSError:
        return True


def has_image_name(path: Path) -> bool:
    """Whether the suffix is that of an image, also during a copy (`a.png.part`)."""
    name = path.name.lower()
    for suffix in _UNFINISHED:
        name = name.removesuffix(suffix)
    return os.path.splitext(name)[1] in _SUFFIXES  # noqa: PTH122 - three times as fast


def name_of(path: Path) -> str:
    """The name of an image, mask or map without the suffix of its format; other dots stay."""
    return path.stem if path.suffix.lower() in (*_SUFFIXES, ".npy") else path.name


def holds_results(folder: Path) -> bool:
    """Whether `urd predict` or `urd fit` has written to the folder."""
    return any((folder / name).is_file() for name in RESULT_FILES)


def find_named(names: Iterable[str], out: Path) -> Found:
    """Find the images that a user names.

    A file means itself, a folder all images below it, a glob all files and folders that it matches.
    Masks in `ground_truth` and folders of results, including `out`, are skipped unless the user
    names them.

    Raises:
        UsageError: a folder or glob has no images, or is a folder of results.
    """
    searches = []
    for name in names:
        path = Path(name)
        if os.path.isdir(name):  # noqa: PTH112 - pathlib raises errors for some names
            of_name = _named_folder(path, out)
        elif is_glob(name):
            of_name = _matching(name, out)
        else:
            of_name = Found([path])  # a missing file gets its own row in the results
        if not of_name.images:
            raise UsageError("; ".join([f"no images in {name}", *of_name.passed_over()]))
        searches.append(of_name)
    return Found.together(searches)


def refuse_results(folder: Path) -> None:
    """Refuse a folder with pictures that urd has written.

    Raises:
        UsageError: the folder holds results, or is part of such a folder.
    """
    if holds_results(folder) or _is_picture_of_results(folder.resolve() / "any"):
        there = [name for name in RESULT_FILES if (folder / name).is_file()]
        which = f" ({there[0]} is in it)" if there else ""
        raise UsageError(
            f"{folder} is a folder of results{which}: give the folder of the images here, after "
            "RUN; or move the results out of it"
        )


def _named_folder(folder: Path, out: Path) -> Found:
    refuse_results(folder)
    if out.exists() and _identity(out) == _identity(folder):
        raise UsageError(
            f"--out is the folder of images {folder}; choose another one, or the next call would "
            "judge its pictures"
        )
    return search(folder, masks=False, results=out)


def _matching(pattern: str, out: Path) -> Found:
    parts = Path(pattern).parts
    fixed = parts.index("**") if "**" in parts else len(parts)
    searches = []
    # Python's own ** follows links in a circle.
    for path in sorted(map(Path, glob.glob(str(Path(*parts[:fixed]))))):  # noqa: PTH207 - absolute
        found = _matched(path, out, masks=GROUND_TRUTH in parts)
        if fixed < len(parts):
            for files in (found.images, found.others):
                files[:] = [f for f in files if fits(f.relative_to(path).parts, parts[fixed:])]
        searches.append(found)
    return Found.together(searches)


def _matched(path: Path, out: Path, *, masks: bool) -> Found:
    """The images that a glob means by a matching path; `masks`: it names `ground_truth`."""
    if not masks and GROUND_TRUTH in path.parts:
        return Found(ground_truth=[path if path.is_dir() else path.parent])
    if _is_picture_of_results(path):
        return Found(results=[path.parent])
    if not path.is_dir():
        return Found([path])
    return Found(results=[path]) if holds_results(path) else search(path, masks=masks, results=out)


def fits(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the parts of a path, or of one of its parent folders, fit those of a glob."""
    if not patterns:
        return True
    if patterns[0] == "**":
        return any(fits(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
    here = bool(parts) and fnmatchcase(parts[0], patterns[0])
    return here and fits(parts[1:], patterns[1:])


def _is_picture_of_results(path: Path) -> bool:
    if not any(name in path.parts for name in _PICTURES_OF_RESULTS):  # fast: most paths end here
        return False
    return any(p.name in _PICTURES_OF_RESULTS and holds_results(p.parent) for p in path.parents)


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Entries of a folder that are not hidden, and whether each is a folder or a link to one."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield folder / entry.name, _is_folder(entry)
    except OSError as error:
        raise UrdError(f"cannot read the folder {folder}: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> _Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino
