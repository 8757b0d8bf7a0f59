"""The networks of a detector: everything with weights that inference needs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from urd.backbones.encoder import Encoder
from urd.networks.memory_bank import MemoryBank
from urd.networks.student import Size, Student, initialise
from urd.networks.variants import Variant


class DetectorNetwork(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to the teacher's three feature maps, and the student's.

    The expert is not part of it: only training needs it, in the variants that have one.

    Attributes:
        student: `None`: the variant has none, and there are no feature maps of it.
        bank: features of good images, with which `Scorer` compares; `None`: it does not.
    """

    def __init__(
        self, teacher: Encoder, student: Student | None, bank: MemoryBank | None = None
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.bank = bank

    @classmethod
    def build(
        cls,
        teacher: Encoder,
        variant: Variant,
        generator: torch.Generator,
        size: Size = "full",
    ) -> DetectorNetwork:
        """An untrained student behind a teacher, if the variant has one; the bank comes later."""
        if not variant.student:
            return cls(teacher, None)
        with torch.random.fork_rng(devices=[]):  # layers draw weights that are drawn again below
            student = Student(teacher.pyramid, variant.injection, size)
        initialise(student, generator)
        return cls(teacher, student)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        teacher_features = self.teacher(images)
        return teacher_features, [] if self.student is None else self.student(teacher_features)
