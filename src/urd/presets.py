"""Presets: settings under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from urd.errors import UsageError, quoted

# A student and a memory together; see docs/accuracy.md.
_BOTH = {
    "variant": "urd-memory",
    "score": "auto",
    "backbone": "resnet18.tv_in1k,tf_efficientnet_lite0.in1k,builtin",
    "batch_size": 8,
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"warm_up": 0, "schedule": "constant"},
    "fast": {**_BOTH, "iterations": 100, "epochs": 4.0, "memory": 4096},
    "edge": {
        **_BOTH,
        "backbone": "tf_efficientnet_lite0.in1k,resnet18.tv_in1k,builtin",
        "student": "slim",
        "iterations": 300,
        "memory": 1024,
    },
    "best": {**_BOTH, "iterations": 3000, "memory": 16384},
}


def of_preset(name: Any) -> dict[str, Any]:
    """The settings of a preset; `None` gives no settings.

    Raises:
        UsageError: there is no such preset.
    """
    if name is None:
        return {}
    if not isinstance(name, str) or name not in PRESETS:
        raise UsageError(f"unknown preset {quoted(name)}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def overridden(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `base` with `given` on top.

    Who names a number of iterations gets it: the epochs of `base` do not raise it.
    """
    kept = {k: v for k, v in base.items() if not (k == "epochs" and "iterations" in given)}
    return {**kept, **given}
