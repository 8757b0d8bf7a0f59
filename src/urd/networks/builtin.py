"""The built-in backbone: trained on rendered images only, and shipped with the package.

How it was trained, and what it can do: `pretraining/MODEL_CARD.md` in the repository.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from urd.errors import UrdError

BUILTIN = "builtin"
ARCHITECTURE = "resnet18"  # its stem and first three stages: 2.8 M parameters
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
FILE_NAME = "builtin.safetensors"
SHA256 = ""


def architecture(tag: str) -> str:
    """The timm model that a backbone is built as."""
    return ARCHITECTURE if tag == BUILTIN else tag


def builtin_weights() -> dict[str, Tensor]:
    """Tensors of the shipped file, in single precision.

    Raises:
        UrdError: the file is absent or not the one that this version was released with.
    """
    file = resources.files("urd.networks") / FILE_NAME
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise UrdError(f"{file} is damaged (its SHA-256 is another one); install urd anew")
        return {name: tensor.float() for name, tensor in load(content).items()}
    except (OSError, SafetensorError) as error:
        raise UrdError(f"{file} can not be read ({error}); install urd anew") from error
