"""A surface: the answer of a family, which the scene colours, lights and photographs."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pretraining.render.fields import (
    Field,
    Random,
    standardised,
    unit,
)


@dataclass(frozen=True)
class Surface:
    """What light falls on, all (H, W) float32.

    Attributes:
        height: in pixels.
        tone: in [0, 1], which colour of the palette.
        gloss: in [0, 1].
    """

    height: Field
    tone: Field
    gloss: Field

    def __post_init__(self) -> None:
        for field in fields(self):  # OpenCV computes in one type at a time
            values = np.asarray(getattr(self, field.name), np.float32)
            object.__setattr__(self, field.name, values)


def surface_of(
    rng: Random, height: Field, tone: Field, relief: float, gloss: Field | float | None = None
) -> Surface:
    """`relief`: the most that the height deviates, in pixels; how much is drawn, like the gloss."""
    if gloss is None:
        gloss = float(rng.uniform(0, 0.8) ** 2)
    shape = height.shape
    raised = standardised(height) * np.float32(relief * rng.uniform(0.15, 1))
    return Surface(raised, unit(tone), np.broadcast_to(gloss, shape))
