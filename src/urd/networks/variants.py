"""The five variants of the method, for training and comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Injection = Literal["none", "guided", "plain"]


@dataclass(frozen=True)
class Variant:
    """Which parts of the method are switched on.

    Attributes:
        expert: the teacher is a trained copy of the encoder; the frozen encoder, the expert,
            teaches it with synthetic anomalies. Without expert, the teacher is the frozen encoder.
        injection: how the decoder receives the teacher's features between its stages.
    """

    name: str
    expert: bool
    injection: Injection


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("rd", expert=False, injection="none"),
        Variant("rd-e", expert=True, injection="none"),
        Variant("rd-gii", expert=False, injection="guided"),
        Variant("urd", expert=True, injection="guided"),
        Variant("urd-skip", expert=True, injection="plain"),
    )
}
