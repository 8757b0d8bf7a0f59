"""URD: visual anomaly detection with expert, teacher and student networks.

    from urd import Detector

    detector = Detector.fit("data/screw", out="runs/screw")
    detector.predict("part.png").verdict

The names below are the public interface. Each name is imported when it is first used. torch is
imported only to train or to run a model file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from urd.system.telemetry import switch_off
from urd.system.versions import VERSION

if TYPE_CHECKING:
    from urd.config import FitConfig
    from urd.detector import Detector
    from urd.errors import NotJudged, NotWritten, UrdError, UsageError
    from urd.evaluation.records import Evaluation
    from urd.inspection.defects import Defect
    from urd.inspection.judge import Inspection
    from urd.inspection.prediction import Failure, Prediction

__version__ = VERSION
__all__ = [
    "Defect",
    "Detector",
    "Evaluation",
    "Failure",
    "FitConfig",
    "Inspection",
    "NotJudged",
    "NotWritten",
    "Prediction",
    "UrdError",
    "UsageError",
    "__version__",
]
_HOMES = {
    "Defect": "urd.inspection.defects",
    "Detector": "urd.detector",
    "Evaluation": "urd.evaluation.records",
    "Failure": "urd.inspection.prediction",
    "FitConfig": "urd.config",
    "Inspection": "urd.inspection.judge",
    "NotJudged": "urd.errors",
    "NotWritten": "urd.errors",
    "Prediction": "urd.inspection.prediction",
    "UrdError": "urd.errors",
    "UsageError": "urd.errors",
}

switch_off()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'urd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
