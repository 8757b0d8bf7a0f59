"""The whole detector as one network, from uint8 pixels to the calibrated score.

It computes the same as `Detector.predict`, up to rounding: Pillow's resizing, normalisation, region
of interest, teacher and student, map, blur, score. It uses only operations that all runtimes have.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from urd.detector import Detector
from urd.engines.onnx_engine import STEEPNESS, THRESHOLD
from urd.errors import UsageError
from urd.inspection.scoring import Scorer


class InspectionGraph(nn.Module):
    """uint8 RGB images (B, H, W, 3), all of one size, to map (B, h, w), score and calibrated (B,).

    The map has the network's size. The threshold and the steepness of the calibrated score are
    named constants, so that the file can be calibrated again. Here they are only placeholders.

    Args:
        calibrated: also return the calibrated score.

    Raises:
        UsageError: the detector needs a region of interest for each image.
    """

    def __init__(self, detector: Detector, *, calibrated: bool) -> None:
        super().__init__()
        header = detector.header
        if detector.roi_per_image:
            raise UsageError("a detector with a region of interest per image cannot be exported")
        self.model = detector.model.to("cpu").float().eval()
        self.scorer = Scorer(header.score, self.model.bank)
        self.size = header.config.image_size
        self.roi = None if header.roi is None else torch.from_numpy(header.roi)
        self.paint = torch.tensor([float(round(255 * channel)) for channel in header.mean])
        self.calibrated = calibrated
        # Exporters merge equal constants. No other constant has these values, so both stay apart.
        self.register_buffer(THRESHOLD, torch.tensor(0.61803399))
        self.register_buffer(STEEPNESS, torch.tensor(2.71828183))

    @property
    def outputs(self) -> list[str]:
        return ["map", "score"] + (["calibrated"] if self.calibrated else [])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = resized(images.permute(0, 3, 1, 2).float(), self.size)
        if self.roi is not None:
            pixels = torch.where(self.roi, pixels, self.paint.view(3, 1, 1))
        maps, scores = self.scorer(self.model(pixels / 255), self.size, self.roi)
        if not self.calibrated:
            return maps, scores
        x = self.get_buffer(STEEPNESS) * (scores - self.get_buffer(THRESHOLD))
        return maps, scores, (1 + x / (1 + x.square()).sqrt()) / 2  # as `Calibration.calibrated`


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pillow's bilinear resizing of (B, C, H, W) pixel values to `size`, as matrix products.

    Pillow resizes along rows first. Its weights are multiples of 2^-22, and it rounds to whole
    numbers after each axis. Results exactly between two numbers are frequent, so a small error
    would change pixels: the same whole numbers are computed here.
    """
    height, width = images.shape[2], images.shape[3]
    high, low = _weights(width, size[1])
    along = _rounded(images @ high.T, images @ low.T)
    high, low = _weights(height, size[0])
    return _rounded(high @ along, low @ along)


def _weights(length: int, target: int) -> tuple[Tensor, Tensor]:
    """Two (target, length) matrices: a triangle around each new pixel, wider if the image shrinks.

    The distance from the centre of old pixel j to the centre of new pixel i is |(2j + 1) target -
    (2i + 1) length| / (2 target) old pixels; times 2 target it is a whole number. The weights times
    2^22 are split into upper and lower eleven bits, because float32 has only 24 bits: so products
    with pixels are exact.
    """
    widest = max(length, target) if isinstance(length, int) else torch.sym_max(length, target)
    middle = (2 * torch.arange(target) + 1) * length
    place = (2 * torch.arange(length) + 1) * target
    triangle = (2 * widest - (place - middle[:, None]).abs()).clamp(min=0)
    total = triangle.sum(dim=1, keepdim=True)
    # Long division, 22 bits in four steps: some runtimes have no integers above 2^31.
    whole, rest = torch.zeros_like(triangle), triangle
    for bits in (6, 6, 5, 5):
        rest = rest * 2**bits
        digit = rest // total
        whole, rest = whole * 2**bits + digit, rest - digit * total
    whole = whole + (2 * rest >= total)  # rounds to the nearest
    high = whole // 2**11
    return high.float(), (whole - 2**11 * high).float()


def _rounded(high: Tensor, low: Tensor) -> Tensor:
    """(2^11 high + low) / 2^22, rounded to the nearest whole number, exact in float32."""
    return ((high + 2**10 + (low / 2**11).floor()) / 2**11).floor()
