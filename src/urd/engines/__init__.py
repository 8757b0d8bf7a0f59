"""What computes a detector's maps: torch, or a runtime that has opened an exported file."""

from urd.engines.base import EXPORTED, PRECISIONS, Engine, Maps, optional
from urd.engines.exported import ExportedEngine
from urd.engines.facts import Facts
from urd.engines.registry import open_exported
from urd.engines.torch_engine import TorchEngine

__all__ = [
    "EXPORTED",
    "PRECISIONS",
    "Engine",
    "ExportedEngine",
    "Facts",
    "Maps",
    "TorchEngine",
    "open_exported",
    "optional",
]
