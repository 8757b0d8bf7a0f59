"""What works on this machine: versions, processor, and the backbones with weights here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import torch

from urd.backbones.builtin import BUILTIN
from urd.backbones.packaged import PACKAGES
from urd.backbones.registry import backbone_of
from urd.config import resolve_config
from urd.errors import UrdError, UsageError
from urd.presets import PRESETS
from urd.system.extras import how_to_install
from urd.system.machine import computes_in_bfloat16, machine
from urd.system.versions import current_versions

_EXTRAS = {  # modules that each extra installs; they are searched, not imported
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino", "nncf", "onnx", "onnxscript"),
    "anomalib": ("anomalib",),
    "imagenet": tuple(package.module for package in PACKAGES.values()),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "watchfiles"),
    "mqtt": ("paho",),
    "modbus": ("pymodbus",),
    "tensorboard": ("tensorboard",),
}
_ON_THE_LINE = {  # what each extra gives to a line
    "urd watch and urd serve": "serve",
    "events by MQTT": "mqtt",
    "state by Modbus": "modbus",
    "ONNX files": "onnx",
    "OpenVINO files": "openvino",
}


@dataclass(frozen=True)
class BackboneFinding:
    """Whether `urd fit --backbone TAG` can start here without a network, and the reason."""

    tag: str
    usable: bool
    reason: str


@dataclass(frozen=True)
class Findings:
    """The results of `urd doctor`.

    `missing_extras` says how to install each missing extra; `line` whether a part of a line works.
    """

    versions: dict[str, str]
    machine: dict[str, Any]
    bfloat16: bool
    backbones: list[BackboneFinding]
    missing_extras: list[str]
    line: dict[str, bool]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def doctor(tags: Sequence[str] = ()) -> Findings:
    """Examine the machine and the backbones of the presets and `tags`, without a network."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    preferred = [tag for preset in PRESETS for tag in resolve_config(preset=preset).backbone]
    return Findings(
        current_versions(),
        machine(device),
        computes_in_bfloat16(device),
        [_examine(tag) for tag in dict.fromkeys([BUILTIN, *preferred, *tags])],
        [how_to_install(extra) for extra in _EXTRAS if not _is_installed(extra)],
        {what: _is_installed(extra) for what, extra in _ON_THE_LINE.items()},
    )


def _is_installed(extra: str) -> bool:
    return all(map(find_spec, _EXTRAS[extra]))


def _examine(tag: str) -> BackboneFinding:
    try:
        backbone = backbone_of(tag)
        backbone.build()
        return BackboneFinding(tag, backbone.on_this_machine(), backbone.how_to_get())
    except (UrdError, UsageError) as error:
        return BackboneFinding(tag, False, str(error))
