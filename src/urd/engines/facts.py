"""The facts in an exported file besides its network: plain texts under plain keys.

`docs/export.md` lists the keys. The values hold no path of the machine that made the file.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from urd.engines.base import PRECISIONS
from urd.engines.checksum import BLANK, CHECKSUM_KEY
from urd.inspection.calibration import Calibration, Thresholds
from urd.model.header import ModelHeader

FORMAT = "3"  # format 1 had only the keys of `_OLD_KEYS`; format 2 had another calibrated score
_SEALED = ("2", FORMAT)
TORCH, THIS_FILE = "torch", "this file"
MOST_PIXELS = 100_000_000  # in an input image
_HEADER, _PRECISION, _REGION, _SIZE = "urd_model", "urd_precision", "urd_region", "urd_size"
_OLD_KEYS = {_HEADER, _PRECISION, _REGION, _SIZE}
_THRESHOLDS = (
    "urd_review_threshold",
    "urd_reject_threshold",
    "urd_peak_threshold",
    "urd_pixel_threshold",
)
_ANY = "any"
KEYS = (
    "urd_format",
    "urd_version",
    _PRECISION,
    _SIZE,
    "urd_map_size",
    "urd_normalisation",
    "urd_mean",
    "urd_std",
    "urd_thresholds_of",
    "urd_good_images",
    *_THRESHOLDS,
    "urd_steepness",
    _REGION,
    _HEADER,
    CHECKSUM_KEY,
)
# These are not compared as texts: another machine may round or compress in another way.
_COMPUTED = {"urd_steepness", _REGION, _HEADER, CHECKSUM_KEY}


@dataclass(frozen=True)
class Facts:
    """The facts of a file of `urd export`.

    Attributes:
        precision: one of `PRECISIONS`.
        size: (H, W) of its input images; `None`: any.
        thresholds_of: the engine whose scores gave the thresholds: `TORCH` or `THIS_FILE`.
        format: an older one, such as "1" for files without a checksum, cannot get a new
            calibration.
    """

    header: ModelHeader
    precision: str
    size: tuple[int, int] | None = None
    thresholds_of: str = TORCH
    format: str = FORMAT

    def recalibrated(self, header: ModelHeader) -> Facts:
        """A copy with the calibration of `header`; a new one is from this file's own scores."""
        header = header.without_paths()
        own = header.calibration != self.header.calibration
        return replace(self, header=header, thresholds_of=THIS_FILE if own else self.thresholds_of)

    def curve(self) -> tuple[float, float]:
        """Threshold and steepness of the calibrated score; without calibration, placeholders."""
        calibration = self.header.calibration
        if calibration is None:
            return 1.0, 1.0
        threshold = calibration.thresholds().review.threshold
        return threshold, calibration.steepness(threshold)

    def texts(self) -> dict[str, str]:
        """The entries of the file, with a blank checksum."""
        header = self.header
        roi = b"" if header.roi is None else np.packbits(header.roi).tobytes()
        return {
            "urd_format": self.format,
            "urd_version": header.versions.get("urd", ""),
            _PRECISION: self.precision,
            _SIZE: _ANY if self.size is None else _sides(self.size),
            "urd_map_size": _sides(header.config.image_size),
            "urd_normalisation": "inside of the file: (value / 255 - urd_mean) / urd_std",
            "urd_mean": " ".join(map(repr, header.mean)),
            "urd_std": " ".join(map(repr, header.std)),
            **self._of_calibration(header.calibration),
            _REGION: base64.b64encode(zlib.compress(roi)).decode(),
            _HEADER: header.to_json(),
            CHECKSUM_KEY: BLANK,
        }

    def _of_calibration(self, calibration: Calibration | None) -> dict[str, str]:
        if calibration is None:
            return {}
        return {
            "urd_thresholds_of": self.thresholds_of,
            "urd_good_images": str(len(calibration.scores)),
            **_plain(calibration.thresholds()),
            "urd_steepness": repr(self.curve()[1]),
        }

    @classmethod
    def of(cls, texts: Mapping[str, str], *, sealed: bool) -> Facts:
        """Read the entries of a file; `sealed`: it has a checksum, which is correct.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, RecursionError, zlib.error: the entries
                are not from `urd export`.
        """
        if not sealed and set(texts) - _OLD_KEYS:
            raise ValueError("it has no checksum: the file is damaged or was changed")
        if texts[_PRECISION] not in PRECISIONS:
            raise ValueError("its precision is unknown")
        header = ModelHeader.from_json(texts[_HEADER])
        header = replace(header, roi=_roi(texts[_REGION], header.config.image_size))
        size = _size(texts.get(_SIZE, _ANY))
        if not sealed:
            return cls(header, texts[_PRECISION], size, format="1")
        found = texts["urd_format"]
        if found not in _SEALED:
            raise ValueError("its format is unknown: it comes from a newer urd")
        facts = cls(header, texts[_PRECISION], size, texts.get("urd_thresholds_of", TORCH), found)
        if found == FORMAT:  # older ones have other keys
            facts._must_be(texts)
        return facts

    def _must_be(self, texts: Mapping[str, str]) -> None:
        """Check that the plain texts of the file agree with its header."""
        expected = self.texts()
        for key in sorted(set(KEYS) - _COMPUTED):
            if texts.get(key) != expected.get(key):
                raise ValueError(f"its {key} contradicts its header")


def _plain(thresholds: Thresholds) -> dict[str, str]:
    limits = (thresholds.review, thresholds.reject, thresholds.peak, thresholds.pixel)
    return {key: repr(limit.threshold) for key, limit in zip(_THRESHOLDS, limits, strict=True)}


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _size(text: str) -> tuple[int, int] | None:
    if text == _ANY:
        return None
    sides = re.fullmatch(r"([1-9]\d{0,7})x([1-9]\d{0,7})", text, re.ASCII)
    if sides is None or int(sides[1]) * int(sides[2]) > MOST_PIXELS:
        raise ValueError(f"the size of its images is {text[:40]!r}")
    return int(sides[1]), int(sides[2])


def _roi(text: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    count = size[0] * size[1]
    length = -(-count // 8)
    stream = zlib.decompressobj()
    packed = stream.decompress(base64.b64decode(text, validate=True), length + 1)
    whole = stream.eof and not stream.unused_data
    if whole and not packed:
        return None
    if not whole or len(packed) != length:
        raise ValueError("its region of interest has another size than its map")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).reshape(size).astype(bool)
