"""Images and results behind URIs (file://, s3://, gs://, hdfs://, ...), through pyarrow."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from urd.errors import UrdError, UsageError, first_line
from urd.system.extras import optional

_FIRST_PART = 3  # of "scheme://host/part"
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def is_uri(name: str) -> bool:
    """Whether a name is a URI and not a path of this machine."""
    return _URI.match(name) is not None


@dataclass(frozen=True)
class Remote:
    """A file or folder behind a URI.

    Attributes:
        files: its file system, of pyarrow.
        path: where it is there.
        uri: as the user wrote it, without a query and without slashes at the end.
    """

    files: Any
    path: str
    uri: str

    @classmethod
    def of(cls, uri: str) -> Remote:
        """Open a URI; nothing is read yet.

        Raises:
            UsageError: pyarrow is not installed, or does not know such URIs.
            UrdError: its file system cannot be reached.
        """
        if not uri.partition("?")[0].partition("://")[2]:
            raise UsageError(f"{uri} names no folder")
        fs = optional("pyarrow.fs", "ray")
        try:
            files, path = fs.FileSystem.from_uri(uri)
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"{uri} cannot be used: {first_line(error)}") from error
        except OSError as error:
            raise UrdError(f"{uri} cannot be reached: {first_line(error)}") from error
        return cls(files, path.rstrip("/") or path[:1], uri.partition("?")[0].rstrip("/"))

    def shown(self, path: str) -> str:
        """The URI of a path in this folder."""
        return self.uri + path[len(self.path.rstrip("/")) :]

    def below(self, name: str) -> str:
        """The path of a name in this folder."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def parts(self, path: str) -> tuple[str, ...]:
        """The names of folders and file of a path below this folder."""
        return tuple(path[len(self.path.rstrip("/")) :].strip("/").split("/"))

    def is_file(self) -> bool | None:
        """Whether it is a file; `None`: there is nothing.

        Raises:
            UrdError: the file system cannot be reached.
        """
        fs = optional("pyarrow.fs", "ray")
        with self.reaching("reached"):
            (own,) = self.files.get_file_info([self.path])
        return None if own.type == fs.FileType.NotFound else bool(own.type == fs.FileType.File)

    def listed(self) -> list[Any]:
        """All files below the folder, as `FileInfo` of pyarrow; none if there is no folder.

        Raises:
            UrdError: it cannot be listed.
        """
        fs = optional("pyarrow.fs", "ray")
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        with self.reaching("listed"):
            found = self.files.get_file_info(selector)
        return [info for info in found if info.type == fs.FileType.File]

    def start_of(self, path: str, length: int) -> bytes:
        """The first bytes of a file, all if there are fewer.

        Raises:
            OSError: it cannot be read.
        """
        with self.files.open_input_stream(path) as file:
            return bytes(file.read(length))

    @contextmanager
    def reaching(self, what: str) -> Iterator[None]:
        """Say of a failure which URI cannot be `what`.

        Raises:
            UrdError: instead of an OSError.
        """
        try:
            yield
        except OSError as error:
            raise UrdError(f"{self.uri} cannot be {what}: {first_line(error)}") from error


def split_glob(uri: str) -> tuple[str, tuple[str, ...]]:
    """The folder of a URI that has no `*` and no `[`, and the parts of the pattern below it."""
    main, mark, query = uri.partition("?")
    parts = main.split("/")
    inner = range(_FIRST_PART, len(parts))
    fixed = next((n for n in inner if glob.has_magic(parts[n])), len(parts))
    return "/".join(parts[:fixed]) + mark + query, tuple(parts[fixed:])
