"""The five variants of the method that are trained and measured side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Injection = Literal["none", "guided", "plain"]


@dataclass(frozen=True)
class Variant:
    """Which parts of the method are switched on.

    Attributes:
        expert: the teacher is a trained second copy of the encoder, taught by the frozen one
            with synthetic anomalies. Without it the teacher is the frozen encoder itself.
        injection: what the decoder receives of the teacher's features between its stages.
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
