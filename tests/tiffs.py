"""TIFF files made by hand, so that what they must show does not hang on another writer."""

from __future__ import annotations

import struct

import numpy as np


def tiff(
    values: np.ndarray,
    *,
    photometric: int | None = None,
    orientation: int = 1,
    planar: bool = False,
    extra: int | None = None,
    order: str = "<",
) -> bytes:
    """One uncompressed strip of (H, W) or (H, W, C) bool or unsigned values.

    Args:
        photometric: 0: zero is white; 1: zero is black; 2: RGB. extra: what the fourth sample is.
        planar: each channel lies by itself. order: of the bytes.
    """
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    bits = 1 if values.dtype == bool else 8 * values.dtype.itemsize
    if bits == 1:
        data = np.packbits(values, axis=1).tobytes()
    else:
        laid = np.moveaxis(values, 2, 0) if planar else values
        data = laid.astype(values.dtype.newbyteorder(order)).tobytes()
    if photometric is None:
        photometric = 1 if samples == 1 else 2
    strips = samples if planar else 1
    count = 11 + (extra is not None)
    at_bits = 8 + 2 + 12 * count + 4
    at_offsets = at_bits + 2 * samples
    at_lengths = at_offsets + 4 * strips
    at_data = at_lengths + 4 * strips
    part = len(data) // strips
    offsets = [at_data + part * strip for strip in range(strips)]
    entries = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * samples),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", offsets),
        (274, "H", [orientation]),
        (277, "H", [samples]),
        (278, "I", [height]),
        (279, "I", [part] * strips),
        (284, "H", [2 if planar else 1]),
    ] + ([(338, "H", [extra])] if extra is not None else [])
    places = {258: at_bits, 273: at_offsets, 279: at_lengths}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
    for tag, kind, numbers in entries:
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        field = (
            packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", places[tag])
        )
        head += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(numbers)) + field
    head += bytes(4)
    tail = struct.pack(f"{order}{samples}H", *[bits] * samples)
    tail += struct.pack(f"{order}{strips}I", *offsets)
    tail += struct.pack(f"{order}{strips}I", *[part] * strips)
    return head + tail + data
