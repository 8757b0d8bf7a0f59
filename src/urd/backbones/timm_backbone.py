"""Backbones of timm, named by their tags; weights come from timm's cache or a download."""

from __future__ import annotations

import timm
import torch
from torch import Tensor

from urd.backbones.base import Backbone
from urd.backbones.encoder import Colour, Encoder, Pyramid
from urd.backbones.hub import cached_weights_available, hub_address, hub_reachable, repository_of
from urd.backbones.pyramid import stages_of, timm_body
from urd.errors import UrdError

_INSTEAD = (
    "Or use --backbone builtin, which needs no file but is less accurate. "
    "`urd doctor` lists what is here."
)


class TimmBackbone(Backbone):
    """Any model of timm with feature maps at strides 4, 8 and 16."""

    @classmethod
    def claims(cls, tag: str) -> bool:
        return True

    @property
    def mean(self) -> Colour:
        return self._colours[0]

    @property
    def std(self) -> Colour:
        return self._colours[1]

    @property
    def _colours(self) -> tuple[Colour, Colour]:
        config = timm.get_pretrained_cfg(self.tag, allow_unregistered=True)
        if config is None:
            return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
        (r, g, b), (r_std, g_std, b_std) = config.mean, config.std
        return (r, g, b), (r_std, g_std, b_std)

    def build(self) -> Encoder:
        body = timm_body(self.tag)
        return Encoder(self.tag, body, Pyramid(stages_of(body)), self.mean, self.std)

    def own_weights(self, encoder: Encoder) -> dict[str, Tensor]:
        if not self.available():
            raise self._no_weights("the hub cannot be reached")
        try:
            body = timm_body(self.tag, pretrained=True)
        except Exception as error:  # the hub's client raises types of many libraries
            raise self._no_weights(f"download failed ({type(error).__name__})") from error
        state: dict[str, Tensor] = body.state_dict()
        return state

    def _no_weights(self, reason: str) -> UrdError:
        return UrdError(f"{reason}, and there are {self.how_to_get()} {_INSTEAD}")

    def all_shapes(self) -> dict[str, torch.Size]:
        with torch.device("meta"):
            full = timm.create_model(self.tag, pretrained=False)
        return {name: value.shape for name, value in full.state_dict().items()}

    def on_this_machine(self) -> bool:
        return cached_weights_available(self.tag)

    def available(self) -> bool:
        return self.on_this_machine() or hub_reachable()

    def how_to_get(self) -> str:
        if self.on_this_machine():
            return "its weights are in timm's cache"
        repository = repository_of(self.tag) or f"timm/{self.tag}"
        return (
            f"no pretrained weights of '{self.tag}' in timm's cache. On a machine with a network "
            f"fetch {hub_address()}/{repository}/resolve/main/model.safetensors and pass it with "
            "--weights FILE."
        )
