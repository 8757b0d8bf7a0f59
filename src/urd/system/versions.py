"""The version of this package, and of what results depend on."""

from __future__ import annotations

import platform

VERSION = "0.1.0"


def current_versions() -> dict[str, str]:
    """Versions of urd, torch, timm and Python, as files and `urd doctor` name them."""
    import timm
    import torch

    return {
        "urd": VERSION,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
