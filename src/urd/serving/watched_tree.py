"""The image files below a watched folder: what counts as one, and what is passed over, and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from urd.data.finding import GROUND_TRUTH, has_image_name, holds_results
from urd.errors import UrdError, some
from urd.serving.file_identity import status_of
from urd.serving.readiness import MARKER
from urd.serving.saying import Mentions

_UNFINISHED = (
    *(".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download"),
    MARKER,
)
_MOST_FOLDERS = 100_000
_Identity = tuple[int, int]  # device and inode number


class FolderAway(UrdError):
    """The watched folder is not there, or cannot be read."""


class WatchedTree:
    """A folder with all folders below it; links are followed.

    Attributes:
        root: absolute.
        whole: whether the last walk has seen everything.
    """

    def __init__(self, root: Path, left_out: Sequence[Path], mentions: Mentions) -> None:
        self.root = root
        self.whole = False
        self._never = left_out
        self._mentions = mentions
        self._folders: set[str] = set()
        self._passed_over: set[str] = set()

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """All image files, with their status.

        Raises:
            FolderAway: the folder itself cannot be read.
        """
        top = status_of(self.root)
        if top is None:
            raise FolderAway(f"{self.root} is not there")
        never = {_identity(found) for path in self._never if (found := status_of(path))}
        folders, passed_over = set[str](), set[str]()
        self.whole = True
        waiting: list[tuple[str, tuple[_Identity, ...]]] = [(str(self.root), (_identity(top),))]
        while waiting:
            here, above = waiting.pop()
            if len(folders) >= _MOST_FOLDERS:
                self._miss("many", f"over {_MOST_FOLDERS} folders below {self.root}: not all seen")
                break
            folders.add(here)
            for path, status in self._entries(here):
                if not stat.S_ISDIR(status.st_mode):
                    if self.is_image(path, status):
                        yield path, status
                elif self._enters(path, _identity(status), above, never):
                    waiting.append((path, (*above, _identity(status))))
                else:
                    passed_over.add(path)
        self._folders, self._passed_over = folders, passed_over

    def knows(self, path: str) -> bool | None:
        """Whether the last walk was in the folder of a path; `None`: it is a new folder."""
        folder = os.path.dirname(path)  # noqa: PTH120 - many times as fast as pathlib
        if folder in self._folders:
            return True
        hidden = f"{os.sep}." in path[len(str(self.root)) :]
        if hidden or any(folder == p or folder.startswith(p + os.sep) for p in self._passed_over):
            return False
        return None

    def is_image(self, path: str, status: os.stat_result) -> bool:
        """Whether to judge a file; says what else it is, once for each kind."""
        name = os.path.basename(path)  # noqa: PTH119 - likewise
        if name.startswith(".") or name.lower().endswith(_UNFINISHED):
            return False
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a file")
            self._mentions.once(f"kind {kind}", f"passed over, as it is {kind}: {some([path])}")
            return False
        if has_image_name(Path(name)):
            return True
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - likewise
        what = f"files that end in {suffix}" if suffix else "files without a suffix"
        self._mentions.once(
            f"suffix {suffix}", f"passed over, as no images: {what}, such as {path}"
        )
        return False

    def _entries(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Entries that are not hidden; a link counts as what it leads to."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    status = _status(entry)
                    if status is not None:
                        yield entry.path, status
                    elif entry.is_symlink():
                        text = f"passed over, as a link that leads nowhere: {entry.path}"
                        self._mentions.once(f"link {entry.path}", text)
        except OSError as error:
            if folder == str(self.root):
                raise FolderAway(f"{folder} cannot be read: {error.strerror or error}") from error
            if not isinstance(error, FileNotFoundError):  # else it has just been removed
                text = f"the folder {folder} cannot be read: {error.strerror or error}"
                self._miss(f"unread {folder}", text)
        else:
            self._mentions.over(f"unread {folder}", f"the folder {folder} can be read again")

    def _enters(
        self,
        path: str,
        identity: _Identity,
        above: tuple[_Identity, ...],
        never: set[_Identity],
    ) -> bool:
        if identity in never:
            return False
        if identity in above:
            reason = "a link to a folder above it"
        elif os.path.basename(path) == GROUND_TRUTH:  # noqa: PTH119 - likewise
            reason = "a folder of masks"
        elif holds_results(Path(path)):
            reason = "a folder of earlier results"
        elif path.endswith(_OF_STORES):
            reason = "a folder of a store"
        else:
            return True
        self._mentions.once(f"folder {path}", f"passed over, as {reason}: {path}")
        return False

    def _miss(self, what: str, text: str) -> None:
        self.whole = False
        self._mentions.once(what, text)


_OF_STORES = (".sqlite.images", ".sqlite.aside", ".db.images", ".db.aside")
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Windows gives no inode with an entry, so there the file itself is asked."""
    if os.name == "nt":
        return status_of(entry.path)
    try:
        return entry.stat()
    except OSError:  # just removed, or a link that leads nowhere or to itself
        return None
