"""Which engine opens which file."""

from __future__ import annotations

from pathlib import Path

from urd.engines.base import EXPORTED
from urd.engines.exported import ExportedEngine, with_facts
from urd.engines.facts import Facts
from urd.engines.onnx_engine import OnnxEngine
from urd.engines.openvino_engine import OpenVinoEngine
from urd.errors import UsageError
from urd.system.files import refuse_special

_KINDS: dict[str, type[ExportedEngine]] = {"onnx": OnnxEngine, "openvino": OpenVinoEngine}


def open_exported(path: Path) -> ExportedEngine:
    """The engine of an exported file; its `header` is what the file knows.

    Raises:
        UsageError: no such file, or the extra that opens it is not installed.
        UrdError: not a whole file of `urd export`.
    """
    refuse_special(path)
    if not path.is_file():
        raise UsageError(f"no exported file at {path}")
    return _KINDS[EXPORTED[path.suffix.lower()]](path)


def seal(path: Path, facts: Facts) -> None:
    """Give facts and checksum to what a runtime's own library has just written at `path`."""
    kind = _KINDS[EXPORTED[path.suffix.lower()]]
    contents = [part.read_bytes() for part in kind.parts(path)]
    path.write_bytes(with_facts(kind, contents, facts))
