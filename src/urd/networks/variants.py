"""The variants of the method, for training and comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Injection = Literal["none", "guided", "plain"]


@dataclass(frozen=True)
class Variant:
    """Which parts of the method are switched on.

    Attributes:
        teacher_learns: the teacher is a second copy of the encoder, and the frozen expert trains it
            with synthetic anomalies. Otherwise the teacher is the frozen encoder itself.
        injection: what the decoder receives of the teacher's features between its stages.
        student: a student learns to restore the teacher's features.
        memory: the teacher's features of good images are remembered.
    """

    name: str
    teacher_learns: bool
    injection: Injection
    student: bool = True
    memory: bool = False


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("rd", teacher_learns=False, injection="none"),
        Variant("rd-e", teacher_learns=True, injection="none"),
        Variant("rd-gii", teacher_learns=False, injection="guided"),
        Variant("urd", teacher_learns=True, injection="guided"),
        Variant("urd-skip", teacher_learns=True, injection="plain"),
        Variant("memory", teacher_learns=False, injection="none", student=False, memory=True),
        Variant("urd-memory", teacher_learns=True, injection="guided", memory=True),
    )
}
