"""Choose how images are scored, without a label: by held-out good images and drawn defects."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from urd.config import FitConfig
from urd.inspection.score import Name, Score
from urd.inspection.scoring import DISTANCES, blurred_sum, level_distances
from urd.networks.folding import InferenceNetworks
from urd.networks.memory_bank import MemoryBank
from urd.synthesis.drawn_defects import draw_defect
from urd.system.progress import track
from urd.system.seeding import derived_seed
from urd.training.training_data import TrainingData, TrainingImages

AUTO = "auto"
_BATCH = 8
_MOST = 64  # good images to look at
_DRAWN = 128  # at least so many defects are drawn on them
_RESAMPLES, _SURE = 1000, 0.95
# The usual name and share of the memory come first. They were chosen on data sets screw and pill,
# `weighted` rather than `squared` because it loses little anywhere (docs/research/accuracy.md).
_WITH_MEMORY: tuple[Name, ...] = ("weighted", "paper", "squared")
_ALONE: tuple[Name, ...] = ("paper", "weighted", "squared")
_SHARES = (2 / 3, 1 / 3, 0.0, 1.0)


def choose_score(
    networks: InferenceNetworks, bank: MemoryBank | None, data: TrainingData, config: FitConfig
) -> Score:
    """The score that the settings name; for `auto`, the one that sees drawn defects best.

    `auto` leaves the usual score only for one that separates good images from drawn defects better
    in 95 of 100 resamples of the images. Without held-out images the usual one stays.
    """
    if networks.networks.student is None:
        return Score(name="memory", levels=(0.0, 0.0, 0.0), memory=1.0)
    choices = _ALONE if bank is None else _WITH_MEMORY
    names = choices if config.score == AUTO else (cast(Name, config.score),)
    shares = (0.0,) if bank is None else _SHARES
    if config.score != AUTO or data.holdout is None:
        names, shares = names[:1], shares[:1]
    if bank is None and len(names) == 1:
        return Score(name=names[0])
    good = _Seen.of(networks, bank, _first(data.holdout or data.train))
    candidates = [good.score(name, share) for name, share in itertools.product(names, shares)]
    if len(candidates) == 1:
        return candidates[0]
    assert data.holdout is not None
    drawn = _Seen.of(networks, bank, _with_defects(data.holdout, config.seed))
    wins = [_wins(good.peaks(score), drawn.peaks(score)) for score in candidates]
    return candidates[_best(wins, np.random.default_rng(derived_seed(config.seed, "resamples")))]


@dataclass(frozen=True)
class _Seen:
    """Images as their distances at each place.

    Attributes:
        levels: of student and teacher, by the name of the score, each level (N, H_k, W_k).
        memory: to the memory bank, (N, h, w).
        roi: the inspected part, (N, H, W) bool.
        size: of the images.
    """

    levels: dict[Name, list[Tensor]]
    memory: Tensor | None
    roi: Tensor | None
    size: tuple[int, int]

    @classmethod
    @torch.no_grad()
    def of(
        cls, networks: InferenceNetworks, bank: MemoryBank | None, data: TrainingImages
    ) -> _Seen:
        levels: dict[Name, list[list[Tensor]]] = {name: [] for name in DISTANCES}
        memory = []
        starts = range(0, len(data.images), _BATCH)
        for start in track(starts, "Choosing the score", len(starts)):
            part = data.images[start : start + _BATCH]
            teacher, student = networks(part.float() / 255)
            for name, found in levels.items():
                found.append(level_distances(teacher, student, name))
            if bank is not None:
                memory.append(bank(teacher))
        joined = {
            n: [torch.cat(level) for level in zip(*f, strict=True)] for n, f in levels.items()
        }
        height, width = data.images.shape[2:]
        return cls(joined, torch.cat(memory) if memory else None, data.roi, (height, width))

    def score(self, name: Name, share: float) -> Score:
        """The score with this share of the memory; good images have a median peak of about 1."""
        if self.memory is None:
            return Score(name=name)
        of_student = (1 - share) / float(np.median(self._peaks(self.levels[name])))
        of_memory = share / float(np.median(self._peaks([self.memory])))
        return Score(name=name, levels=(of_student,) * 3, memory=of_memory)

    def peaks(self, score: Score) -> NDArray[np.float64]:
        """The highest value of each map, (N,)."""
        parts = [w * d for w, d in zip(score.levels, self.levels[score.name], strict=True)]
        if self.memory is not None:
            parts.append(score.memory * self.memory)
        return self._peaks(parts)

    def _peaks(self, parts: list[Tensor]) -> NDArray[np.float64]:
        found = []
        for start in range(0, len(parts[0]), _BATCH):
            part = slice(start, start + _BATCH)
            roi = None if self.roi is None else self.roi[part]
            maps = blurred_sum([p[part] for p in parts], self.size, roi)
            found.append(maps.flatten(1).amax(dim=1).double().cpu())
        return torch.cat(found).numpy()


def _first(data: TrainingImages) -> TrainingImages:
    """The first images, without what only synthesis needs."""
    roi = None if data.roi is None else data.roi[:_MOST]
    return TrainingImages(data.images[:_MOST], data.textures[:0], None, roi)


def _with_defects(data: TrainingImages, seed: int) -> TrainingImages:
    """Each of the first images several times, with another drawn defect each time."""
    images = data.images[:_MOST].permute(0, 2, 3, 1).cpu().numpy()
    parts = None if data.foreground is None else data.foreground[:_MOST].cpu().numpy()
    random = np.random.default_rng(derived_seed(seed, "drawn defects"))
    copies = -(-_DRAWN // len(images))
    drawn = [
        draw_defect(image, images[n - 1], random, None if parts is None else parts[n])[0]
        for _ in range(copies)
        for n, image in enumerate(images)
    ]
    roi = None if data.roi is None else data.roi[:_MOST].repeat(copies, 1, 1)
    chw = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).to(data.images.device)
    return TrainingImages(chw, data.textures[:0], None, roi)


def _wins(good: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(good, drawn): 1 where the image with the defect has the higher score, a half for a tie."""
    return (drawn > good[:, None]) + 0.5 * (drawn == good[:, None])


def _best(wins: list[NDArray[np.float64]], random: np.random.Generator) -> int:
    """The number of the best candidate, if it is surely better than the first one; else 0."""
    best = int(np.argmax([w.mean() for w in wins]))
    better = wins[best] - wins[0]
    draws = [random.multinomial(n, np.full(n, 1 / n), _RESAMPLES) for n in better.shape]
    resampled = ((draws[0] @ better) * draws[1]).sum(axis=1)
    return best if (resampled > 0).mean() >= _SURE else 0
