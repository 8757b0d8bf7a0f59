"""URD: visual anomaly detection with expert, teacher and student networks.

`from urd import Detector` is the whole public interface; torch is imported with it, not with `urd`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from urd.system.telemetry import switch_off

if TYPE_CHECKING:
    from urd.detector import Detector
    from urd.errors import UrdError, UsageError
    from urd.inspection.prediction import Prediction

__version__ = "0.1.0"
__all__ = ["Detector", "Prediction", "UrdError", "UsageError", "__version__"]
_HOMES = {
    "Detector": "urd.detector",
    "Prediction": "urd.inspection.prediction",
    "UrdError": "urd.errors",
    "UsageError": "urd.errors",
}

switch_off()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'urd' has no attribute '{name}'")
