"""Find the object in an image, so that anomalies are painted on it, not on the background."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

# The rule of `auto` for "an object on a plain background". In most images, Otsu's threshold must
# put at least `_FRAME_SHARE` of the image's frame on one side (the background), and a share of the
# whole image within `_OBJECT_SHARE` on the other side (the object).
_FRAME_SHARE = 0.9
_OBJECT_SHARE = (0.02, 0.7)
_AUTO_IMAGES = 32

Image = np.ndarray


def foreground_masks(images: Sequence[Image], method: str) -> tuple[Tensor | None, str]:
    """Foreground of each (H, W, 3) uint8 image: (N, H, W) bool, or `None` for everywhere.

    Args:
        method: `none`, `otsu`, `grabcut` or `auto`. `auto` uses `otsu` for objects on a plain
            background, and `none` for textures and objects that fill the image.

    Returns:
        The masks and the method used.
    """
    if method == "auto":
        method = "otsu" if looks_like_object(images) else "none"
    if method == "none":
        return None, method
    one: Callable[[Image], np.ndarray] = {"otsu": otsu, "grabcut": grabcut}[method]
    return torch.from_numpy(np.stack([one(image) for image in images])), method


def looks_like_object(images: Sequence[Image]) -> bool:
    """Whether most images show an object on a background that fills the image's frame."""
    step = max(1, len(images) // _AUTO_IMAGES)
    votes = []
    for image in images[::step]:
        side = _otsu_side(image)
        frame = np.concatenate([side[0], side[-1], side[:, 0], side[:, -1]])
        background = frame.mean() > 0.5
        agreement = np.mean(frame == background)
        area = np.mean(side != background)
        votes.append(agreement >= _FRAME_SHARE and _OBJECT_SHARE[0] <= area <= _OBJECT_SHARE[1])
    return bool(np.mean(votes) > 0.5)


def otsu(image: Image) -> np.ndarray:
    """The object by Otsu's threshold (Otsu, 1979): the side without the frame, holes filled."""
    side = _otsu_side(image)
    frame = np.concatenate([side[0], side[-1], side[:, 0], side[:, -1]])
    mask = (side if frame.mean() < 0.5 else ~side).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(closed, contours, -1, 1, thickness=cv2.FILLED)
    return closed.astype(bool)


def grabcut(image: Image) -> np.ndarray:
    """GrabCut (Rother et al., 2004) started from `otsu`: slower, but follows colour edges."""
    start = otsu(image)
    if not start.any() or start.all():
        return start
    state = np.where(start, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    state[[0, -1], :] = state[:, [0, -1]] = cv2.GC_BGD
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # GrabCut draws from OpenCV's own generator
    bgr = np.ascontiguousarray(image[..., ::-1])
    no_box = (0, 0, 0, 0)
    cv2.grabCut(bgr, state, no_box, background, foreground, 3, cv2.GC_INIT_WITH_MASK)
    found = (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)
    return found if found.any() else start


def _otsu_side(image: Image) -> np.ndarray:
    """True where the lightly blurred grey image is above Otsu's threshold."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0)
    _, above = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return above.astype(bool)
