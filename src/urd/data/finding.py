"""Which files are images, and which are passed over: one answer for all verbs.

An image is what begins like one, whatever its name. What only has the name of an image counts as
one too, as do pipes, broken links and files that may not be read: reading it then says what is
wrong. Linked folders are followed. Hidden files and folders are passed over.
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
from urd.data.image_files import IMAGE_SUFFIXES
from urd.errors import UrdError, UsageError
from urd.system.files import special

_OTHER_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".jxl", ".tga", ".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw"),
    ".orf",
)
_SUFFIXES = frozenset((*IMAGE_SUFFIXES, *_OTHER_SUFFIXES))
_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download")
GROUND_TRUTH = "ground_truth"
# Of `urd predict`, finished or not, and of `urd fit`.
_OF_RESULTS = ("predictions.jsonl", "predictions.partial.jsonl", "model.safetensors")
_PICTURES_OF_RESULTS = ("overlays", "maps")
_SHOWN = 5
_MOST_FOLDERS = 100_000
_Identity = tuple[int, int]  # device and number: links to a folder have those of the folder


@dataclass
class Found:
    """What was found, each list in the order of its paths.

    Attributes:
        images: what is to be read; some of it may turn out not to be readable.
        others: files that are no images.
        results: folders of earlier results, and `ground_truth` the folders of masks, where these
            were not searched.
        links: linked folders that were searched; `loops` lead back to a folder on their own path.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    ground_truth: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)

    @classmethod
    def together(cls, searches: Sequence[Found]) -> Found:
        """What several searches have found, each path once."""
        return cls(
            *(
                list(dict.fromkeys(chain.from_iterable(getattr(s, part.name) for s in searches)))
                for part in fields(cls)
            )
        )

    def passed_over(self) -> list[str]:
        """A line for each kind of thing that was not used."""
        kinds = (
            (self.others, "file that is no image", "files that are no images"),
            (self.results, "folder of earlier results", "folders of earlier results"),
            (self.ground_truth, "folder of masks", "folders of masks"),
            (self.loops, "link to a folder above it", "links to folders above them"),
        )
        return [
            f"skipped {len(paths)} {one if len(paths) == 1 else many}: {some(paths)}"
            for paths, one, many in kinds
            if paths
        ]


def some(things: Sequence[object]) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return ", ".join(map(str, things[:_SHOWN])) + more


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
        masks: search folders called `ground_truth` too.
        results: a folder that is about to hold results, and is left out like those that do.
        wanted: what counts as an image; by default `is_image`.

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
                f"over {most_folders} folders below {folder}: do linked folders hold one another?"
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
    """Whether a file is to be read as an image; see the head of this module."""
    if has_image_name(path) or special(path):
        return True
    try:
        with path.open("rb", buffering=0) as file:
            return format_of(file.read(HEAD_BYTES)) is not None
    except OSError:
        return True


def has_image_name(path: Path) -> bool:
    """By its suffix, also while it is being copied (`a.png.part`)."""
    name = path.name.lower()
    for suffix in _UNFINISHED:
        name = name.removesuffix(suffix)
    return os.path.splitext(name)[1] in _SUFFIXES  # noqa: PTH122 - three times as fast


def name_of(path: Path) -> str:
    """Of an image, mask or map without what tells the format; other dots belong to the name."""
    return path.stem if path.suffix.lower() in (*_SUFFIXES, ".npy") else path.name


def holds_results(folder: Path) -> bool:
    """Whether `urd predict` or `urd fit` has written into it."""
    return any((folder / name).is_file() for name in _OF_RESULTS)


def find_named(names: Iterable[str], out: Path) -> Found:
    """What a user means: files as they are, folders as the images below them, globs as what they
    match, be it files or folders.

    Masks in `ground_truth` and folders of results, `out` among them, are left out where they were
    not named themselves.

    Raises:
        UsageError: a folder or glob without images, or a folder of results.
    """
    searches = []
    for name in names:
        path = Path(name)
        if os.path.isdir(name):  # noqa: PTH112 - pathlib raises errors about some names
            of_name = _named_folder(path, out)
        elif glob.has_magic(name) and not os.path.exists(name):  # noqa: PTH110
            of_name = _matching(name, out)
        else:
            of_name = Found([path])  # a missing file becomes a row of its own
        if not of_name.images:
            raise UsageError("; ".join([f"no images in {name}", *of_name.passed_over()]))
        searches.append(of_name)
    return Found.together(searches)


def refuse_results(folder: Path) -> None:
    """Refuse a folder whose pictures are ours and not those of a camera.

    Raises:
        UsageError: it holds results, or is a part of such a folder.
    """
    if holds_results(folder) or _is_picture_of_results(folder.resolve() / "any"):
        raise UsageError(
            f"{folder} is a folder of results ({' or '.join(_OF_RESULTS)} is in it); give the "
            "folder of the images, or move them apart"
        )


def _named_folder(folder: Path, out: Path) -> Found:
    refuse_results(folder)
    if out.exists() and _identity(out) == _identity(folder):
        raise UsageError(f"--out is {folder} itself: its pictures would be judged the next time")
    return search(folder, masks=False, results=out)


def _matching(pattern: str, out: Path) -> Found:
    parts = Path(pattern).parts
    fixed = parts.index("**") if "**" in parts else len(parts)
    searches = []
    # Python's own ** follows links round and round.
    for path in sorted(map(Path, glob.glob(str(Path(*parts[:fixed]))))):  # noqa: PTH207 - absolute
        found = _matched(path, out, masks=GROUND_TRUTH in parts)
        if fixed < len(parts):
            for files in (found.images, found.others):
                files[:] = [f for f in files if _fits(f.relative_to(path).parts, parts[fixed:])]
        searches.append(found)
    return Found.together(searches)


def _matched(path: Path, out: Path, *, masks: bool) -> Found:
    """What a glob means by a path that it matches; `masks`: it names their folder."""
    if not masks and GROUND_TRUTH in path.parts:
        return Found(ground_truth=[path if path.is_dir() else path.parent])
    if _is_picture_of_results(path):
        return Found(results=[path.parent])
    if not path.is_dir():
        return Found([path])
    return Found(results=[path]) if holds_results(path) else search(path, masks=masks, results=out)


def _fits(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a path, or a folder that it lies in, matches a glob."""
    if not patterns:
        return True
    if patterns[0] == "**":
        return any(_fits(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
    here = bool(parts) and fnmatchcase(parts[0], patterns[0])
    return here and _fits(parts[1:], patterns[1:])


def _is_picture_of_results(path: Path) -> bool:
    if not any(name in path.parts for name in _PICTURES_OF_RESULTS):  # most paths, and fast
        return False
    return any(p.name in _PICTURES_OF_RESULTS and holds_results(p.parent) for p in path.parents)


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What lies in a folder and is not hidden, and whether it is a folder or a link to one."""
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
