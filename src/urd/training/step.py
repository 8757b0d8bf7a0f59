"""One training iteration, in the order of the paper's equations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from urd.networks.detector_network import DetectorNetwork
from urd.networks.folding import InferenceNetworks
from urd.networks.student import Student
from urd.training.losses import (
    MaskResize,
    mask_pyramid,
    reverse_distillation_loss,
    student_loss,
    teacher_loss,
)

Autocast = Callable[[], AbstractContextManager[object]]


@dataclass
class Networks:
    """The networks in training and their optimisers; without expert the teacher is frozen.

    Attributes:
        eval_teacher: a faster copy of the teacher in evaluation mode, which must `follow` its
            weights; `None`: use the teacher itself.
    """

    model: DetectorNetwork
    student_optimizer: Optimizer
    expert: nn.Module | None = None
    teacher_optimizer: Optimizer | None = None
    eval_teacher: InferenceNetworks | None = None

    @property
    def student(self) -> Student:
        assert self.model.student is not None
        return self.model.student


def train_with_expert(
    networks: Networks,
    clean: Tensor,
    corrupted: Tensor,
    mask: Tensor,
    mask_resize: MaskResize,
    autocast: Autocast,
    e_clean: list[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Teacher step, then student step, on x and x~ (B, 3, H, W) in [0, 1] with M (B, 1, H, W).

    In evaluation mode the teacher normalises by fixed statistics, so x and x~ share one batch.
    The teacher in training and the student normalise by their batch, so they see x and x~ in
    separate batches.

    Args:
        e_clean: the expert's features of x if they are known from an earlier epoch.
    """
    teacher, student = networks.model.teacher, networks.student
    assert networks.expert is not None and networks.teacher_optimizer is not None
    with torch.no_grad(), autocast():
        e_clean = networks.expert(clean) if e_clean is None else e_clean
        e_corrupt = networks.expert(corrupted)

    teacher.train()
    with autocast():
        t_clean, t_corrupt = teacher(clean), teacher(corrupted)
    masks = mask_pyramid(mask, [(t.shape[2], t.shape[3]) for t in t_clean], mask_resize)
    loss_teacher = teacher_loss(t_clean, t_corrupt, e_clean, e_corrupt, masks)
    _descend(loss_teacher, networks.teacher_optimizer)

    teacher.eval()
    with torch.no_grad(), autocast():
        t_clean, t_corrupt = _halves(evaluating_teacher(networks)(torch.cat([clean, corrupted])))
    student.train()
    with autocast():
        s_clean, s_corrupt = student(t_clean), student(t_corrupt)
    loss_student = student_loss(s_clean, s_corrupt, t_clean, e_clean)
    _descend(loss_student, networks.student_optimizer)
    return {"teacher": loss_teacher.detach(), "student": loss_student.detach()}


def train_without_expert(
    networks: Networks, clean: Tensor, autocast: Autocast
) -> dict[str, Tensor]:
    """Reverse distillation: the student restores the frozen teacher's features of good images."""
    networks.model.teacher.eval()
    networks.student.train()
    with torch.no_grad(), autocast():
        t_clean = networks.model.teacher(clean)
    with autocast():
        s_clean = networks.student(t_clean)
    loss = reverse_distillation_loss(s_clean, t_clean)
    _descend(loss, networks.student_optimizer)
    return {"student": loss.detach()}


def evaluating_teacher(networks: Networks) -> nn.Module:
    """The network for the teacher's features in evaluation mode, with its present weights."""
    if networks.eval_teacher is None:
        return networks.model.teacher
    networks.eval_teacher.follow(networks.model.teacher)
    return networks.eval_teacher


def _descend(loss: Tensor, optimizer: Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _halves(features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Split the features of a joint batch into those of x and those of x~."""
    pairs = [f.chunk(2) for f in features]
    return [p[0] for p in pairs], [p[1] for p in pairs]
