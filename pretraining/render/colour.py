"""Colours as photographs have them: brightness varies most, blue against yellow next, red least."""

from __future__ import annotations

import numpy as np

from pretraining.render.fields import Field, Random

# Rows: brightness, blue-yellow, red-green, as the axes of variation of natural images in RGB
# (Ruderman, Cronin, Chiao, JOSA A 1998).
_AXES = np.array([(1, 1, 1), (0.5, 0.5, -1), (0.7, -0.7, 0)], np.float32)


def palette(rng: Random, colours: int) -> Field:
    """(colours, 3) in [0, 1]: shades about a common hue, with now and then one of another."""
    hue = rng.laplace(0, (0.06, 0.025)) * rng.choice([0.2, 1.0, 2.5])
    levels = np.sort(rng.beta(1.2, 1.2, colours))
    if rng.random() < 0.3:
        rng.shuffle(levels)
    spread = rng.choice([0.01, 0.03, 0.1])
    opponent = hue + spread * rng.laplace(0, (1, 0.5), (colours, 2))
    if rng.random() < 0.15:
        opponent[rng.integers(colours)] += rng.normal(0, (0.3, 0.3))
    contrast, middle = rng.uniform(0.2, 1), rng.uniform(0.25, 0.75)
    levels = middle + contrast * (levels - 0.5)
    return np.clip(levels[:, None] * _AXES[0] + opponent @ _AXES[1:], 0.02, 0.98).astype(np.float32)


def coloured(tone: Field, colours: Field) -> Field:
    """(H, W, 3): the palette's colours, in order, spread evenly over tones 0 to 1."""
    places = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(tone, places, colours[:, c]) for c in range(3)], -1).astype(
        np.float32
    )
