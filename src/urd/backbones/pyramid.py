"""Find the levels of timm's models at strides 4, 8 and 16, and how their stages are built."""

from __future__ import annotations

import difflib
from typing import Any, cast

import timm
import torch
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from urd.backbones.encoder import STRIDES, Stage
from urd.errors import UsageError, first_line, quoted

_PROBE = 128


def timm_body(name: str, *, pretrained: bool = False) -> Any:
    """A timm model that returns its levels at strides 4, 8 and 16.

    Raises:
        UsageError: timm does not know the model, or it has no such levels.
    """
    indices = pyramid_indices(name)
    body = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=indices)
    if isinstance(body, EfficientNetFeatures):  # timm removes unused stages only of other families
        last = body.feature_info.get_dicts(keys=["stage"])[-1]["stage"]
        body.blocks = body.blocks[:last]
    return body


def pyramid_indices(tag: str) -> tuple[int, ...]:
    """Indices of the backbone's levels with strides 4, 8 and 16.

    Raises:
        UsageError: as `timm_body`.
    """
    if not timm.is_model(tag):
        near = difflib.get_close_matches(tag, timm.list_models(pretrained=True), n=3)
        hint = f" Near names: {', '.join(near)}." if near else ""
        raise UsageError(
            f"unknown backbone {quoted(tag)}: it is not 'builtin', no installed package "
            f"offers it, and timm {timm.__version__} has no such model.{hint}"
        )
    try:
        with torch.device("meta"):
            pyramid: Any = timm.create_model(tag, pretrained=False, features_only=True)
    except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"backbone {quoted(tag)} has no feature pyramid, and the decoder needs one at "
            f"strides 4, 8 and 16 ({type(error).__name__})"
        ) from error
    reductions = list(pyramid.feature_info.reduction())
    if not all(reductions.count(stride) == 1 for stride in STRIDES):
        raise UsageError(
            f"backbone {quoted(tag)} has levels at strides {reductions}; the decoder needs one "
            "level each at 4, 8 and 16. Use a residual network, for example resnet18.tv_in1k."
        )
    indices = tuple(reductions.index(stride) for stride in STRIDES)
    _check_maps(tag, pyramid, indices)
    return indices


def _check_maps(tag: str, pyramid: Any, indices: tuple[int, ...]) -> None:
    """Refuse backbones that need a fixed image size or return maps other than (B, C, H, W)."""
    channels = pyramid.feature_info.channels()
    sides = [_PROBE // stride for stride in STRIDES]
    expected = [(1, channels[i], n, n) for i, n in zip(indices, sides, strict=True)]
    try:
        with torch.no_grad():
            maps = pyramid(torch.zeros(1, 3, _PROBE, _PROBE, device="meta"))
        shapes = [tuple(maps[index].shape) for index in indices]
    except Exception as error:  # each family has its own error for a wrong image size
        raise UsageError(
            f"backbone {quoted(tag)} cannot use a {_PROBE}x{_PROBE} image: {first_line(error)}"
        ) from error
    if shapes != expected:
        raise UsageError(f"backbone {quoted(tag)} gives maps of shapes {shapes}, not {expected}")


def stages_of(body: Any) -> tuple[Stage, Stage, Stage]:
    """Block kind and depth of each residual stage; other families count as two basic blocks."""
    stages = []
    for level, c in enumerate(body.feature_info.channels(), start=1):
        blocks = [
            block
            for block in getattr(body, f"layer{level}", nn.Module()).children()
            if isinstance(block, BasicBlock | Bottleneck)
        ]
        bottleneck = bool(blocks) and isinstance(blocks[0], Bottleneck)
        width = blocks[0].conv1.out_channels if bottleneck else None
        stages.append(Stage(c, len(blocks) or 2, width))
    return cast(tuple[Stage, Stage, Stage], tuple(stages))
