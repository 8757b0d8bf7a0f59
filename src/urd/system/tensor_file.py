"""Files of tensors: safetensors with one JSON header and a SHA-256 over every byte.

The header is a text in the file's `__metadata__`. Its first field, `file_sha256`, is the checksum
of the whole file. A file cannot contain its own digest, so the digest is taken as if its 64 digits
were zeros. A change of any byte is found: in a value, a name, a shape, the header or the spaces
between them. Older files have no checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from urd.errors import first_line, quoted
from urd.system.documents import MIB, parse_json
from urd.system.files import refuse_special, write_atomically
from urd.system.schema import CHECKSUM, TensorEntry, check

_UNSIGNED = "0" * 64
# The header is a JSON text inside other JSON (`__metadata__`), so its quotes are escaped.
_PLACE = re.compile(rb'"\{\\"' + CHECKSUM.encode() + rb'\\": \\"([0-9a-f]{64})\\"')
_MOST_HEADER_BYTES = 16 * MIB
_BLOCK = MIB
_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.bool: "BOOL",
}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], texts: dict[str, str]) -> None:
    """Write tensors and texts as one safetensors file; on an error the old file stays.

    Raises:
        NotWritten: the disk is full, or there is no permission.
    """
    write_atomically(path, lambda temporary: _write(temporary, tensors, texts))


def save_signed(
    path: Path, tensors: Mapping[str, Tensor], name: str, content: Mapping[str, Any]
) -> None:
    """As `save_tensors`, with `content` as the header and a checksum over the whole file.

    Args:
        name: of the header, a key of the file's `__metadata__`.
    """
    header = json.dumps({CHECKSUM: _UNSIGNED, **content}, allow_nan=False)

    def write(temporary: Path) -> None:
        _write(temporary, tensors, {name: header})
        sign(temporary)

    write_atomically(path, write)


def _write(path: Path, tensors: Mapping[str, Tensor], texts: dict[str, str]) -> None:
    try:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, path, texts)
    except SafetensorError as error:  # the library has its own type for a full disk
        raise OSError(str(error)) from error


def sign(path: Path) -> None:
    """Compute the checksum of a file's present bytes and write it over the old one.

    Raises:
        ValueError: the file has no checksum to replace.
    """
    with path.open("r+b") as file:
        place = _place(_raw_header(file))
        if place is None:
            raise ValueError("it has no checksum to replace")
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


@dataclass(frozen=True)
class TensorFile:
    """A file whose header is read and whose checksum, if it has one, is correct.

    Attributes:
        content: its JSON header without the checksum; empty if the file has no header.
        layout: type, as safetensors names it, and shape of each tensor.
        signed: the file has a checksum.
    """

    path: Path
    content: dict[str, Any]
    layout: dict[str, tuple[str, list[int]]]
    signed: bool

    def refuse_others_than(self, wanted: Mapping[str, Tensor]) -> None:
        """Compare names, types and shapes with `wanted`, which may be on the meta device.

        Raises:
            ValueError: a tensor is missing or unknown, or has another type or shape.
        """
        for name in self.layout:
            if name not in wanted:
                raise ValueError(f"the tensor {quoted(name)} does not belong there")
        for name, tensor in wanted.items():
            if name not in self.layout:
                raise ValueError(f"the tensor {quoted(name)} is missing")
            found, needed = self.layout[name], (_DTYPES[tensor.dtype], list(tensor.shape))
            if found != needed:
                raise ValueError(
                    f"the tensor {quoted(name)} is {_kind(found)}, not {_kind(needed)}"
                )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, on the CPU.

        Raises:
            ValueError: a tensor holds NaN or Inf, or the file cannot be read.
        """
        found = _by_library(
            self.path, lambda file: {name: file.get_tensor(name) for name in self.layout}
        )
        for name, tensor in found.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"the tensor {quoted(name)} holds NaN or Inf")
        return found


def open_tensors(path: Path, name: str) -> TensorFile:
    """Read the header of a file that `save_signed` wrote, and check its checksum.

    Allocates no memory for tensors.

    Raises:
        ValueError: the file cannot be used; the reason is one line.
    """
    refuse_special(path)
    try:
        with path.open("rb") as file:
            raw = _raw_header(file)
            place = _place(raw)
            if place is not None and _digest(file, place) != raw[place - 8 : place + 56]:
                raise ValueError("its checksum is wrong: the file is damaged or was changed")
    except OSError as error:
        raise ValueError(error.strerror or first_line(error)) from error
    _by_library(path, lambda file: None)  # it checks that all offsets are inside the file
    entries = parse_json(raw.decode("utf-8"))
    texts = entries.pop("__metadata__", {})
    check(dict[str, TensorEntry], entries)
    check(dict[str, str], texts)
    if set(texts) - {name}:
        raise ValueError(f"its text {quoted(min(set(texts) - {name}))} does not belong there")
    content = parse_json(texts[name]) if name in texts else {}
    check(dict[str, Any], content)
    if (CHECKSUM in content) != (place is not None):
        raise ValueError("its checksum is not in its place")
    content.pop(CHECKSUM, None)
    layout = {key: (entry["dtype"], entry["shape"]) for key, entry in entries.items()}
    return TensorFile(path, content, layout, signed=place is not None)


def _raw_header(file: BinaryIO) -> bytes:
    """The JSON text after the first 8 bytes, which hold its length; the tensors follow it."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError("it is cut off, or it is not a safetensors file")
    if length > _MOST_HEADER_BYTES:
        raise ValueError(f"its header is larger than {_MOST_HEADER_BYTES // MIB} MiB")
    return file.read(length)


def _place(raw_header: bytes) -> int | None:
    """The offset in the file at which the 64 digits of its checksum begin."""
    found = list(_PLACE.finditer(raw_header))
    if len(found) > 1:
        raise ValueError("it has more than one checksum")
    return 8 + found[0].start(1) if found else None


def _digest(file: BinaryIO, place: int) -> bytes:
    """SHA-256 of the file with 64 zeros at `place`, as hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    digest.update(file.read(place))
    digest.update(_UNSIGNED.encode())
    file.seek(place + len(_UNSIGNED))
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest().encode()


def _by_library(path: Path, use: Callable[[Any], Any]) -> Any:
    try:
        with safe_open(path, framework="pt") as file:
            return use(file)
    except (SafetensorError, OSError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(first_line(error)) from error


def _kind(layout: tuple[str, list[int]]) -> str:
    return f"{quoted(layout[0])[1:-1]} {quoted(layout[1])}"
