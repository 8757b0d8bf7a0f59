"""How many good images a training holds out; `urd check` asks this, too, and imports no torch."""

from __future__ import annotations

_AT_LEAST = 8


def holdout_count(images: int, share: float) -> int:
    """Number of held-out good images: the share, but at least 8, and at most half; 0 for 0."""
    if share == 0:
        return 0
    return min(max(_AT_LEAST, round(share * images)), images // 2)
