"""What `urd check` suggests: nothing is wrong, but results would be better or more honest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from urd.data.lookalikes import Small, lookalikes

_USUAL_SIDE = 256  # pixels of the network's input, unless the user says otherwise
_STEP, _LONGEST_SIDE = 32, 2048
_WIDE = 1.4  # 4:3 is not wide
_SHOWN = 4  # values of a property


@dataclass(frozen=True, slots=True)
class Seen:
    """An image as `urd check` has seen it.

    Attributes:
        part: train, validation or test.
        size: (width, height) in pixels. mode: of the file. camera: as EXIF says; may be unknown.
        digest: of its pixels.
    """

    path: Path
    part: str
    size: tuple[int, int]
    mode: str
    camera: str | None
    digest: str


def suggestions(images: Sequence[Seen], pictures: Small) -> Iterator[str]:
    """One line for each suggestion; it says what to do.

    Args:
        pictures: (N, D), the `small_picture` of each image.
    """
    yield from _image_size(images)
    yield from _several(images, "sizes", lambda image: f"{image.size[0]}x{image.size[1]}", _SIZES)
    yield from _several(images, "modes", lambda image: image.mode, _MODES)
    yield from _several(images, "cameras", lambda image: image.camera, _CAMERAS)
    yield from _near_duplicates(images, pictures)


_SIZES = "all are scaled to one size, so leave out those of another camera or crop"
_MODES = "take all images in one way, in colour or in grey"
_CAMERAS = "train one detector for each, or on good images of all of them"


def _image_size(images: Sequence[Seen]) -> Iterator[str]:
    """The shape of the network's input, if a square would squeeze the images much."""
    if not images:
        return
    width, height = sorted((i.size for i in images), key=lambda s: s[0] / s[1])[len(images) // 2]
    long = max(width, height) / min(width, height)
    if long < _WIDE:
        return
    side = min(_LONGEST_SIDE, _STEP * round(_USUAL_SIDE * long / _STEP))
    shape, words = (
        (f"{_USUAL_SIDE}x{side}", "as wide as high")
        if width > height
        else (f"{side}x{_USUAL_SIDE}", "as high as wide")
    )
    yield (
        f"the images are {long:.2g} times {words}: train with --image-size {shape} (height x "
        f"width), which squeezes them less than {_USUAL_SIDE}x{_USUAL_SIDE} and takes "
        f"{side / _USUAL_SIDE:.2g} times as long"
    )


def _several(
    images: Sequence[Seen], what: str, value_of: Callable[[Seen], str | None], advice: str
) -> Iterator[str]:
    """Images that differ in something that is usually the same for all."""
    groups: dict[str, list[Seen]] = {}
    for image in images:
        if (value := value_of(image)) is not None:
            groups.setdefault(value, []).append(image)
    if len(groups) < 2:
        return
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    shown = [f"{value} {len(group)}" for value, group in ordered[:_SHOWN]]
    shown += [f"and {len(groups) - _SHOWN} more"] if len(groups) > _SHOWN else []
    rare = ordered[-1][1][0].path
    yield f"{len(groups)} {what} ({', '.join(shown)}; see {rare}): {advice}{_not_in_train(ordered)}"


def _not_in_train(groups: Sequence[tuple[str, list[Seen]]]) -> str:
    """Names the values that only test images have."""
    new = [value for value, group in groups if all(image.part == "test" for image in group)]
    if not new or len(new) == len(groups):
        return ""
    more = f" and {len(new) - _SHOWN} more" if len(new) > _SHOWN else ""
    return f"; no training image has {', '.join(new[:_SHOWN])}{more}"


def _near_duplicates(images: Sequence[Seen], pictures: Small) -> Iterator[str]:
    """Test images that show almost what a training image shows; copies are a problem, not here."""
    train = [n for n, image in enumerate(images) if image.part != "test"]
    test = [n for n, image in enumerate(images) if image.part == "test"]
    copies = {images[n].digest for n in train}
    test = [n for n in test if images[n].digest not in copies]
    pairs = lookalikes(pictures[test], pictures[train])
    if pairs:
        nearest = min(pairs, key=lambda pair: pair.distance)
        one, other = images[test[nearest.one]].path, images[train[nearest.other]].path
        yield (
            f"{len(pairs)} test images look almost like a training image, such as {one} and "
            f"{other}: if they show the same part, move one, or results look better than they are"
        )
