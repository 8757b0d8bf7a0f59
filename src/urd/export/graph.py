"""All that a detector does to an image as one network, from uint8 pixels to the calibrated score.

It repeats `Detector.predict` up to rounding: Pillow's resizing, normalisation, region of interest,
teacher and student, map, blur, score. Only operations that every runtime has are used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from urd.detector import Detector
from urd.engines.onnx_engine import STEEPNESS, THRESHOLD
from urd.errors import UsageError
from urd.inspection.scoring import anomaly_map, image_score


class InspectionGraph(nn.Module):
    """uint8 RGB images (B, H, W, 3) of one size, any, to map (B, h, w), score and calibrated (B,).

    The map has the network's size. The calibrated score is that of the detector's operating point:
    its threshold and steepness are constants with names of their own, so that the file can be
    calibrated anew; here they are only placeholders.

    Args:
        calibrated: give the calibrated score too.

    Raises:
        UsageError: the detector wants a region of interest with each image.
    """

    def __init__(self, detector: Detector, *, calibrated: bool) -> None:
        super().__init__()
        header = detector.header
        if detector.roi_per_image:
            raise UsageError("a detector with a region of interest per image cannot be exported")
        self.model = detector.model.to("cpu").float().eval()
        self.size = header.config.image_size
        self.roi = None if header.roi is None else torch.from_numpy(header.roi)
        self.paint = torch.tensor([float(round(255 * channel)) for channel in header.mean])
        self.calibrated = calibrated
        # No other constant of the network has these values: an exporter may keep one for two.
        self.register_buffer(THRESHOLD, torch.tensor(0.61803399))
        self.register_buffer(STEEPNESS, torch.tensor(2.71828183))

    @property
    def outputs(self) -> list[str]:
        return ["map", "score"] + (["calibrated"] if self.calibrated else [])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = resized(images.permute(0, 3, 1, 2).float(), self.size)
        if self.roi is not None:
            pixels = torch.where(self.roi, pixels, self.paint.view(3, 1, 1))
        teacher, student = self.model(pixels / 255)
        maps = anomaly_map(teacher, student, self.size, self.roi, distance_of_units)
        scores = image_score(maps)
        if not self.calibrated:
            return maps, scores
        ratio = torch.log(scores.clamp(min=1e-12) / self.get_buffer(THRESHOLD))
        return maps, scores, torch.sigmoid(self.get_buffer(STEEPNESS) * ratio)


def distance_of_units(a: Tensor, b: Tensor) -> Tensor:
    """`networks.cosine.cosine_distance` as half the squared distance of the unit vectors.

    It is the same, but a runtime that computes in bfloat16 would leave nothing of the difference of
    two numbers near 1.
    """
    unit_a, unit_b = functional.normalize(a, dim=1), functional.normalize(b, dim=1)
    absent = 2.0 - (a != 0).any(dim=1).float() - (b != 0).any(dim=1).float()
    return ((unit_a - unit_b).square().sum(dim=1) + absent) / 2


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pillow's bilinear resizing of (B, C, H, W) pixel values to `size`, as matrix products.

    Pillow resizes rows first, with weights that are multiples of 2^-22, and rounds to whole numbers
    after each axis. Ties are frequent, so the same whole numbers are computed here.
    """
    height, width = images.shape[2], images.shape[3]
    high, low = _weights(width, size[1])
    along = _rounded(images @ high.T, images @ low.T)
    high, low = _weights(height, size[0])
    return _rounded(high @ along, low @ along)


def _weights(length: int, target: int) -> tuple[Tensor, Tensor]:
    """(target, length) each: a triangle around each new pixel, wider where the image shrinks.

    Pixel j of the old image lies |(2j + 1) target - (2i + 1) length| / (2 target) old pixels from
    the middle of the new pixel i; times 2 target it is a whole number. The weights times 2^22 are
    given as upper and lower eleven bits: products with pixels are then exact in float32.
    """
    widest = max(length, target) if isinstance(length, int) else torch.sym_max(length, target)
    middle = (2 * torch.arange(target) + 1) * length
    place = (2 * torch.arange(length) + 1) * target
    triangle = (2 * widest - (place - middle[:, None]).abs()).clamp(min=0)
    total = triangle.sum(dim=1, keepdim=True)
    # Long division, a few bits at a time: some runtimes have no whole numbers beyond 2^31.
    whole, rest = torch.zeros_like(triangle), triangle
    for bits in (6, 6, 5, 5):
        rest = rest * 2**bits
        digit = rest // total
        whole, rest = whole * 2**bits + digit, rest - digit * total
    whole = whole + (2 * rest >= total)
    high = whole // 2**11
    return high.float(), (whole - 2**11 * high).float()


def _rounded(high: Tensor, low: Tensor) -> Tensor:
    """(2^11 high + low) / 2^22 to the nearest whole number, every step exact in float32."""
    return ((high + 2**10 + (low / 2**11).floor()) / 2**11).floor()
