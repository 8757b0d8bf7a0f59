"""Learning rates: how they rise and how they fall."""

from __future__ import annotations

import dataclasses

import pytest
from conftest import networks_of

from urd.training.schedule import set_learning_rates


def rates(config, iterations):
    """Of student and teacher, as shares of the full rate."""
    networks = networks_of(config)
    found = []
    for iteration in iterations:
        set_learning_rates(networks, config, iteration)
        student = networks.student_optimizer.param_groups[0]["lr"] / config.student_lr
        teacher = networks.teacher_optimizer.param_groups[0]["lr"] / config.teacher_lr
        found.append((student, teacher))
    return found


@pytest.mark.parametrize(
    ("warm_up", "expected"),
    [
        (20, [0.05, 0.5, 1, 1]),
        (-1, [0.05, 0.5, 1, 1]),  # the default, in files of an older version
        (0, [1, 1, 1, 1]),
        (40, [1 / 40, 10 / 40, 20 / 40, 1]),
    ],
)
def test_the_student_begins_slowly_and_the_teacher_does_not(tiny_config, warm_up, expected):
    config = dataclasses.replace(tiny_config, warm_up=warm_up, schedule="constant")
    found = rates(config, (0, 9, 19, 200))
    assert [student for student, _ in found] == pytest.approx(expected)
    assert {teacher for _, teacher in found} == {1.0}


def test_cosine_falls_from_the_full_rate_to_nearly_nothing(tiny_config):
    config = dataclasses.replace(tiny_config, schedule="cosine", iterations=100, warm_up=0)
    for found in zip(*rates(config, (0, 50, 99)), strict=True):
        assert found == pytest.approx([1, 0.5, 0.000247], abs=1e-5)


def test_decay_falls_in_the_last_three_tenths(tiny_config):
    config = dataclasses.replace(tiny_config, schedule="decay", iterations=100, warm_up=0)
    for found in zip(*rates(config, (30, 70, 85, 99, 100, 130)), strict=True):
        assert found == pytest.approx([1, 1, 0.5, 1 / 30, 0, 0])
