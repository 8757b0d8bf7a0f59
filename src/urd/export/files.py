"""Write an exported file, compare it with torch, and keep it only if both agree."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urd.detector import Detector
from urd.engines.base import PRECISIONS
from urd.engines.exported import ExportedEngine
from urd.engines.facts import MOST_PIXELS, Facts
from urd.engines.registry import engine_of_format, seal
from urd.errors import NotWritten, UrdError, UsageError
from urd.export import onnx_file
from urd.export.formats import FORMATS
from urd.export.graph import InspectionGraph
from urd.export.own_thresholds import Unseen, calibrate_file, unseen_by_training
from urd.export.parity import Parity, Pixels, compare, decoded
from urd.system.files import json_text, make_folder, temporary_folder, write_together, writing

_MOST_IMAGES = 64  # for the INT8 ranges, and for the comparison
_MOST_SECONDS_TO_WAIT = 60.0  # for another writer of the folder


@dataclass(frozen=True)
class Export:
    """What to write.

    Attributes:
        format: a key of `FORMATS`.
        precision: float32; float16 (weights); int8 (convolutions).
        size: (H, W) of the input images; `None`: any size.
        allow_changes: keep the file even if verdicts differ from torch's.
    """

    format: str
    precision: str = "float32"
    size: tuple[int, int] | None = None
    allow_changes: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS or self.precision not in PRECISIONS:
            raise UsageError(
                f"choose a format from {', '.join(FORMATS)} and "
                f"a precision from {', '.join(PRECISIONS)}"
            )
        if self.size is None:
            return
        if min(self.size) < 1 or self.size[0] * self.size[1] > MOST_PIXELS:
            raise UsageError(
                f"the input size is {self.size}; both sides must be positive, with at most "
                f"{MOST_PIXELS // 10**6} megapixels"
            )

    def files(self, out: Path) -> list[Path]:
        """The files to write for `out`: the file, for .xml also the weights (.bin), and a report.

        Raises:
            UsageError: `out` does not have the suffix of the format.
        """
        engine = engine_of_format(self.format)
        if out.suffix != engine.suffix:
            raise UsageError(f"{out} must end in {engine.suffix}")
        return [*engine.parts(out), out.with_suffix(f"{engine.suffix}.parity.json")]


@dataclass(frozen=True)
class Exported:
    """The written file: its comparison with torch and its facts."""

    parity: Parity
    facts: Facts

    def to_dict(self) -> dict[str, Any]:
        thresholds = self.facts.texts()
        kept = {k: v for k, v in thresholds.items() if "threshold" in k or k == "urd_precision"}
        return {**self.parity.to_dict(), **kept}


def export(
    detector: Detector,
    out: Path,
    wanted: Export,
    images: Sequence[Path],
    good: Sequence[Path],
    unseen: Unseen | None = None,
    calibrated_on: Path | None = None,
) -> Exported:
    """Write `out`, and a report beside it whose name ends in .parity.json.

    The thresholds come from the file's own scores, on `unseen` or on the images that calibrated the
    detector. If these images are not found, the thresholds are torch's.

    Args:
        images: for the comparison; at most 64 are used.
        good: all training images, for the INT8 ranges; at most 64 are used.
        unseen: images that set the thresholds.
        calibrated_on: the folder of the last `urd calibrate`, which is searched without `unseen`.

    Raises:
        UsageError: a wrong suffix, no images, no readable image, or a missing extra.
        UrdError: verdicts differ from torch's, or a file cannot be written; nothing is kept.
    """
    if not images:
        raise UsageError(
            "there are no images to compare on: give DATA, a folder of images or a data set"
        )
    if wanted.precision == "int8" and not good:
        raise UsageError(
            "INT8 needs good training images for its ranges: give DATA with such images"
        )
    unseen = unseen or unseen_by_training(detector, good, calibrated_on)
    make_folder(out.parent)
    try:
        with temporary_folder(out.parent) as folder, _temporary_files_in(folder):
            return _export_in(folder, detector, out, wanted, images, good, unseen)
    except OSError as error:
        raise NotWritten(f"cannot write {out}: {error.strerror or error}") from error


def _export_in(
    folder: Path,
    detector: Detector,
    out: Path,
    wanted: Export,
    images: Sequence[Path],
    good: Sequence[Path],
    unseen: Unseen | None,
) -> Exported:
    """Write the file in `folder`, compare it with torch, and move it to `out`."""
    written = folder / f"model{out.suffix}"
    kept_apart = set(unseen.paths) if unseen else set()
    ranges = [path for path in good if path not in kept_apart] or good
    calibrated = unseen is not None or detector.header.calibration is not None
    _write(detector, written, wanted, ranges, calibrated=calibrated)
    opened = Detector.load(written)
    opened.reading = detector.reading
    if unseen:
        calibrate_file(opened, written, unseen, detector.header.calibration)
        opened = Detector.load(written)
    parity = compare(detector, opened, _spread(images), wanted.size)
    if parity.verdicts_changed and not wanted.allow_changes:
        raise UrdError(
            f"{len(parity.verdicts_changed)} of {parity.images} verdicts differ from torch's, "
            f"first: {parity.verdicts_changed[0]} ({parity.changes[0]}); nothing was written. Use "
            "another --precision, or --allow-changes to write the file anyway"
        )
    assert isinstance(opened.engine, ExportedEngine)
    exported = Exported(parity, opened.engine.facts)
    report = json_text({**exported.to_dict(), "format": wanted.format})
    file, *weights, report_file = wanted.files(out)
    with writing(out.parent, below=False, wait=_MOST_SECONDS_TO_WAIT):
        write_together(
            {
                report_file: lambda new: new.write_text(report, encoding="utf-8"),
                **{path: written.with_suffix(path.suffix).replace for path in weights},
                file: written.replace,
            }
        )
    return exported


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Make libraries put temporary files here, so a killed export leaves nothing elsewhere."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _write(
    detector: Detector, path: Path, wanted: Export, good: Sequence[Path], *, calibrated: bool
) -> None:
    """Write the network in the format, with the facts of the detector and torch's thresholds."""
    model = onnx_file.onnx_model(InspectionGraph(detector, calibrated=calibrated), wanted.size)
    ranges: list[Pixels] = []
    if wanted.precision == "int8":
        # At the network's size, so the resizing in the graph changes nothing.
        size = wanted.size or detector.config.image_size
        ranges = [image for _, image in decoded(detector, _spread(good), size)]
        if not ranges:
            raise UsageError(f"none of the good images can be read; the first is {good[0]}")
    FORMATS[wanted.format](model, path, wanted.precision, ranges)
    seal(path, Facts(detector.header.without_paths(), wanted.precision, wanted.size))


def _spread(paths: Sequence[Path]) -> Sequence[Path]:
    step = max(1, len(paths) // _MOST_IMAGES)
    return paths[::step][:_MOST_IMAGES]
