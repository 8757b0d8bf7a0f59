"""Files of tensors: safetensors with one JSON header, and a SHA-256 over every byte.

The header is a text of the file's `__metadata__`. It begins with `file_sha256`, the digest of the
whole file in which the 64 digits of that digest are zeros. So a change of any byte shows: of a
value, a name, a shape, the header or the blanks between. Older files have no digest.
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
    """Write tensors and texts as one safetensors file, or leave the old one as it was."""
    write_atomically(path, lambda temporary: _write(temporary, tensors, texts))


def save_signed(
    path: Path, tensors: Mapping[str, Tensor], name: str, content: Mapping[str, Any]
) -> None:
    """Likewise, with `content` as the header and a checksum over the whole file."""
    header = json.dumps({CHECKSUM: _UNSIGNED, **content}, allow_nan=False)

    def write(temporary: Path) -> None:
        _write(temporary, tensors, {name: header})
        sign(temporary)

    write_atomically(path, write)


def _write(path: Path, tensors: Mapping[str, Tensor], texts: dict[str, str]) -> None:
    try:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, path, texts)
    except SafetensorError as error:  # the library reports a full disk by its own type
        raise OSError(str(error)) from error


def sign(path: Path) -> None:
    """Put the checksum of a file's bytes, as they are now, where its old one stands.

    Raises:
        ValueError: there is no place for it.
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
    """A file whose header was read and whose checksum, where it has one, is right.

    Attributes:
        content: of its JSON header, without the checksum; empty where it has none.
        layout: type, as safetensors names it, and shape of each tensor.
        signed: it has a checksum.
    """

    path: Path
    content: dict[str, Any]
    layout: dict[str, tuple[str, list[int]]]
    signed: bool

    def refuse_others_than(self, wanted: Mapping[str, Tensor]) -> None:
        """Compare names, types and shapes with tensors that may lie on the meta device.

        Raises:
            ValueError: a tensor is missing, of another type or shape, or one too many.
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
        """All of them, on the CPU.

        Raises:
            ValueError: one holds NaN or Inf, or the file cannot be read.
        """
        found = _by_library(
            self.path, lambda file: {name: file.get_tensor(name) for name in self.layout}
        )
        for name, tensor in found.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"the tensor {quoted(name)} holds NaN or Inf")
        return found


def open_tensors(path: Path, name: str) -> TensorFile:
    """Read the header of a file that `save_signed` wrote, and compare its checksum.

    Raises:
        ValueError: with the reason in one line; nothing is allocated for its tensors.
    """
    refuse_special(path)
    try:
        with path.open("rb") as file:
            raw = _raw_header(file)
            place = _place(raw)
            if place is not None and _digest(file, place) != raw[place - 8 : place + 56]:
                raise ValueError("its checksum does not fit: it was damaged or changed")
    except OSError as error:
        raise ValueError(error.strerror or first_line(error)) from error
    _by_library(path, lambda file: None)  # that all offsets lie in the file
    entries = parse_json(raw.decode("utf-8"))
    texts = entries.pop("__metadata__", {})
    check(dict[str, TensorEntry], entries)
    check(dict[str, str], texts)
    if set(texts) - {name}:
        raise ValueError(f"its text {quoted(min(set(texts) - {name}))} does not belong there")
    content = parse_json(texts[name]) if name in texts else {}
    check(dict[str, Any], content)
    if (CHECKSUM in content) != (place is not None):
        raise ValueError("its checksum is not where it belongs")
    content.pop(CHECKSUM, None)
    layout = {key: (entry["dtype"], entry["shape"]) for key, entry in entries.items()}
    return TensorFile(path, content, layout, signed=place is not None)


def _raw_header(file: BinaryIO) -> bytes:
    """The JSON text between the length at the beginning of the file, 8 bytes, and the tensors."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError("it is cut off, or no safetensors file")
    if length > _MOST_HEADER_BYTES:
        raise ValueError(f"its header is larger than {_MOST_HEADER_BYTES // MIB} MiB")
    return file.read(length)


def _place(raw_header: bytes) -> int | None:
    """Where in the file the 64 digits of its checksum begin."""
    found = list(_PLACE.finditer(raw_header))
    if len(found) > 1:
        raise ValueError("it has more than one checksum")
    return 8 + found[0].start(1) if found else None


def _digest(file: BinaryIO, place: int) -> bytes:
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
