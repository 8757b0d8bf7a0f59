"""Images in parts. A part is judged by one worker, stored as a whole, and judged once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from urd.bulk.images import Image
from urd.results.prediction_files import overlay_names

_USUAL_IMAGES, _MOST_IMAGES = 128, 1024
_PARTS = 1000  # of a long list
_LEAST_PARTS = 8  # of a short one, so that several workers have something to do


@dataclass(frozen=True)
class Part:
    """Consecutive images, without those that are stored already.

    Attributes:
        name: the number of its first image in the whole list, and a digest of its names.
        overlays: where the picture of each image goes, relative to the results.
    """

    name: str
    images: tuple[Image, ...]
    overlays: tuple[str, ...]

    @classmethod
    def of(cls, first: int, images: Sequence[Image]) -> Part:
        names = "\n".join(image.shown for image in images)
        name = f"{first:09}-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
        within = (
            of.removeprefix("overlays/") for of in overlay_names([Path(i.path) for i in images])
        )
        return cls(name, tuple(images), tuple(f"overlays/{name}/{of}" for of in within))


def parts_of(images: Sequence[Image], stored: Collection[str], batch_size: int) -> list[Part]:
    """The parts of all images whose `shown` is not in `stored`.

    The images of a part, and so those of each batch, are the same in every call with the same list
    and batch size, whatever is stored of it: parts are stored as a whole.
    """
    size = images_per_part(len(images), batch_size)
    left = [(n, image) for n, image in enumerate(images) if image.shown not in stored]
    groups = [left[first : first + size] for first in range(0, len(left), size)]
    return [Part.of(group[0][0], [image for _, image in group]) for group in groups]


def images_per_part(images: int, batch_size: int) -> int:
    """How many images of a list make a part: a multiple of the batch size, so no batch is cut."""
    wanted = min(max(images // _PARTS, _USUAL_IMAGES), _MOST_IMAGES, images // _LEAST_PARTS)
    return max(1, round(wanted / batch_size)) * batch_size
