"""The built-in backbone: trained on rendered images only, and shipped with the package.

How it was trained, and what it can do: `pretraining/MODEL_CARD.md` in the repository.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from urd.errors import UrdError, first_line

BUILTIN = "builtin"
ARCHITECTURE = "resnet18"  # its stem and first three stages, and a 1x1 convolution for each level
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
FILE = Path(__file__).with_name("builtin.safetensors")
SHA256 = "6a64334638317c5945d9ec077209f36c12c4e4fdd32b0f85c820ab526902ab3c"


def architecture(tag: str) -> str:
    """The timm model that a backbone is built as."""
    return ARCHITECTURE if tag == BUILTIN else tag


def builtin_weights() -> dict[str, Tensor]:
    """Tensors of the shipped file, in single precision.

    Raises:
        UrdError: the file is absent or not the one that this version was released with.
    """
    try:
        content = FILE.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise UrdError(f"{FILE} is damaged (its SHA-256 is another one); install urd anew")
        return {name: tensor.float() for name, tensor in load(content).items()}
    except (OSError, SafetensorError) as error:
        raise UrdError(f"{FILE} cannot be read ({first_line(error)}); install urd anew") from error
