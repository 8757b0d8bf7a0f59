"""Which backbones there are: one line for each family, the first that claims a tag has it."""

from __future__ import annotations

from collections.abc import Sequence

from urd.backbones.base import AUTO, Backbone
from urd.backbones.builtin import BuiltinBackbone
from urd.backbones.timm_backbone import TimmBackbone

FAMILIES: tuple[type[Backbone], ...] = (BuiltinBackbone, TimmBackbone)


def backbone_of(tag: str, weights: str = AUTO) -> Backbone:
    """The backbone of a tag; whether it can be built, `Backbone.build` tells."""
    family = next(family for family in FAMILIES if family.claims(tag))
    return family(tag, weights)


def choose_backbone(tags: Sequence[str], weights: str = AUTO) -> Backbone:
    """Of several backbones the first whose weights are available.

    That is the first one where `weights` names a file or none. Whether the last one's are available
    is not asked: loading it tells, and says what to do.
    """
    candidates = [backbone_of(tag, weights) for tag in tags]
    if weights != AUTO:
        return candidates[0]
    available = (candidate for candidate in candidates[:-1] if candidate.available())
    return next(available, candidates[-1])
