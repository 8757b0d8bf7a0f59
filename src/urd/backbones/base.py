"""The interface of a backbone: how to build, load, prepare and identify it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from urd.backbones.encoder import Colour, Encoder, has_signed_levels, refuse_other_levels
from urd.backbones.weights import load_state, read_weights
from urd.system.seeding import on_seeded_generator

AUTO, NONE = "auto", "none"


class Backbone(ABC):
    """A pretrained encoder, named by its tag, and the source of its weights.

    To add a family, write a class and add a line to `registry.py`.

    Args:
        tag: its name for `--backbone`.
        weights: `auto` (its own weights), `none` (untrained) or a weight file.
    """

    def __init__(self, tag: str, weights: str = AUTO) -> None:
        self.tag = tag
        self.weights = weights

    @classmethod
    @abstractmethod
    def claims(cls, tag: str) -> bool:
        """Whether a tag belongs to this family."""

    @property
    @abstractmethod
    def mean(self) -> Colour:
        """Mean of each RGB channel in [0, 1] that it was trained with."""

    @property
    @abstractmethod
    def std(self) -> Colour:
        """Standard deviation of each RGB channel that it was trained with."""

    @property
    def pretrained(self) -> bool:
        return self.weights != NONE

    @property
    def ships_weights(self) -> bool:
        """Whether its own weights come with urd, so that no file is needed."""
        return False

    @abstractmethod
    def build(self) -> Encoder:
        """The encoder without its weights.

        Raises:
            UsageError: the tag is unknown, or there are no levels at strides 4, 8 and 16.
        """

    @abstractmethod
    def own_weights(self, encoder: Encoder) -> dict[str, Tensor]:
        """The weights for the setting `auto`.

        Raises:
            UrdError: they are damaged, or neither on this machine nor downloadable.
        """

    @abstractmethod
    def all_shapes(self) -> dict[str, torch.Size]:
        """Names and shapes of the whole model; the encoder is its first part."""

    @abstractmethod
    def on_this_machine(self) -> bool:
        """Whether its own weights are on this machine; does not use the network."""

    def available(self) -> bool:
        """Whether its own weights are on this machine or can be downloaded."""
        return self.on_this_machine()

    @abstractmethod
    def how_to_get(self) -> str:
        """Text for the user: where its own weights are, or how to get them."""

    def load(self, generator: torch.Generator) -> Encoder:
        """The encoder with its weights; `generator` draws untrained ones.

        Raises:
            UsageError: as in `build`, the weight file cannot be used, or the levels have other
                sizes than `Encoder` promises.
            UrdError: as in `own_weights`.
        """
        with on_seeded_generator(generator):  # libraries draw from the global generator
            encoder = self.build()
        if self.weights == NONE:
            _open_branches(encoder)
        else:
            source = f"the weights of {self.tag}" if self.weights == AUTO else self.weights
            load_state(encoder, self._state(encoder), source, self.all_shapes())
        refuse_other_levels(encoder)
        encoder.pyramid = replace(encoder.pyramid, signed=has_signed_levels(encoder))
        return encoder

    def _state(self, encoder: Encoder) -> Mapping[str, Tensor]:
        if self.weights == AUTO:
            return self.own_weights(encoder)
        return read_weights(Path(self.weights))

    def images_to_prepare(self, height: int, width: int) -> int:
        """How many good images of this size `prepare` needs; 0: none."""
        return 0

    def prepare(  # noqa: B027 - most families need none
        self, expert: Encoder, teacher: Encoder | None, images: Tensor
    ) -> None:
        """Fit freshly loaded encoders to good images, before the first iteration.

        Args:
            expert: changed in place.
            teacher: a copy of the expert that will learn, in its final device and memory format;
                `None`: no teacher learns.
            images: good images (N, 3, H, W) uint8.
        """

    def identity(self, *, teacher_learns: bool) -> str:
        """A text that differs whenever results with this backbone may differ.

        It names the weights and all other properties of the backbone that affect a result; the
        settings are compared separately.
        """
        path = Path(self.weights)
        if self.weights in (AUTO, NONE) or not path.is_file():
            return self.weights
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _open_branches(encoder: Encoder) -> None:
    """Make every residual branch of an untrained encoder contribute.

    timm initialises the last norm of each branch to zero, so a stage begins as the identity and
    hides its random filters. That helps long training, but gives poor fixed features.
    """
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
