"""The version of the method: of everything that decides which figures a training ends with.

Raise it with any change that makes a training, a score or a metric come out differently from the
same data, settings and weights. `urd benchmark` then does every job again instead of taking a
figure of the old method for one of the new. Where only some variants change, give these the next
number in `_NEWER`.

Leave it with a change that is bit-equal: a refactoring, a faster way to the same numbers, the text
of a message. `tests/test_method_version.py` notices both kinds and asks which one it was.
"""

from __future__ import annotations

METHOD_VERSION = 2

# Variants whose figures changed after that version, when all others stayed bit-equal.
_NEWER = {"memory": 3, "urd-memory": 3}  # features at the border of an image


def version_of(variant: str) -> int:
    """The version of the method of one variant, a name in `urd.config.Variant`."""
    return max(METHOD_VERSION, _NEWER.get(variant, 0))
