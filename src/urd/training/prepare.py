"""Build networks and optimisers before the first iteration."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from urd.backbones.base import Backbone
from urd.backbones.encoder import Encoder
from urd.config import FitConfig
from urd.networks.detector_network import DetectorNetwork
from urd.networks.folding import InferenceNetworks
from urd.networks.variants import VARIANTS
from urd.system.machine import precision_on
from urd.system.seeding import generator
from urd.training.step import Networks

ADAM_BETAS = (0.5, 0.999)
_Module = TypeVar("_Module", bound=nn.Module)


def prepare_networks(
    backbone: Backbone,
    expert: Encoder,
    config: FitConfig,
    device: torch.device,
    good_images: Tensor | None,
) -> Networks:
    """Teacher, student, expert if the variant has one, and their optimisers, on `device`.

    The arguments are those of `prepare_teacher`. The variant must have a student.
    """
    teacher = prepare_teacher(backbone, expert, config, device, good_images)
    return build_networks(expert, teacher, config, device)


def prepare_teacher(
    backbone: Backbone,
    expert: Encoder,
    config: FitConfig,
    device: torch.device,
    good_images: Tensor | None,
) -> Encoder:
    """The teacher before the first iteration, on `device`: a copy of the expert.

    Args:
        expert: the pretrained encoder, on the CPU; the backbone may fit it to the images.
        good_images: (N, 3, H, W) uint8; `None` if a checkpoint will load the fitted weights.
    """
    teacher_learns = VARIANTS[config.variant].teacher_learns
    teacher = _placed(copy.deepcopy(expert), device)
    if good_images is not None:
        backbone.prepare(expert, teacher if teacher_learns else None, good_images)
        if not teacher_learns:
            teacher = _placed(copy.deepcopy(expert), device)
    return teacher


def build_networks(
    expert: Encoder, teacher: Encoder, config: FitConfig, device: torch.device
) -> Networks:
    """Networks and optimisers around a given teacher; the seed draws the student.

    A variant without expert gets a frozen teacher.
    """
    variant = VARIANTS[config.variant]
    of_student = generator(config.seed, "student")
    model = _placed(DetectorNetwork.build(teacher, variant, of_student, config.student), device)
    assert model.student is not None
    recorded = device.type == "cuda"
    student_optimizer = adam(model.student, config.student_lr, recorded=recorded)
    if not variant.teacher_learns:
        model.teacher.requires_grad_(False).eval()
        return Networks(model, student_optimizer)
    precision = precision_on(device, config.precision)
    frozen: nn.Module = _placed(copy.deepcopy(expert), device).requires_grad_(False).eval()
    frozen = InferenceNetworks(frozen, precision)
    eval_teacher = None
    if device.type == "cpu":  # on a GPU, the many small copies of weights cost more
        eval_teacher = InferenceNetworks(model.teacher, precision)
    teacher_optimizer = adam(model.teacher, config.teacher_lr, recorded=recorded)
    return Networks(model, student_optimizer, frozen, teacher_optimizer, eval_teacher)


def adam(module: nn.Module, lr: float, *, recorded: bool = False) -> torch.optim.Adam:
    """The paper's optimiser for the parameters of a network.

    Args:
        recorded: a GPU will record the step and repeat it, so the rate is a tensor there.
    """
    if not recorded:
        return torch.optim.Adam(module.parameters(), lr, ADAM_BETAS, fused=True)
    rate = torch.tensor(lr, device=next(module.parameters()).device)
    return torch.optim.Adam(module.parameters(), rate, ADAM_BETAS, fused=True, capturable=True)


def _placed(module: _Module, device: torch.device) -> _Module:
    return module.to(device).to(memory_format=torch.channels_last)
