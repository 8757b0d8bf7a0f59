"""Switch off the telemetry of libraries that we import, unless the user has switched it on.

ONNX Runtime, OpenVINO and NNCF report their use to their makers and keep an identifier in the home
folder. An inspection machine must not do so. `import urd` runs before any of them is imported.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

# ONNX Runtime reads its variable when it loads; huggingface_hub, which timm downloads with, too.
_SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
# OpenVINO and NNCF report through this package. They have no switch, but work without it.
_INTEL = "openvino_telemetry"


def switch_off() -> None:
    """Switch it off for this process and its children; settings of the user stay."""
    for name in _SWITCHES:
        os.environ.setdefault(name, "1")
    if _INTEL not in sys.modules and not _allowed_to_intel():
        sys.modules[_INTEL] = None  # type: ignore[assignment]  # importing it now raises ImportError


def _allowed_to_intel() -> bool:
    """Read the user's answer from the file where `opt_in_out` of Intel's package keeps it."""
    windows = os.name == "nt"
    with suppress(OSError, KeyError, RuntimeError, ValueError):  # no home, or not readable
        home = Path(os.environ["LOCALAPPDATA"]) if windows else Path.home()
        answer = home / ("Intel Corporation" if windows else "intel") / _INTEL
        return answer.is_file() and answer.stat().st_size < 8 and answer.read_text().strip() == "1"
    return False
