"""Which images a store keeps, and where: the file as it came, and its heat map."""

from __future__ import annotations

import io
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from urd.errors import UsageError
from urd.inspection.pictures import heat_layer
from urd.inspection.prediction import Failure, Prediction
from urd.system.files import write_atomically

Rule = Literal["all", "rejects+sample", "none"]
RULES: tuple[Rule, ...] = get_args(Rule)
_ONE_IN = 50  # of the OK images, with `rejects+sample`
_HEAT = ".heat.png"
_SUFFIXES = {  # by the format that Pillow finds; a name from outside is never used
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "BMP": ".bmp",
    "TIFF": ".tiff",
    "WEBP": ".webp",
    "GIF": ".gif",
    "PPM": ".ppm",
    "JPEG2000": ".jp2",
}


class KeptImages:
    """The images that a store keeps, in a folder per day beside it."""

    def __init__(self, folder: Path, rule: Rule) -> None:
        if rule not in RULES:
            raise UsageError(f"unknown rule '{rule}'; choose from {', '.join(RULES)}")
        self.folder = folder
        self.rule = rule

    def keep(
        self, image: bytes, content: str, result: Prediction | Failure, now: float
    ) -> str | None:
        """Write an image if the rule wants it, before its row is stored.

        If the row cannot be stored, the image stays without a row until `urd store prune` finds it.

        Args:
            content: SHA-256 of the image; it decides which OK images are in the sample. Empty: the
                file was not read, and nothing is kept.

        Returns:
            The path in the folder, for the row; `None`: not kept.

        Raises:
            NotWritten: the disk is full, or there is no permission.
        """
        if not content or not self._wanted(result, content):  # a file that was not read
            return None
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        name = f"{day}/{content[:16]}-{secrets.token_hex(4)}{_suffix(image)}"
        path = self.folder / name
        if isinstance(result, Prediction):
            heat = self._heat(result)
            write_atomically(heat_of(path), lambda new: new.write_bytes(heat), one_of_many=True)
        write_atomically(path, lambda new: new.write_bytes(image), one_of_many=True)
        return name

    def _wanted(self, result: Prediction | Failure, content: str) -> bool:
        if self.rule != "rejects+sample":
            return self.rule == "all"
        return result.verdict != "OK" or int(content[:8], 16) % _ONE_IN == 0

    @staticmethod
    def _heat(prediction: Prediction) -> bytes:
        out = io.BytesIO()
        heat = prediction.heat_range or (0.0, max(prediction.score, 1e-6))
        heat_layer(prediction.anomaly_map, heat).save(out, "PNG", compress_level=1)
        return out.getvalue()


def heat_of(image: Path) -> Path:
    """The heat map of a kept image: RGBA, at the network's size."""
    return image.with_name(image.name + _HEAT)


def image_of(path: Path) -> Path:
    """The kept image to which a file belongs: itself, or the image of a heat map."""
    return path.with_name(path.name.removesuffix(_HEAT))


def remove_kept(folder: Path, name: str) -> int:
    """Delete a kept image and its heat map; returns the bytes that this gives back."""
    freed = 0
    for path in (folder / name, heat_of(folder / name)):
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    with suppress(OSError):
        (folder / name).parent.rmdir()  # fails while other images of that day are there
    return freed


def _suffix(image: bytes) -> str:
    try:
        with Image.open(io.BytesIO(image)) as opened:
            return _SUFFIXES.get(str(opened.format), ".bin")
    except Exception:  # Pillow raises many types on damaged files
        return ".bin"
