"""The encoder: stem and first three stages of a pretrained backbone, by timm tag or built in.

Expert and teacher are two copies of it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, cast

import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.nn import functional

from urd.backbones.builtin import BUILTIN, architecture
from urd.errors import UsageError, first_line, quoted

STRIDES = (4, 8, 16)
_PROBE = 128


@dataclass(frozen=True)
class Stage:
    """What the decoder needs to mirror one stage of the encoder.

    `width` is the inner width of bottleneck blocks, `None` for basic ones.
    """

    channels: int
    depth: int
    width: int | None


class Encoder(nn.Module):
    """Image (B, 3, H, W), normalised, to three feature maps at strides 4, 8 and 16.

    H and W are multiples of 32. Levels are numbered k = 1, 2, 3 in the paper and 0, 1, 2 here.
    """

    def __init__(self, tag: str, body: nn.Module, stages: tuple[Stage, Stage, Stage]) -> None:
        super().__init__()
        self.tag = tag
        self.body = body
        self.stages = stages

    def forward(self, images: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.body(images))

    def weights(self) -> dict[str, Tensor]:
        """What a weight file holds, by the names that it has there."""
        return self.body.state_dict()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.body.load_state_dict(weights)


class WhitenedEncoder(Encoder):
    """A residual network whose levels are W_k f_k + b_k, rectified; W_k is a 1x1 convolution.

    f_k is the output of stage k before its last ReLU, which hides half of what the stage found.
    Before W_k is set (`urd.backbones.whitening`) it is the identity: the levels are the stages'.
    W_k and b_k are no part of a weight file, since they are of the images that are inspected.
    """

    def __init__(self, tag: str, body: nn.Module, stages: tuple[Stage, Stage, Stage]) -> None:
        super().__init__(tag, body, stages)
        self.heads = nn.ModuleList(_identity(stage.channels) for stage in stages)
        for stage in self._residual_stages():
            stage[-1].act2 = nn.Identity()

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.features(images)
        return [functional.relu(w(f)) for w, f in zip(self.heads, features, strict=True)]

    def features(self, images: Tensor) -> list[Tensor]:
        """f_1, f_2, f_3."""
        body = cast(Any, self.body)
        found = []
        x = body.maxpool(body.act1(body.bn1(body.conv1(images))))
        for stage in self._residual_stages():
            found.append(stage(x))
            x = functional.relu(found[-1])
        return found

    @property
    def whitened(self) -> bool:
        """Whether W_k was set."""
        weights = [cast(Tensor, head.weight).flatten(1) for head in self.heads]
        return any((w != torch.eye(len(w), device=w.device)).any() for w in weights)

    def _residual_stages(self) -> tuple[Any, Any, Any]:
        body = cast(Any, self.body)
        return body.layer1, body.layer2, body.layer3


def _identity(channels: int) -> nn.Conv2d:
    """A 1x1 convolution that gives what it takes."""
    conv = nn.Conv2d(channels, channels, 1)
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


def build_encoder(tag: str) -> Encoder:
    """The encoder of a timm tag, or the built-in one, untrained; `weights` has the trained ones.

    Raises:
        UsageError: the tag is unknown to timm, or its pyramid has no levels at 4, 8 and 16.
    """
    name = architecture(tag)
    indices = pyramid_indices(name)
    body: Any = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
    channels = tuple(body.feature_info.channels())
    kind = WhitenedEncoder if tag == BUILTIN else Encoder
    return kind(tag, body, _stages(body, channels))


def pyramid_indices(tag: str) -> tuple[int, ...]:
    """Which of the backbone's levels have strides 4, 8 and 16."""
    if not timm.is_model(tag):
        near = difflib.get_close_matches(tag, timm.list_models(pretrained=True), n=3)
        hint = f" Near names: {', '.join(near)}." if near else ""
        raise UsageError(
            f"unknown backbone {quoted(tag)}: it is not '{BUILTIN}', and timm {timm.__version__} "
            f"has no such model.{hint}"
        )
    try:
        with torch.device("meta"):
            pyramid: Any = timm.create_model(tag, pretrained=False, features_only=True)
    except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"backbone {quoted(tag)} offers no feature pyramid, and the decoder needs one at "
            f"strides 4, 8 and 16 ({type(error).__name__})"
        ) from error
    reductions = list(pyramid.feature_info.reduction())
    if not all(reductions.count(stride) == 1 for stride in STRIDES):
        raise UsageError(
            f"backbone {quoted(tag)} has levels at strides {reductions}; the decoder needs one "
            "level each at 4, 8 and 16. Residual networks have them, for example resnet18.tv_in1k."
        )
    indices = tuple(reductions.index(stride) for stride in STRIDES)
    _check_maps(tag, pyramid, indices)
    return indices


def _check_maps(tag: str, pyramid: Any, indices: tuple[int, ...]) -> None:
    """Refuse backbones of a fixed image size, or whose maps are not (B, C, H, W)."""
    channels = pyramid.feature_info.channels()
    sides = [_PROBE // stride for stride in STRIDES]
    expected = [(1, channels[i], n, n) for i, n in zip(indices, sides, strict=True)]
    try:
        with torch.no_grad():
            maps = pyramid(torch.zeros(1, 3, _PROBE, _PROBE, device="meta"))
        shapes = [tuple(maps[index].shape) for index in indices]
    except Exception as error:  # each family refuses a foreign size in its own way
        raise UsageError(
            f"backbone {quoted(tag)} takes no image of {_PROBE}x{_PROBE}: {first_line(error)}"
        ) from error
    if shapes != expected:
        raise UsageError(f"backbone {quoted(tag)} gives maps of shapes {shapes}, not {expected}")


def _stages(body: nn.Module, channels: tuple[int, ...]) -> tuple[Stage, Stage, Stage]:
    """Block kind and depth of each residual stage; two basic blocks for other families."""
    stages = []
    for level, c in enumerate(channels, start=1):
        blocks = [
            block
            for block in getattr(body, f"layer{level}", nn.Module()).children()
            if isinstance(block, BasicBlock | Bottleneck)
        ]
        width = blocks[0].conv1.out_channels if blocks and _is_bottleneck(blocks[0]) else None
        stages.append(Stage(c, len(blocks) or 2, width))
    return cast(tuple[Stage, Stage, Stage], tuple(stages))


def _is_bottleneck(block: nn.Module) -> bool:
    return isinstance(block, Bottleneck)
