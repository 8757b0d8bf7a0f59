"""Learning rates: they depend only on the settings and the iteration."""

from __future__ import annotations

import math

from urd.backbones.base import Backbone
from urd.config import FitConfig
from urd.training.step import Networks

OF_BACKBONE = -1  # `warm_up` has this value to use the backbone's own warm-up


def set_learning_rates(
    networks: Networks, config: FitConfig, backbone: Backbone, iteration: int
) -> None:
    """Set the rates for an iteration; the student's rises over the first `warm_up` iterations."""
    share = 1.0
    if config.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * iteration / config.iterations))
    warm_up = backbone.warm_up if config.warm_up == OF_BACKBONE else config.warm_up
    risen = min(1.0, (iteration + 1) / max(1, warm_up))
    rates = {networks.student_optimizer: config.student_lr * risen}
    if networks.teacher_optimizer is not None:
        rates[networks.teacher_optimizer] = config.teacher_lr
    for optimizer, rate in rates.items():
        for group in optimizer.param_groups:
            group["lr"] = rate * share
