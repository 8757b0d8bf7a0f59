"""URD: visual anomaly detection with expert, teacher and student networks.

`from urd import Detector` is the whole public interface; torch is imported with it, not with `urd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from urd.detector import Detector, Prediction
    from urd.errors import UrdError, UsageError

__version__ = "0.1.0"
__all__ = ["Detector", "Prediction", "UrdError", "UsageError", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Detector", "Prediction"):
        from urd import detector

        return getattr(detector, name)
    if name in ("UrdError", "UsageError"):
        from urd import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'urd' has no attribute '{name}'")
