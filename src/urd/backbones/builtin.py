"""The built-in backbone: trained on rendered images only, and shipped with the package.

`pretraining/MODEL_CARD.md` in the repository says how it was trained and what it can do.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from urd.backbones.base import AUTO, Backbone
from urd.backbones.encoder import Colour, Encoder, Pyramid
from urd.backbones.norms import NORMS, restate_norms
from urd.backbones.pyramid import stages_of, timm_body
from urd.backbones.whitening import (
    OFFSET,
    SHRINKAGE,
    WhitenedEncoder,
    images_wanted,
    looked_at,
    whiten,
)
from urd.errors import UrdError, first_line

BUILTIN = "builtin"
ARCHITECTURE = "resnet18"  # its stem and first three stages, and a 1x1 convolution for each level
FILE = Path(__file__).with_name("builtin.safetensors")
SHA256 = "6a64334638317c5945d9ec077209f36c12c4e4fdd32b0f85c820ab526902ab3c"


class BuiltinBackbone(Backbone):
    """The shipped weights; before training, levels and norms are fitted to the good images."""

    @classmethod
    def claims(cls, tag: str) -> bool:
        return tag == BUILTIN

    @property
    def mean(self) -> Colour:
        return (0.5, 0.5, 0.5)

    @property
    def std(self) -> Colour:
        return (0.25, 0.25, 0.25)

    @property
    def ships_weights(self) -> bool:
        return True

    def build(self) -> WhitenedEncoder:
        body = timm_body(ARCHITECTURE)
        return WhitenedEncoder(self.tag, body, Pyramid(stages_of(body)), self.mean, self.std)

    def own_weights(self, encoder: Encoder) -> dict[str, Tensor]:
        return builtin_weights()

    def all_shapes(self) -> dict[str, torch.Size]:
        with torch.device("meta"):
            full = timm.create_model(ARCHITECTURE, pretrained=False)
        return {name: value.shape for name, value in full.state_dict().items()}

    def on_this_machine(self) -> bool:
        return True

    def how_to_get(self) -> str:
        builtin_weights()
        return "comes with urd"

    def images_to_prepare(self, height: int, width: int) -> int:
        return images_wanted(height, width) if self.pretrained else 0

    def prepare(self, expert: Encoder, teacher: Encoder | None, images: Tensor) -> None:
        """Whiten the levels, and restate the norms of a teacher that learns.

        Encoders that are already whitened do not change.
        """
        assert isinstance(expert, WhitenedEncoder)
        if not self.pretrained or expert.whitened:
            return
        whiten(expert, images)
        if teacher is not None:
            assert isinstance(teacher, WhitenedEncoder)
            teacher.heads.load_state_dict(expert.heads.state_dict())
            device = next(teacher.parameters()).device
            restate_norms(teacher, looked_at(images, device))

    def identity(self, *, teacher_learns: bool) -> str:
        if self.weights != AUTO:
            return super().identity(teacher_learns=teacher_learns)
        restated = f" {NORMS}" if teacher_learns else ""
        return f"{SHA256} {SHRINKAGE} {OFFSET}{restated}"


def builtin_weights() -> dict[str, Tensor]:
    """Tensors of the shipped file, in float32.

    Raises:
        UrdError: the file is missing, or differs from the one released with this version.
    """
    try:
        content = FILE.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise UrdError(f"{FILE} is damaged (its SHA-256 is wrong); install urd again")
        return {name: tensor.float() for name, tensor in load(content).items()}
    except (OSError, SafetensorError) as error:
        raise UrdError(f"{FILE} cannot be read ({first_line(error)}); install urd again") from error
