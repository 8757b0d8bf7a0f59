"""What works on this machine: versions, processor, and which backbones have their weights here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import torch

from urd.backbones.builtin import BUILTIN, builtin_weights
from urd.backbones.encoder import build_encoder
from urd.backbones.weights import cached_weights_available, how_to_get
from urd.config import PRESETS
from urd.errors import UrdError, UsageError
from urd.model.file import current_versions
from urd.system.extras import how_to_install
from urd.system.machine import computes_in_bfloat16, machine

_EXTRAS = {  # what each brings; looked for, not imported
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino", "nncf", "onnx", "onnxscript"),
    "anomalib": ("anomalib",),
}


@dataclass(frozen=True)
class Backbone:
    """Whether `urd fit --backbone TAG` can start here without a network, and why or why not."""

    tag: str
    usable: bool
    reason: str


@dataclass(frozen=True)
class Findings:
    """Everything that `urd doctor` has looked at; of missing extras how to install them."""

    versions: dict[str, str]
    machine: dict[str, Any]
    bfloat16: bool
    backbones: list[Backbone]
    missing_extras: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def doctor(tags: Sequence[str] = ()) -> Findings:
    """Look at the machine and at the backbones of the presets and of `tags`; asks no network."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    preferred = [tag for preset in PRESETS.values() for tag in preset["backbone"].split(",")]
    return Findings(
        current_versions(),
        machine(device),
        computes_in_bfloat16(device),
        [_examine(tag) for tag in dict.fromkeys([BUILTIN, *preferred, *tags])],
        [
            how_to_install(extra)
            for extra, needs in _EXTRAS.items()
            if not all(map(find_spec, needs))
        ],
    )


def _examine(tag: str) -> Backbone:
    try:
        if tag == BUILTIN:
            builtin_weights()
            return Backbone(tag, True, "comes with urd")
        build_encoder(tag)
        if cached_weights_available(tag):
            return Backbone(tag, True, "its weights lie in timm's cache")
        return Backbone(tag, False, how_to_get(tag))
    except (UrdError, UsageError) as error:
        return Backbone(tag, False, str(error))
