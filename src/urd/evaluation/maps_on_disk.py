"""Keeps anomaly maps on the disk during an evaluation, so that memory use does not grow."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

import numpy as np

from urd.errors import NotWritten, first_line


@contextmanager
def maps_on_disk() -> Iterator[MapsOnDisk]:
    """A store for maps until the body ends. Then its file is gone, even if the process is killed.

    The file is in the system's temporary folder; the environment variable TMPDIR changes it.

    Raises:
        NotWritten: the temporary folder cannot be used.
    """
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise NotWritten(
            f"cannot make a temporary file: {_reason(error)}; set the variable TMPDIR to a folder"
        ) from error
    with file:
        yield MapsOnDisk(file)


class MapsOnDisk:
    """Arrays one after the other in an open, unbuffered file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._lock = threading.Lock()  # all threads share the position in the file

    def keep(self, array: np.ndarray) -> Callable[[], np.ndarray]:
        """Write an array. The returned function reads it again, from any thread.

        Raises:
            NotWritten: the disk is full.
        """
        load = partial(self._load, self._end, array.shape, array.dtype)
        rest = memoryview(array.tobytes())
        try:
            with self._lock:
                self._file.seek(self._end)
                while rest:  # an unbuffered write may take only a part
                    rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise NotWritten(
                f"cannot keep the anomaly maps in {tempfile.gettempdir()}: {_reason(error)}; set "
                "the variable TMPDIR to a folder with more space"
            ) from error
        self._end += array.nbytes
        return load

    def _load(self, begin: int, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
        with self._lock:
            self._file.seek(begin)
            content = self._file.read(int(np.prod(shape)) * kind.itemsize)
        return np.frombuffer(content, kind).reshape(shape)


def _reason(error: OSError) -> str:
    return error.strerror or first_line(error)
