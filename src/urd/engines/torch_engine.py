"""Run the networks with torch, on any of its devices."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from urd.data import paint_outside
from urd.engines.base import Maps
from urd.inspection.scoring import Scorer
from urd.model.header import ModelHeader
from urd.networks.detector_network import DetectorNetwork
from urd.networks.folding import InferenceNetworks
from urd.networks.kernels import exact_kernels
from urd.system.machine import precision_on


class TorchEngine:
    """The networks with torch.

    Args:
        precision: `auto`, `float32` or `bfloat16`; `None`: the setting of the training.
    """

    def __init__(
        self,
        model: DetectorNetwork,
        header: ModelHeader,
        device: torch.device,
        precision: str | None = None,
    ) -> None:
        self._device = device
        self.header = header
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()
        self.precision = precision_on(device, precision or header.config.precision)
        self.networks = InferenceNetworks(self.model, self.precision)
        self.scorer = Scorer(header.score, self.model.bank)
        self.input_size = header.config.image_size
        self.colour = header.mean

    @property
    def device(self) -> str:
        return str(self._device)

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process gets the networks and builds the faster copies itself."""
        return type(self), (self.model, self.header, self._device, self.precision)

    def in_precision(self, precision: str) -> TorchEngine:
        """The same networks, computing in `auto`, `float32` or `bfloat16`."""
        return TorchEngine(self.model, self.header, self._device, precision)

    def weights_sha256(self) -> str:
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy())
        return digest.hexdigest()

    @torch.inference_mode()
    def __call__(
        self, pixels: NDArray[np.uint8], rois: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]:
        pixels = paint_outside(pixels, rois, self.colour)
        rgb = torch.from_numpy(pixels).to(self._device).float()
        # (B, H, W, 3) memory, seen as (B, 3, H, W), is already channels-last.
        roi = None if rois is None else torch.from_numpy(rois).to(self._device)
        with exact_kernels(self._device):
            features = self.networks((rgb / 255).permute(0, 3, 1, 2))
            maps, scores = self.scorer(features, self.input_size, roi)
        return maps.cpu().numpy(), scores.cpu().numpy()
