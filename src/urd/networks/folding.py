"""Copies of the networks for fast inference: batch norms folded into convolutions."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from urd.backbones.encoder import Encoder
from urd.networks.kernels import exact_kernels

_PROBE = 64
_TOLERANCE = 1e-3
_FOLDABLE = (nn.BatchNorm2d, BatchNormAct2d)  # timm's second one has an activation after the norm


class EvenMaxPool(nn.Module):
    """3x3 max pooling at stride 2 with padding 1, for maps with even sides.

    It takes maxima of whole slices. On a CPU in bfloat16, that is several times faster than
    PyTorch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        rows[:, :, 1:] = torch.maximum(rows[:, :, 1:], x[:, :, 1:-1:2])
        found = torch.maximum(rows[..., ::2], rows[..., 1::2])
        found[..., 1:] = torch.maximum(found[..., 1:], rows[..., 1:-1:2])
        return found


class InferenceNetworks(nn.Module):
    """A copy that computes what `model` does in evaluation mode, but faster; not for training.

    The norms are folded if that gives the same maps. The input is that of `model`.

    Args:
        model: a `DetectorNetwork` or an `Encoder`.
        precision: `float32` or `bfloat16`.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self.foldable = _alike(_still(model), _fold(_still(model)))
        self.follow(model)

    def follow(self, model: nn.Module) -> None:
        """Copy the present weights of `model`."""
        copied = _fold(_still(model)) if self.foldable else _still(model)
        if self.dtype == torch.bfloat16 and next(model.parameters()).device.type == "cpu":
            _replace_max_pools(copied)
        self.networks = copied.to(self.dtype).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Any:
        return self.networks(images)


def _still(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _fold(model: nn.Module) -> nn.Module:
    """Fold each norm into the convolution that is registered just before it."""
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in itertools.pairwise(children):
            # Other subclasses of the norm may do more than normalise.
            if not isinstance(norm, nn.BatchNorm2d) or type(norm) not in _FOLDABLE:
                continue
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
                transposed = isinstance(conv, nn.ConvTranspose2d)
                setattr(parent, name, fuse_conv_bn_eval(conv, norm, transposed))
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
    return model


@torch.inference_mode()
def _alike(plain: nn.Module, folded: nn.Module) -> bool:
    """Whether both give the same maps for a random image.

    The test is needed because the order of registration need not be the order of computation.
    """
    weight = next(plain.parameters())
    random = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, _PROBE, _PROBE, generator=random).to(weight)
    with exact_kernels(weight.device):
        return all(
            float((a - b).abs().max()) <= _TOLERANCE * float(a.abs().max())
            for a, b in zip(_maps(plain(image)), _maps(folded(image)), strict=True)
        )


def _maps(features: Any) -> list[Tensor]:
    """The maps of an encoder, or of teacher and student together."""
    return features if isinstance(features, list) else list(itertools.chain(*features))


def _replace_max_pools(model: nn.Module) -> None:
    """Replace only those in an encoder's stem, where the sides of maps are even."""
    for encoder in (module for module in model.modules() if isinstance(module, Encoder)):
        for name, module in list(encoder.body.named_children()):
            if isinstance(module, nn.MaxPool2d) and _shape_of(module) == (3, 2, 1):
                setattr(encoder.body, name, EvenMaxPool())


def _shape_of(pool: nn.MaxPool2d) -> tuple[object, object, object]:
    return pool.kernel_size, pool.stride, pool.padding
