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
    yield from image_size_advice([image.size[::-1] for image in images])
    yield from _several(images, "sizes", lambda image: f"{image.size[0]}x{image.size[1]}", _SIZES)
    yield from _several(images, "modes", lambda image: image.mode, _MODES)
    yield from _several(images, "cameras", lambda image: image.camera, _CAMERAS)
    yield from _near_duplicates(images, pictures)


_SIZES = "all are scaled to one size, so leave out those of another camera or crop"
_MODES = "take all images in one way, in colour or in grey"
_CAMERAS = "train one detector for each, or on good images of all of them"


def image_size_advice(
    sizes: Sequence[tuple[int, int]], network: tuple[int, int] = (_USUAL_SIDE, _USUAL_SIDE)
) -> Iterator[str]:
    """The shape of the network's input, if the present one would squeeze the images much.

    Args:
        sizes: (height, width) of the images.
        network: (height, width) of its input.
    """
    if not sizes:
        return
    height, width = sorted(sizes, key=lambda size: size[1] / size[0])[len(sizes) // 2]
    if _squeeze((height, width), network) < _WIDE:
        return
    long = max(width, height) / min(width, height)
    if _squeeze((height, width), network[::-1]) < _WIDE:
        shape = network[::-1]
    else:
        short = min(network)
        side = min(_LONGEST_SIDE, _STEP * round(short * long / _STEP))
        shape = (short, side) if width > height else (side, short)
    if shape == network:  # a longer input is not possible
        return
    words = "as wide as high" if width > height else "as high as wide"
    times = shape[0] * shape[1] / (network[0] * network[1])
    longer = f" and takes {times:.2g} times as long" if times > 1 else ""
    yield (
        f"the images are {long:.2g} times {words}: train with --image-size {shape[0]}x{shape[1]} "
        f"(height x width), which squeezes them less than {network[0]}x{network[1]}{longer}"
    )


def _squeeze(image: tuple[int, int], network: tuple[int, int]) -> float:
    """How many times more one axis is scaled than the other."""
    ratio = image[1] * network[0] / (image[0] * network[1])
    return max(ratio, 1 / ratio)


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
