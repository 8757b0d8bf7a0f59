"""Teacher and student together: everything that inference needs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from urd.backbones.encoder import Encoder
from urd.networks.student import Size, Student, initialise
from urd.networks.variants import Variant


class TeacherStudent(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to the teacher's and the student's three feature maps.

    The expert is not part of it: only training needs it, in the variants that have one.
    """

    def __init__(self, teacher: Encoder, student: Student) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student

    @classmethod
    def build(
        cls,
        teacher: Encoder,
        variant: Variant,
        generator: torch.Generator,
        size: Size = "full",
    ) -> TeacherStudent:
        """An untrained student behind a teacher."""
        with torch.random.fork_rng(devices=[]):  # layers draw weights that are drawn again below
            student = Student(teacher.pyramid, variant.injection, size)
        initialise(student, generator)
        return cls(teacher, student)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        teacher_features = self.teacher(images)
        return teacher_features, self.student(teacher_features)
