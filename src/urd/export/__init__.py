"""A detector as a file for other programs, checked against torch before it is kept."""

from urd.export.files import FORMATS, Export, export

__all__ = ["FORMATS", "Export", "export"]
