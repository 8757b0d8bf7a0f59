"""The SHA-256 that an exported file carries: of the whole file, its own digits taken as zeros.

It is found in the bytes, so that nothing else reads a damaged file first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

CHECKSUM_KEY = "urd_sha256"
BLANK = "0" * 64
# As XML holds an entry, and as ONNX does: a text of 0x40 bytes in field 2, behind the key.
_PLACE = re.compile(CHECKSUM_KEY.encode() + rb'(?: value="|\x12\x40)([0-9a-f]{64})')


def sealed(files: Sequence[bytes]) -> bytes:
    """The first file, whose checksum is `BLANK`, with that of all of them.

    Raises:
        ValueError: it has no place for one.
    """
    place = _place(files[0])
    if place is None:
        raise ValueError("it has no checksum")
    return _with(files[0], place, _digest(files, place))


def fingerprint(files: Sequence[bytes]) -> tuple[str, bool]:
    """SHA-256 of the files, and whether the first one says the same; `False`: it says none.

    Raises:
        ValueError: it says another.
    """
    place = _place(files[0])
    if place is None:
        return hashlib.sha256(b"".join(files)).hexdigest(), False
    found = _digest(files, place)
    if found.encode() != files[0][place]:
        raise ValueError("its checksum differs from its content: it has been damaged or changed")
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
