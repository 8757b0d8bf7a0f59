"""Small sets of maps and masks, for the tests of metrics."""

from __future__ import annotations

import numpy as np


def random_case(seed, levels, dtype, size=17, images=4):
    """Maps with many or few ties, and masks with components at the border and of one pixel."""
    rng = np.random.default_rng(seed)
    maps = [rng.integers(0, levels, (size, size)).astype(dtype) / levels for _ in range(images)]
    masks = [np.zeros((size, size), bool) for _ in range(images)]
    masks[1][0:3, 0:4] = masks[1][3, 4] = True  # touches by a corner: one component
    masks[1][10, 10] = True
    masks[2][size - 2 :, 5:9] = True
    masks[3] |= rng.random((size, size)) > 0.8
    for m, k in zip(maps, masks, strict=True):
        m[k] += rng.integers(0, 3, k.sum()).astype(dtype) / levels
    return maps, masks


def kinds(defective):
    return ["bad" if is_defective else "good" for is_defective in defective]
