"""A folder of results, on this machine or behind a URI: whole files, or none."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from urd.bulk.file_systems import Remote, is_uri
from urd.errors import NotWritten, UrdError, first_line
from urd.system.extras import optional
from urd.system.files import is_unfinished, remove_leftovers, write_atomically

_UNFINISHED = ".unfinished-"


class ResultFolder(Protocol):
    """Names are relative, with `/` between their parts. A failure is an `UrdError`."""

    @property
    def name(self) -> str:
        """As messages say it."""
        ...

    def names(self, below: str = "") -> list[str]:
        """What is in the folder, or in a folder below it, sorted; none if it does not exist."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it; readers see the old content or the new one."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file or a folder, if it exists."""
        ...

    def clean(self, below: str) -> None:
        """Delete the unfinished files of killed calls in a folder below it."""
        ...


def result_folder(out: str) -> ResultFolder:
    """The folder of this path or URI; nothing is made yet.

    Raises:
        UsageError, UrdError: as `Remote.of`.
    """
    return RemoteFolder(Remote.of(out)) if is_uri(out) else LocalFolder(Path(out))


class LocalFolder:
    """A `ResultFolder` on this machine; see `urd.system.files.writing` for its leftovers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def names(self, below: str = "") -> list[str]:
        folder = self.path / below
        try:
            found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        except OSError as error:
            raise UrdError(f"cannot read {folder}: {first_line(error)}") from error
        return sorted(name for name in found if not is_unfinished(name))

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise UrdError(f"cannot read {self.path / name}: {first_line(error)}") from error

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self.path / name, lambda new: new.write_bytes(content), one_of_many=True)

    def remove(self, name: str) -> None:
        path = self.path / name
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise NotWritten(f"cannot delete {path}: {first_line(error)}") from error

    def clean(self, below: str) -> None:
        remove_leftovers(self.path / below)


class RemoteFolder:
    """A `ResultFolder` behind a URI. A file gets its name by a move, when it is whole."""

    def __init__(self, folder: Remote) -> None:
        self._folder, self._files = folder, folder.files
        self.name = folder.uri

    def names(self, below: str = "") -> list[str]:
        return [name for name in self._all_names(below) if not name.startswith(_UNFINISHED)]

    def _all_names(self, below: str) -> list[str]:
        fs = optional("pyarrow.fs", "ray")
        selector = fs.FileSelector(self._folder.below(below), allow_not_found=True)
        with self._folder.reaching("read"):
            return sorted(info.base_name for info in self._files.get_file_info(selector))

    def read(self, name: str) -> bytes:
        with (
            self._folder.reaching("read"),
            self._files.open_input_stream(self._folder.below(name)) as file,
        ):
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        path = self._folder.below(name)
        folder, _, last = path.rpartition("/")
        unfinished = f"{folder}/{_UNFINISHED}{secrets.token_hex(8)}-{last}"
        try:
            self._files.create_dir(folder, recursive=True)
            try:
                with self._files.open_output_stream(unfinished) as file:
                    file.write(content)
                self._files.move(unfinished, path)
            except OSError:
                with suppress(OSError):
                    self._files.delete_file(unfinished)
                raise
        except OSError as error:
            raise NotWritten(f"cannot write {self.name}/{name}: {first_line(error)}") from error

    def remove(self, name: str) -> None:
        fs = optional("pyarrow.fs", "ray")
        path = self._folder.below(name)
        try:
            (info,) = self._files.get_file_info([path])
            if info.type == fs.FileType.Directory:
                self._files.delete_dir(path)
            elif info.type != fs.FileType.NotFound:
                self._files.delete_file(path)
        except OSError as error:
            raise NotWritten(f"cannot delete {self.name}/{name}: {first_line(error)}") from error

    def clean(self, below: str) -> None:
        for name in self._all_names(below):
            if name.startswith(_UNFINISHED):
                self.remove(f"{below}/{name}")
