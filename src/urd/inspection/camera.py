"""Watch the camera itself: images that say more about it than about the part."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

CAMERA_SIDE = 256  # pixels of a picture that are enough here
_FLAT = 2.0  # standard deviation of grey values, 0 to 255; a real scene has more
_PARTS = 16  # brightness is judged over so many parts together
_MARGIN = 6.0  # grey values
_ASPECT = 0.02
_SMALL = 128  # pixels; larger pictures are reduced first, which is faster


class CameraFacts(Protocol):
    """What the model file knows of the training images (`urd.model.schema.DataFacts`)."""

    @property
    def brightness(self) -> Sequence[float] | None: ...

    @property
    def grey(self) -> bool | None: ...

    @property
    def image_sizes(self) -> Sequence[Sequence[int]] | None: ...


@dataclass
class CameraWatch:
    """What the images of one model have been like lately.

    Each message is in words for people. A message about one image is independent of the others; a
    shift of brightness is said only when the last parts have moved together, because one dark part
    is the detector's business.

    Attributes:
        facts: of the training images.
        last: SHA-256 of the image before; the same twice means a camera that stands still.
    """

    facts: CameraFacts
    last: str | None = None
    _brightness: deque[float] = field(default_factory=lambda: deque(maxlen=_PARTS))

    def look(self, picture: Image.Image, size: tuple[int, int], content: str) -> tuple[str, ...]:
        """What is odd about an image.

        Args:
            picture: RGB, reduced or not. size: (height, width) of the original.
            content: identifies the file or its pixels.
        """
        rgb = picture.convert("RGB")
        values = np.asarray(rgb.reduce(max(1, max(rgb.size) // _SMALL)), np.float32)
        found = [
            self._repeated(content),
            _flat(values),
            self._another_size(size),
            self._coloured(values),
            self._shifted(float(values.mean())),
        ]
        return tuple(text for text in found if text)

    def _repeated(self, content: str) -> str | None:
        same, self.last = content == self.last, content
        return "the same image as before: the camera may stand still" if same else None

    def _another_size(self, size: tuple[int, int]) -> str | None:
        known = self.facts.image_sizes
        if known is None or size in {tuple(pair) for pair in known}:
            return None
        height, width = size
        usual = known[0]
        what = "size"
        if all(abs(width * h / (height * w) - 1) > _ASPECT for h, w in known):
            what = "shape"
        return f"{width}x{height} px: another {what} than in training ({usual[1]}x{usual[0]})"

    def _coloured(self, values: np.ndarray) -> str | None:
        grey = bool((values == values[..., :1]).all())
        if self.facts.grey in (None, grey):
            return None
        return (
            "grey: the training images are in colour"
            if grey
            else ("in colour: the training images are grey")
        )

    def _shifted(self, mean: float) -> str | None:
        """Say when the last parts are all lighter, or all darker, than all training images."""
        self._brightness.append(mean)
        if self.facts.brightness is None or len(self._brightness) < _PARTS // 2:
            return None
        low, usual, high = self.facts.brightness
        margin = max(_MARGIN, 0.5 * (high - low))
        lately = float(np.median(self._brightness))
        lowest, highest = min(self._brightness), max(self._brightness)
        if lately > usual + margin and lowest > usual:
            direction = "lighter"
        elif lately < usual - margin and highest < usual:
            direction = "darker"
        else:
            return None
        return (
            f"the last {len(self._brightness)} images are all {direction} than in training (mean "
            f"{lately:.0f}, was {usual:.0f}): check the light and the exposure"
        )


def _flat(values: np.ndarray) -> str | None:
    if float(values.std()) >= _FLAT:
        return None
    return "almost one colour: the light or the lens may be blocked"
