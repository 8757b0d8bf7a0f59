"""Finds the jobs of results from version 0.1, which have no version of the method.

Version 0.1 identified a job by its settings that differ from the defaults. These defaults are
frozen here, so that its results are found even if the defaults change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from urd import method_version
from urd.config import options

METHOD_VERSION = 1  # the method of version 0.1
_DEFAULTS: dict[str, Any] = {
    "variant": "urd",
    "backbone": "wide_resnet50_2.tv_in1k",
    "weights": "auto",
    "student": "full",
    "textures": "procedural",
    "foreground": "auto",
    "roi": "",
    "ignore": "",
    "iterations": 5000,
    "batch_size": 16,
    "image_size": [256, 256],
    "seed": 0,
    "device": "auto",
    "precision": "auto",
    "holdout": 0.1,
    "validate_every": 0,
    "mask_resize": "chained",
    "student_lr": 0.005,
    "teacher_lr": 0.0001,
    "schedule": "constant",
    "checkpoint_seconds": 120.0,
    "white_level": 65535,
    "max_megapixels": 100,
    "page": 0,
}
# Later options, with the value that gives the same training as before.
_LATER: dict[str, Any] = {"warm_up": -1}
_INPUTS = ("images", "weights", "textures")


def is_of_the_method() -> bool:
    """Whether the method is still that of version 0.1; if not, its results are outdated."""
    return method_version.METHOD_VERSION == METHOD_VERSION


def settings_today(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a result of version 0.1, as a job has them today."""
    machine = set(options(scope="machine"))
    whole = {**_DEFAULTS, **_LATER, **settings}
    own = {key: value for key, value in whole.items() if key not in machine}
    return own | ({"weights": "none"} if whole["weights"] == "none" else {})


def digest(data: str, category: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The digest of a job in version 0.1.

    Args:
        inputs: fingerprints; version 0.1 used only those of images, weights and textures.
    """
    unchanged = {**_DEFAULTS, **_LATER}
    missing = object()
    chosen = {k: v for k, v in settings.items() if v != unchanged.get(k, missing)}
    identity = [data, category, chosen, {key: inputs[key] for key in _INPUTS}]
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
