"""The registry of engines for exported files."""

from __future__ import annotations

from pathlib import Path

from urd.engines.exported import ExportedEngine, with_facts
from urd.engines.facts import Facts
from urd.engines.onnx_engine import OnnxEngine
from urd.engines.openvino_engine import OpenVinoEngine
from urd.errors import UsageError
from urd.system.files import refuse_special

ENGINES: tuple[type[ExportedEngine], ...] = (OnnxEngine, OpenVinoEngine)


def is_exported(path: Path) -> bool:
    """Whether the suffix of a file is that of an exported file."""
    return path.suffix.lower() in _by_suffix()


def engine_of_format(name: str) -> type[ExportedEngine]:
    """The engine for a format of `urd export --format`."""
    return next(engine for engine in ENGINES if engine.format == name)


def exported_files(path: Path) -> list[Path]:
    """The files of one export; `path` is the first."""
    return _by_suffix()[path.suffix.lower()].parts(path)


def open_exported(path: Path) -> ExportedEngine:
    """Open an exported file; the result has its `header`.

    Raises:
        UsageError: the file is missing, or the extra that opens it is not installed.
        UrdError: the file is not a whole file of `urd export`.
    """
    refuse_special(path)
    if not path.is_file():
        raise UsageError(f"no exported file at {path}")
    return _by_suffix()[path.suffix.lower()](path)


def seal(path: Path, facts: Facts) -> None:
    """Add facts and checksum to a file that the library of a runtime has just written."""
    engine = _by_suffix()[path.suffix.lower()]
    contents = [part.read_bytes() for part in engine.parts(path)]
    path.write_bytes(with_facts(engine, contents, facts))


def _by_suffix() -> dict[str, type[ExportedEngine]]:
    return {engine.suffix: engine for engine in ENGINES}
