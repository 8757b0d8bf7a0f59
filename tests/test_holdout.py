"""Which good images are held out: single ones, whole folders, or those that fit a pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from urd import FitConfig, UsageError
from urd.training.holdout import in_one_series, split

PATHS = [Path(f"parts/train/good/day{d}/{i:03}.png") for d in range(5) for i in range(6)]


def held(**settings):
    train, found = split(PATHS, FitConfig(**settings))
    assert sorted([*train.tolist(), *found.tolist()]) == list(range(len(PATHS)))
    return [PATHS[index] for index in found.tolist()]


def test_single_images_come_from_several_folders():
    assert len({path.parent for path in held()}) > 1


def test_whole_folders_until_the_share_is_reached():
    found = held(holdout_by="folder")
    assert len(found) == 12  # at least 8 images are held out, so two days
    assert all(sum(p.parent == f.parent for p in found) == 6 for f in found)
    assert found == held(holdout_by="folder")
    assert {tuple(held(holdout_by="folder", seed=s)) for s in range(8)} != {tuple(found)}


@pytest.mark.parametrize("pattern", ["day3/*", "*/day3/*.png", "parts/train/good/day3/0*"])
def test_images_that_fit_a_pattern(pattern):
    assert held(holdout_by=pattern) == PATHS[18:24]


@pytest.mark.parametrize("pattern", ["day7/*", "*"])
def test_a_pattern_that_fits_none_or_too_many_is_refused(pattern):
    with pytest.raises(UsageError, match="good images: give 'folder'"):
        held(holdout_by=pattern)


def test_an_absolute_pattern_is_refused():
    with pytest.raises(UsageError, match="fits the end of paths"):
        FitConfig(holdout_by="/data/day3/*")


def test_one_folder_cannot_be_held_out():
    with pytest.raises(UsageError, match="none can be held out"):
        split(PATHS[:6], FitConfig(holdout_by="folder"))


def test_nothing_is_held_out_with_a_share_of_0():
    assert held(holdout=0.0, holdout_by="day3/*") == []


def test_images_of_one_series_are_noticed():
    random = torch.Generator().manual_seed(0)
    scenes = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=random)
    scenes = scenes.repeat_interleave(8, 2).repeat_interleave(8, 3)
    series = scenes.repeat_interleave(4, 0).int()  # four images of each scene, with some noise
    series = (series + torch.randint(-3, 4, series.shape, generator=random)).clamp(0, 255)
    held = torch.arange(0, 80, 9)
    train = torch.tensor([n for n in range(80) if n not in held.tolist()])
    assert in_one_series(series.to(torch.uint8), train, held) >= 6
    mixed = torch.randperm(80, generator=random)
    assert in_one_series(series[mixed].to(torch.uint8), train, held) == 0
    assert in_one_series(scenes, torch.arange(20), held[:0]) == 0
