"""The families of backbones: the first one that claims a tag gets it.

A package that is installed can add a backbone: an entry point of the group `urd.backbones` whose
name is the tag, and whose object is a class of `Backbone`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from urd.backbones.base import AUTO, Backbone
from urd.backbones.builtin import BuiltinBackbone
from urd.backbones.packaged import PackagedBackbone
from urd.backbones.timm_backbone import TimmBackbone
from urd.errors import UrdError, first_line

FAMILIES: tuple[type[Backbone], ...] = (BuiltinBackbone, PackagedBackbone, TimmBackbone)

GROUP = "urd.backbones"  # of entry points


def backbone_of(tag: str, weights: str = AUTO) -> Backbone:
    """The backbone of a tag; `Backbone.build` raises if it cannot be built.

    Raises:
        UrdError: an installed package offers this tag, but cannot be loaded.
    """
    family = next(family for family in FAMILIES if family.claims(tag))
    if family is TimmBackbone:  # it claims every tag
        family = _installed(tag) or family
    return family(tag, weights)


def _installed(tag: str) -> type[Backbone] | None:
    """The class that an installed package offers for a tag. Other packages are not loaded."""
    for point in entry_points(group=GROUP, name=tag):
        try:
            family = point.load()
        except Exception as error:  # whatever the package does when it is imported
            raise UrdError(
                f"the backbone {tag} cannot be loaded from {point.value}: {first_line(error)}"
            ) from error
        if not (isinstance(family, type) and issubclass(family, Backbone)):
            raise UrdError(f"the backbone {tag}: {point.value} is not a class of Backbone")
        return family
    return None


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
