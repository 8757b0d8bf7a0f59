"""Fill a memory bank with features of the good training images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from urd.inspection.scoring import blurred_sum
from urd.networks.folding import InferenceNetworks
from urd.networks.memory_bank import MemoryBank, features_of_places
from urd.system.progress import track
from urd.system.seeding import generator
from urd.training.training_data import TrainingImages

CANDIDATES = 200_000  # places from which the bank is chosen; about 300 MB
_BATCH = 8
_PROJECTED = 64  # dimensions in which places are compared for the choice


@dataclass(frozen=True)
class Remembered:
    """A filled bank, and for each of its features the number of the image that it is from, (M,)."""

    bank: MemoryBank
    image: Tensor


@torch.no_grad()
def remember(
    teacher: InferenceNetworks, data: TrainingImages, places: int, seed: int
) -> Remembered:
    """A bank of `places` features that cover those of all good images as evenly as possible.

    Args:
        teacher: computes the levels of images.
        places: the most features to keep.
    """
    of_images = _candidates(teacher, data, generator(seed, "candidates"))
    candidates = torch.cat(of_images)
    counts = torch.tensor([len(places) for places in of_images])
    image = torch.arange(len(of_images)).repeat_interleave(counts)
    chosen = coreset(candidates, places, generator(seed, "coreset"))
    return Remembered(MemoryBank.of(candidates[chosen]), image[chosen])


@torch.no_grad()
def distances_to_the_rest(
    teacher: InferenceNetworks, data: TrainingImages, remembered: Remembered
) -> list[float]:
    """For each image the peak of its map, compared with the features of all other images."""
    found = []
    for index, image in enumerate(track(data.images, "Comparing good images", len(data.images))):
        others = remembered.bank.features[remembered.image != index] + remembered.bank.mean
        if not len(others):
            return []
        levels = teacher(image[None].float() / 255)
        roi = None if data.roi is None else data.roi[index : index + 1]
        maps = blurred_sum([MemoryBank.of(others)(levels)], (image.shape[1], image.shape[2]), roi)
        found.append(float(maps.max()))
    return found


def _candidates(
    teacher: InferenceNetworks, data: TrainingImages, random: torch.Generator
) -> list[Tensor]:
    """For each image features of places (m, D): all, or as many random ones as the limit allows."""
    found = []
    share = -(-CANDIDATES // len(data.images))
    batches = range(0, len(data.images), _BATCH)
    for start in track(batches, "Remembering", len(batches)):
        part = slice(start, start + _BATCH)
        features = features_of_places(teacher(data.images[part].float() / 255))
        inside = None
        if data.roi is not None:
            size = features.shape[1:3]
            inside = functional.adaptive_max_pool2d(data.roi[part].float(), size).flatten(1) > 0
        for index, of_image in enumerate(features.flatten(1, 2)):
            of_image = of_image if inside is None else of_image[inside[index]]
            order = torch.randperm(len(of_image), generator=random)[:share]
            found.append(of_image[order.to(of_image.device)])
    return found


def coreset(features: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Numbers of `count` of the features (M, D): each next one is the farthest from all before.

    Distances are those of a random projection, which keeps them up to a few percent (Johnson and
    Lindenstrauss), as in PatchCore (Roth et al., CVPR 2022).
    """
    if count >= len(features):
        return torch.arange(len(features))
    projection = torch.randn(features.shape[1], _PROJECTED, generator=random)
    points = (features - features.mean(dim=0)) @ projection.to(features)
    squares = points.square().sum(dim=1)
    first = int(torch.randint(len(points), (1,), generator=random))
    chosen = torch.empty(count, dtype=torch.long)
    distance = torch.full_like(squares, float("inf"))
    for index in track(range(count), "Choosing what to remember", count):
        newest = first if index == 0 else int(distance.argmax())
        chosen[index] = newest
        to_newest = torch.addmv(squares, points, points[newest], alpha=-2) + squares[newest]
        torch.minimum(distance, to_newest, out=distance)
    return chosen
