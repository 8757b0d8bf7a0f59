"""What every backbone is to the rest: how it is built, loaded, prepared and told from others."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from urd.backbones.encoder import Colour, Encoder, has_signed_levels
from urd.backbones.weights import load_state, read_weights
from urd.system.seeding import on_seeded_generator

AUTO, NONE = "auto", "none"


class Backbone(ABC):
    """A pretrained encoder by its tag, and where its weights come from.

    A new family is a class of its own and a line in `registry.py`.

    Args:
        tag: as `--backbone` names it.
        weights: `auto`: its own; `none`: untrained; or a weight file.
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
        """Of each RGB channel in [0, 1], with which it was trained; `std` likewise."""

    @property
    @abstractmethod
    def std(self) -> Colour: ...

    @property
    def pretrained(self) -> bool:
        return self.weights != NONE

    @property
    def ships_weights(self) -> bool:
        """Whether its own weights come with urd, so that no file is needed."""
        return False

    @property
    def warm_up(self) -> int:
        """Iterations over which a student's learning rate should rise at first."""
        return 0

    @abstractmethod
    def build(self) -> Encoder:
        """The encoder without its weights.

        Raises:
            UsageError: it cannot be built: an unknown tag, or no levels at strides 4, 8 and 16.
        """

    @abstractmethod
    def own_weights(self, encoder: Encoder) -> dict[str, Tensor]:
        """The weights that `auto` means.

        Raises:
            UrdError: they are not on this machine and cannot be downloaded, or are damaged.
        """

    @abstractmethod
    def all_shapes(self) -> dict[str, torch.Size]:
        """Names and shapes of the whole model, of which the encoder is the first part."""

    @abstractmethod
    def on_this_machine(self) -> bool:
        """Whether its own weights lie here; asks no network."""

    def available(self) -> bool:
        """Whether its own weights lie here or can be downloaded."""
        return self.on_this_machine()

    @abstractmethod
    def how_to_get(self) -> str:
        """What to tell a user about its own weights: where they lie, or how to get them."""

    def load(self, generator: torch.Generator) -> Encoder:
        """The encoder with its weights; untrained ones are drawn from `generator`.

        Raises:
            UsageError: as `build`, or the weight file cannot be used.
            UrdError: as `own_weights`.
        """
        with on_seeded_generator(generator):  # libraries draw from the global one
            encoder = self.build()
        if self.weights == NONE:
            _open_branches(encoder)
        else:
            source = f"the weights of {self.tag}" if self.weights == AUTO else self.weights
            load_state(encoder, self._state(encoder), source, self.all_shapes())
        encoder.pyramid = replace(encoder.pyramid, signed=has_signed_levels(encoder))
        return encoder

    def _state(self, encoder: Encoder) -> Mapping[str, Tensor]:
        if self.weights == AUTO:
            return self.own_weights(encoder)
        return read_weights(Path(self.weights))

    def images_to_prepare(self, height: int, width: int) -> int:
        """How many good images of this size `prepare` looks at; 0: none."""
        return 0

    def prepare(  # noqa: B027 - most families need none
        self, expert: Encoder, teacher: Encoder | None, images: Tensor
    ) -> None:
        """Fit freshly loaded encoders to good images, before the first iteration.

        Args:
            expert: changed in place. teacher: a copy of it that will learn, on its device and in
                its memory format; `None`: no teacher learns.
            images: good images (N, 3, H, W) uint8.
        """

    def identity(self, *, teacher_learns: bool) -> str:
        """What tells results with this backbone from others, beside the settings.

        It names the weights, and whatever else of the backbone shapes a result.
        """
        path = Path(self.weights)
        if self.weights in (AUTO, NONE) or not path.is_file():
            return self.weights
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _open_branches(encoder: Encoder) -> None:
    """Let every residual branch of an untrained encoder contribute.

    timm starts the last norm of each branch at zero, so that the whole stage begins as the identity
    and its random filters are never seen; that helps long training and makes poor fixed features.
    """
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
