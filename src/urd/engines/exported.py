"""Open a file of `urd export`, check it, run it, and save it with a new calibration."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from urd.engines.base import Maps
from urd.engines.checksum import fingerprint, sealed
from urd.engines.facts import FORMAT, Facts
from urd.errors import UrdError, UsageError, first_line
from urd.model.header import ModelHeader
from urd.system.files import refuse_special, write_atomically
from urd.system.progress import note

_MOST_BYTES = 2**31  # the limit of ONNX files; our networks are smaller
_FOREIGN = (KeyError, TypeError, ValueError, AttributeError, RecursionError, zlib.error, UrdError)
_COLOURS = 3


@dataclass(frozen=True)
class Port:
    """An input or output of a network: numpy's name of its type, and its shape; -1: any length."""

    dtype: str
    shape: tuple[int, ...]


class ExportedEngine(ABC):
    """A file of `urd export` in its runtime on the CPU; several threads may call it.

    A pickle holds only the path and the digest. Unpickling opens the file again, and fails if it
    has changed.

    Args:
        path: FILE.onnx, or FILE.xml with FILE.bin beside it.
        expected: the digest that the file must have; `None`: any.

    Raises:
        UsageError: the extra that opens the file is not installed.
        UrdError: the file is not a whole file of `urd export`, or not the expected one.
    """

    device: ClassVar[str] = "cpu"
    format: ClassVar[str]  # as `urd export --format` names it
    suffix: ClassVar[str]  # of the first file
    runtime: ClassVar[str]  # as messages name it

    def __init__(self, path: Path, expected: str | None = None) -> None:
        self.path = path.absolute()
        self._import()
        contents = self._contents()
        try:
            self.digest, is_sealed = fingerprint(contents)
            if expected not in (None, self.digest):
                raise ValueError("it was replaced after this detector was pickled")
            texts = self._opened(contents)
            self.facts = Facts.of(texts, sealed=is_sealed)
            self._check_ports()
            self._compile()
        except _FOREIGN as error:
            raise UrdError(f"{path} is not a file of urd export: {first_line(error)}") from error
        if not is_sealed:
            note(f"{path} comes from an older urd and has no checksum: export it again")
        self.header: ModelHeader = self.facts.header
        self.precision = self.facts.precision
        self.input_size = self.facts.size or self.header.config.image_size

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.digest)

    def weights_sha256(self) -> None:
        """`None`: the runtime does not show its weights."""
        return

    def __call__(
        self, pixels: NDArray[np.uint8], rois: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]:
        try:
            maps, scores = self._run(pixels)
        except Exception as error:  # each runtime has its own types
            raise UrdError(f"{self.path} failed in {self.runtime}: {first_line(error)}") from error
        wanted = (len(pixels), *self.header.config.image_size)
        for name, found, shape in (("map", maps, wanted), ("score", scores, wanted[:1])):
            if found.dtype != np.float32 or found.shape != shape:
                raise UrdError(
                    f"{self.path} gives a {name} of {found.dtype} {found.shape}, not of float32 "
                    f"{shape}: it is not a file of urd export"
                )
        return maps, scores

    def save(self, out: Path, header: ModelHeader) -> None:
        """Write the file with the thresholds of `header`; the weights do not change.

        Raises:
            UsageError: `out` has another suffix, or this file comes from an older urd.
            UrdError: this file has changed since it was opened, or `out` cannot be written.
        """
        if out.suffix.lower() != self.suffix:
            raise UsageError(
                f"{self.path} is a file for {self.runtime}, so {out} must end in {self.suffix}; "
                "to write a model file, use the run from which it was exported"
            )
        if self.facts.format != FORMAT:
            raise UsageError(
                f"{self.path} comes from an older urd: export it again, then calibrate it"
            )
        contents = self._contents()
        if fingerprint(contents)[0] != self.digest:
            raise UrdError(f"{self.path} has changed since it was opened; nothing was written")
        facts = self.facts.recalibrated(header)
        first = with_facts(type(self), contents, facts)
        for part, content in zip(self.parts(out)[1:], contents[1:], strict=True):
            if not (part.is_file() and part.samefile(self.path.with_suffix(part.suffix))):
                _write(part, content)
        _write(out, first)
        self.facts, self.header, self.path = facts, facts.header, out.absolute()
        self.digest, _ = fingerprint([first, *contents[1:]])

    def _contents(self) -> list[bytes]:
        for part in self.parts(self.path):
            if not part.is_file():  # reading a pipe could wait for ever
                raise UrdError(f"{self.path} cannot be opened: no file at {part}")
        return [_read(part) for part in self.parts(self.path)]

    def _check_ports(self) -> None:
        """Check that inputs and outputs are those of `urd export`.

        Raises:
            ValueError: one is missing, or has another type or shape.
        """
        inputs, outputs = self._ports()
        height, width = self.facts.size or (-1, -1)
        images = Port("uint8", (-1, height, width, _COLOURS))
        if inputs != {"images": images}:
            raise ValueError("its input does not match its header")
        for name, sides in (("map", 3), ("score", 1)):
            port = outputs.get(name)
            if port is None or port.dtype != "float32" or len(port.shape) != sides:
                raise ValueError(f"its output '{name}' is missing or has a wrong type or shape")

    @classmethod
    def parts(cls, path: Path) -> list[Path]:
        """The files of one export; the first holds the facts."""
        return [path]

    @staticmethod
    @abstractmethod
    def rewritten(content: bytes, facts: Facts) -> bytes:
        """The first file with these facts, and with the values of their curve in the network."""

    @abstractmethod
    def _import(self) -> None: ...

    @abstractmethod
    def _opened(self, contents: Sequence[bytes]) -> dict[str, str]:
        """Open the file and return its texts by key.

        Raises:
            UrdError: the runtime cannot open it.
        """

    def _compile(self) -> None:  # noqa: B027 - ONNX Runtime has done it
        """Make the opened network ready to run; the facts are known now."""

    @abstractmethod
    def _ports(self) -> tuple[dict[str, Port], dict[str, Port]]:
        """Inputs and outputs by name."""

    @abstractmethod
    def _run(self, pixels: NDArray[np.uint8]) -> tuple[Maps, Maps]:
        """Maps and scores, unchecked; errors of the runtime pass through."""


def with_facts(kind: type[ExportedEngine], contents: Sequence[bytes], facts: Facts) -> bytes:
    """The first file of an export with these facts and a checksum over all files."""
    return sealed([kind.rewritten(contents[0], facts), *contents[1:]])


def _read(path: Path) -> bytes:
    refuse_special(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UrdError(f"{path} is larger than 2 GiB: it is not a file of urd export")
        return path.read_bytes()
    except OSError as error:
        raise UrdError(f"{path} cannot be read: {error.strerror or error}") from error


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
