"""Learning rates: of the backbone's warm-up, of an option that overrides it, and the cosine."""

from __future__ import annotations

import dataclasses

import pytest
from conftest import TINY, networks_of

from urd.backbones.builtin import BUILTIN
from urd.backbones.registry import backbone_of
from urd.training.schedule import set_learning_rates


def rates(config, iterations):
    """Of student and teacher, as shares of the full rate."""
    networks, backbone = networks_of(config), backbone_of(config.tag, config.weights)
    found = []
    for iteration in iterations:
        set_learning_rates(networks, config, backbone, iteration)
        student = networks.student_optimizer.param_groups[0]["lr"] / config.student_lr
        teacher = networks.teacher_optimizer.param_groups[0]["lr"] / config.teacher_lr
        found.append((student, teacher))
    return found


@pytest.mark.parametrize(
    ("backbone", "weights", "warm_up", "expected"),
    [
        (BUILTIN, "auto", -1, [0.05, 0.5, 1, 1]),
        (BUILTIN, "none", -1, [1, 1, 1, 1]),  # what is not trained is not whitened
        (TINY, "none", -1, [1, 1, 1, 1]),
        (BUILTIN, "auto", 0, [1, 1, 1, 1]),
        (TINY, "none", 40, [1 / 40, 10 / 40, 20 / 40, 1]),
    ],
)
def test_the_student_begins_slowly_and_the_teacher_does_not(
    tiny_config, backbone, weights, warm_up, expected
):
    config = dataclasses.replace(tiny_config, backbone=backbone, weights=weights, warm_up=warm_up)
    found = rates(config, (0, 9, 19, 200))
    assert [student for student, _ in found] == pytest.approx(expected)
    assert {teacher for _, teacher in found} == {1.0}


def test_cosine_falls_from_the_full_rate_to_nearly_nothing(tiny_config):
    config = dataclasses.replace(tiny_config, schedule="cosine", iterations=100)
    for found in zip(*rates(config, (0, 50, 99)), strict=True):
        assert found == pytest.approx([1, 0.5, 0.000247], abs=1e-5)
