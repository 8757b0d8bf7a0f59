"""The choice of features for a memory bank."""

from __future__ import annotations

import numpy as np
import torch

from urd.training import remember as module
from urd.training.remember import coreset


def farthest_first(points: np.ndarray, first: int, count: int) -> list[int]:
    chosen = [first]
    while len(chosen) < count:
        distance = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(1)
        chosen.append(int(distance.argmax()))
    return chosen


def test_each_chosen_feature_is_the_farthest_from_those_before(monkeypatch):
    points = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) + 100
    monkeypatch.setattr(module.torch, "randn", lambda *s, **_: torch.eye(8))
    found = coreset(points, 40, torch.Generator().manual_seed(1)).tolist()
    assert found == farthest_first(points.double().numpy(), found[0], 40)


def test_a_rare_feature_is_remembered():
    points = torch.randn(5000, 32, generator=torch.Generator().manual_seed(0))
    points[1234] += 10
    assert 1234 in coreset(points, 20, torch.Generator().manual_seed(1))


def test_few_features_are_all_kept():
    points = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert coreset(points, 5, torch.Generator()).tolist() == list(range(5))
    assert coreset(points, 9, torch.Generator()).tolist() == list(range(5))
