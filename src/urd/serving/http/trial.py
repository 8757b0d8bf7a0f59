"""One image for a model before it serves: does it work at all?"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from urd.errors import UrdError, UsageError
from urd.inspection.prediction import Failure
from urd.serving.served_model import ServedModel


def trial(model: ServedModel) -> None:
    """Judge a drawn image.

    Raises:
        UsageError: the model needs one region per image, which images over a network do not have.
        UrdError: it gives no finite score.
    """
    if model.detector.roi_per_image:
        raise UsageError(
            f"{model.path} was trained with one region per image: urd serve cannot know the region"
        )
    (result,) = model.judge([_drawn(model.size)])
    if isinstance(result, Failure):
        raise UrdError(f"{model.path} cannot judge a drawn image: {result.reason}")


def _drawn(size: tuple[int, int]) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
