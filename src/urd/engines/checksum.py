"""The SHA-256 in an exported file: of the whole file, with its own digits taken as zeros.

A file cannot contain its own digest; with zeros in its place it can be computed and checked. It is
found in the raw bytes, so that no parser reads a damaged file first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

CHECKSUM_KEY = "urd_sha256"
BLANK = "0" * 64
# The entry in XML, and in ONNX: after the key, field 2 (0x12) with a text of 0x40 = 64 bytes.
_PLACE = re.compile(CHECKSUM_KEY.encode() + rb'(?: value="|\x12\x40)([0-9a-f]{64})')


def sealed(files: Sequence[bytes]) -> bytes:
    """The first file with the checksum of all files in the place of its `BLANK`.

    Raises:
        ValueError: the first file has no place for a checksum.
    """
    place = _place(files[0])
    if place is None:
        raise ValueError("it has no checksum")
    return _with(files[0], place, _digest(files, place))


def fingerprint(files: Sequence[bytes]) -> tuple[str, bool]:
    """SHA-256 of the files, and whether the first file holds it; `False`: it has no checksum.

    Raises:
        ValueError: the first file holds another checksum, or two.
    """
    place = _place(files[0])
    if place is None:
        return hashlib.sha256(b"".join(files)).hexdigest(), False
    found = _digest(files, place)
    if found.encode() != files[0][place]:
        raise ValueError("its checksum is wrong: the file is damaged or was changed")
    return found, True


def _place(content: bytes) -> slice | None:
    found = list(_PLACE.finditer(content))
    if len(found) > 1:
        raise ValueError("it has two checksums")
    return slice(*found[0].span(1)) if found else None


def _digest(files: Sequence[bytes], place: slice) -> str:
    digest = hashlib.sha256(_with(files[0], place, BLANK))
    for beside in files[1:]:
        digest.update(beside)
    return digest.hexdigest()


def _with(content: bytes, place: slice, digits: str) -> bytes:
    return content[: place.start] + digits.encode() + content[place.stop :]
