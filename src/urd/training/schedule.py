"""Learning rates: they depend only on the settings and the iteration."""

from __future__ import annotations

import math

from torch import Tensor

from urd.config import FitConfig
from urd.training.step import Networks

_FALLING = 0.3  # of the iterations, at the end, with the schedule `decay`


def set_learning_rates(
    networks: Networks, config: FitConfig, iteration: int, planned: int | None = None
) -> None:
    """Set the rates for an iteration; the student's rises over the first `warm_up` iterations.

    Adam's first steps change each weight by the full learning rate. Without the rise they can ruin
    a part of a level for long.

    Args:
        planned: iterations of this training; `None`: as in the settings.
    """
    share = _share(config, iteration / (planned or config.iterations))
    risen = min(1.0, (iteration + 1) / max(1, config.warm_up))
    rates = {networks.student_optimizer: config.student_lr * risen}
    if networks.teacher_optimizer is not None:
        rates[networks.teacher_optimizer] = config.teacher_lr
    for optimizer, rate in rates.items():
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # in place: a recorded step reads this tensor
                group["lr"].fill_(rate * share)
            else:
                group["lr"] = rate * share


def _share(config: FitConfig, done: float) -> float:
    """The share of the full rate that the schedule allows; `done` is a share of the training."""
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "decay":
        return min(1.0, max(0.0, (1 - done) / _FALLING))
    return 1.0
