"""The images that a user names by paths, folders, globs and URIs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from urd.bulk.file_systems import Remote, is_uri, split_glob
from urd.data import find_named
from urd.data.finding import GROUND_TRUTH, RESULT_FILES, fits, has_image_name
from urd.data.formats import HEAD_BYTES, format_of
from urd.errors import UsageError, some
from urd.system.files import absolute, printable

ON_DISK = -1
_READERS = 16  # files of unknown kind that are opened at once


class Image(NamedTuple):
    """An image file.

    Attributes:
        path: absolute, or the path in the file system of its URI.
        uri: which of `FoundImages.uris` it comes from; `ON_DISK`: it is a path.
        shown: its name in rows: the absolute path, or its own URI.
    """

    path: str
    uri: int
    shown: str


@dataclass
class FoundImages:
    """What a search has found.

    Attributes:
        images: each once, those of a name sorted by path.
        uris: folders behind URIs, without patterns; whoever reads an image opens its folder again.
        skipped: a line for each kind of file or folder that was not used.
    """

    images: list[Image] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def find_images(names: Sequence[str], out: str) -> FoundImages:
    """Find the images that a user names; for paths as `urd.data.find_named`, for URIs likewise.

    Raises:
        UsageError: a folder or glob has no images, or a URI cannot be used.
        UrdError: a folder cannot be read.
    """
    found = FoundImages()
    paths = [name for name in names if not is_uri(name)]
    if paths:
        on_disk = find_named(paths, Path(out))
        found.skipped += on_disk.passed_over()
        for path in map(absolute, on_disk.images):
            found.images.append(Image(str(path), ON_DISK, printable(path)))
    for uri in filter(is_uri, names):
        base, pattern = split_glob(uri)
        found.uris.append(base)
        _add_remote(found, Remote.of(base), pattern, uri)
    once = {image.shown: image for image in found.images}
    found.images = list(once.values())
    return found


def _add_remote(found: FoundImages, folder: Remote, pattern: Sequence[str], named: str) -> None:
    """Add what is behind one URI: a file itself, or the images below a folder that fit a glob."""
    if not pattern and folder.is_file() is not False:
        # A missing file gets its own row in the results.
        found.images.append(Image(folder.path, len(found.uris) - 1, folder.uri))
        return
    files = [info for info in folder.listed() if _is_wanted(folder.parts(info.path), pattern)]
    results = _folders_of_results(folder, files)
    masks = 0
    candidates = []
    for info in files:
        inner = folder.parts(info.path)
        if any(inner[: len(of)] == of for of in results):
            continue
        if GROUND_TRUTH in inner[:-1] and GROUND_TRUTH not in pattern:
            masks += 1
        else:
            candidates.append(info)
    images, others = _sorted_out(folder, candidates)
    said = [
        f"skipped {len(paths)} {what} in {named}: {some(paths)}"
        for paths, what in (
            ([folder.shown(path) for path in others], "files that are not images"),
            (["/".join((folder.uri, *of)) for of in sorted(results)], "folders of earlier results"),
        )
        if paths
    ]
    if masks:
        said.append(f"skipped {masks} files in folders of masks in {named}")
    if not images:
        raise UsageError("; ".join([f"no images in {named}", *said]))
    number = len(found.uris) - 1
    found.images += [Image(path, number, folder.shown(path)) for path in images]
    found.skipped += said


def _is_wanted(inner: tuple[str, ...], pattern: Sequence[str]) -> bool:
    return not any(part.startswith(".") for part in inner) and fits(inner, pattern)


def _folders_of_results(folder: Remote, files: Sequence[Any]) -> set[tuple[str, ...]]:
    inner = (folder.parts(info.path) for info in files)
    return {parts[:-1] for parts in inner if parts[-1] in RESULT_FILES}


def _sorted_out(folder: Remote, files: Sequence[Any]) -> tuple[list[str], list[str]]:
    """The paths of images and of other files; the content decides where the name does not."""

    def is_image(info: Any) -> bool:
        if has_image_name(Path(info.base_name)):
            return True
        try:
            return format_of(folder.start_of(info.path, HEAD_BYTES)) is not None
        except OSError:
            return True  # reading it later says what is wrong

    ordered = sorted(files, key=lambda info: folder.parts(info.path))
    with ThreadPoolExecutor(_READERS) as pool:
        kinds = list(pool.map(is_image, ordered))
    images = [info.path for info, image in zip(ordered, kinds, strict=True) if image]
    others = [info.path for info, image in zip(ordered, kinds, strict=True) if not image]
    return images, others
