"""The networks by torch, on any of its devices."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from urd.data import paint_outside
from urd.engines.base import Maps
from urd.inspection.scoring import anomaly_map, image_score
from urd.model.header import ModelHeader
from urd.system.machine import precision_on

if TYPE_CHECKING:
    from urd.networks.teacher_student import TeacherStudent


class TorchEngine:
    """The networks by torch.

    Args:
        precision: as the setting of the training; `None`: that one.
    """

    def __init__(
        self,
        model: TeacherStudent,
        header: ModelHeader,
        device: torch.device,
        precision: str | None = None,
    ) -> None:
        # timm takes a second to import, and an exported file needs none of it.
        from urd.networks.folding import InferenceNetworks

        self.device = device
        self.header = header
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()
        self.precision = precision_on(device, precision or header.config.precision)
        self.networks = InferenceNetworks(self.model, self.precision)
        self.input_size = header.config.image_size
        self.colour = header.mean
        self.mean = torch.tensor(header.mean, device=device)
        self.std = torch.tensor(header.std, device=device)

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process gets the networks and makes of them what it computes with."""
        return type(self), (self.model, self.header, self.device, self.precision)

    def weights_sha256(self) -> str:
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy())
        return digest.hexdigest()

    @torch.inference_mode()
    def __call__(
        self, pixels: NDArray[np.uint8], regions: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]:
        pixels = paint_outside(pixels, regions, self.colour)
        rgb = torch.from_numpy(pixels).to(self.device).float()
        # (B, H, W, 3) memory seen as (B, 3, H, W) is channels-last already.
        images = ((rgb / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        teacher, student = self.networks(images)
        inspected = None if regions is None else torch.from_numpy(regions).to(self.device)
        maps = anomaly_map(teacher, student, self.input_size, inspected)
        return maps.cpu().numpy(), image_score(maps).cpu().numpy()
