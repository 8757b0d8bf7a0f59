"""The telemetry of libraries that we import is off, unless the user has switched it on himself.

ONNX Runtime, OpenVINO and NNCF report their use to their makers, and keep an identifier in the home
folder. An inspection machine calls nobody. `import urd` comes before the first import of any.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

# Read by ONNX Runtime as its library is loaded, and by huggingface_hub, which timm downloads with.
_SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
# What OpenVINO and NNCF report with. They have no switch, but do without where it is not installed.
_INTEL = "openvino_telemetry"


def switch_off() -> None:
    """For this process and those that it starts; leaves what the user has set as it is."""
    for name in _SWITCHES:
        os.environ.setdefault(name, "1")
    if _INTEL not in sys.modules and not _allowed_to_intel():
        sys.modules[_INTEL] = None  # type: ignore[assignment]  # to import it is an ImportError


def _allowed_to_intel() -> bool:
    """The user's answer, where `opt_in_out` of Intel's package keeps it."""
    windows = os.name == "nt"
    with suppress(OSError, KeyError, RuntimeError, ValueError):  # no home, or none that can be read
        home = Path(os.environ["LOCALAPPDATA"]) if windows else Path.home()
        answer = home / ("Intel Corporation" if windows else "intel") / _INTEL
        return answer.is_file() and answer.stat().st_size < 8 and answer.read_text().strip() == "1"
    return False
