"""A detector as a file for other programs, checked against torch before it is kept."""

from urd.export.files import FORMATS, Export, Exported, export
from urd.export.own_thresholds import Unseen

__all__ = ["FORMATS", "Export", "Exported", "Unseen", "export"]
