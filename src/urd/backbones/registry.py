"""The families of backbones: the first one that claims a tag gets it."""

from __future__ import annotations

from collections.abc import Sequence

from urd.backbones.base import AUTO, Backbone
from urd.backbones.builtin import BuiltinBackbone
from urd.backbones.packaged import PackagedBackbone
from urd.backbones.timm_backbone import TimmBackbone

FAMILIES: tuple[type[Backbone], ...] = (BuiltinBackbone, PackagedBackbone, TimmBackbone)


def backbone_of(tag: str, weights: str = AUTO) -> Backbone:
    """The backbone of a tag; `Backbone.build` raises if it cannot be built."""
    family = next(family for family in FAMILIES if family.claims(tag))
    return family(tag, weights)


def choose_backbone(tags: Sequence[str], weights: str = AUTO) -> Backbone:
    """The first of several backbones whose weights are available.

    If `weights` is a file or `none`, that is the first backbone. The last backbone is not checked:
    if its weights are missing, loading it raises an error that says what to do.
    """
    candidates = [backbone_of(tag, weights) for tag in tags]
    if weights != AUTO:
        return candidates[0]
    available = (candidate for candidate in candidates[:-1] if candidate.available())
    return next(available, candidates[-1])
