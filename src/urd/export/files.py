"""Write an exported file, compare it with torch, and keep it only if they agree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urd.detector import Detector
from urd.engines import EXPORTED, PRECISIONS, facts_of, open_exported, optional
from urd.errors import UrdError, UsageError
from urd.export import onnx_file, openvino_file
from urd.export.graph import InspectionGraph
from urd.export.parity import Parity, Pixels, compare, decoded
from urd.files import write_atomically, write_json

FORMATS = {name: suffix for suffix, name in EXPORTED.items()}
_TO_QUANTISE, _TO_COMPARE = 64, 64


@dataclass(frozen=True)
class Export:
    """What to write.

    Attributes:
        format: one of `FORMATS`. precision: float32; float16: of the weights; int8: convolutions.
        size: (H, W) of the images that the file will take; `None`: any.
        allow_changes: keep the file also where verdicts differ from torch's.
    """

    format: str
    precision: str = "float32"
    size: tuple[int, int] | None = None
    allow_changes: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS or self.precision not in PRECISIONS:
            raise UsageError(
                f"format is one of {', '.join(FORMATS)}, precision one of {', '.join(PRECISIONS)}"
            )
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"the size of the input is {self.size}; both sides must be positive")

    def files(self, out: Path) -> list[Path]:
        """What is written for `out`: with .xml go .bin, the weights, and with both a report.

        Raises:
            UsageError: `out` has not the suffix of the format.
        """
        suffix = FORMATS[self.format]
        if out.suffix != suffix:
            raise UsageError(f"{out} must end in {suffix}")
        weights = [out.with_suffix(".bin")] if self.format == "openvino" else []
        return [out, *weights, out.with_suffix(f"{suffix}.parity.json")]


def export(
    detector: Detector, out: Path, wanted: Export, images: Sequence[Path], good: Sequence[Path]
) -> Parity:
    """Write `out`, and `out` with the suffix .parity.json beside it.

    Args:
        images: to compare on, the first 64 that can be read.
        good: from which INT8 takes its ranges, the first 64 likewise.

    Raises:
        UsageError: a wrong suffix, no images, none that can be read, an extra that is missing.
        UrdError: verdicts differ from torch's, or the files cannot be written; nothing is kept.
    """
    suffix, report_file = FORMATS[wanted.format], wanted.files(out)[-1]
    if not images:
        raise UsageError("no images to compare on: give DATA, a folder of images or a data set")
    if wanted.precision == "int8" and not good:
        raise UsageError("INT8 takes its ranges from good training images: give DATA that has some")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"model{suffix}"
        _write(detector, written, wanted, good)
        engine, _ = open_exported(written)
        parity = compare(detector, engine, images[:_TO_COMPARE], wanted.size)
        if parity.verdicts_changed and not wanted.allow_changes:
            raise UrdError(
                f"{len(parity.verdicts_changed)} of {parity.images} verdicts differ from torch's, "
                f"first: {parity.verdicts_changed[0]}; nothing was written "
                "(--allow-changes writes it all the same)"
            )
        del engine  # the weights may be mapped into memory
        for part in sorted(Path(folder).glob("model.*"), key=lambda p: p.suffix == suffix):
            _keep(part, out.with_suffix(part.suffix))
    report = {**parity.to_dict(), "format": wanted.format, "precision": wanted.precision}
    write_json(report_file, report)
    return parity


def _write(detector: Detector, path: Path, wanted: Export, good: Sequence[Path]) -> None:
    facts = facts_of(detector.header, wanted.precision, wanted.size)
    model = onnx_file.onnx_model(InspectionGraph(detector), wanted.size)
    halved, quantised = wanted.precision == "float16", wanted.precision == "int8"
    ranges: list[Pixels] = []
    if quantised:
        # At the network's size, where the resizing of the graph changes nothing.
        size = wanted.size or detector.config.image_size
        ranges = [image for _, image in decoded(detector, good[:_TO_QUANTISE], size)]
        if not ranges:
            raise UsageError(f"none of the good images can be read, the first is {good[0]}")
    if wanted.format == "onnx":
        if halved:
            onnx_file.halve_weights(model)
        if quantised:
            model = onnx_file.quantise(model, ranges)
        onnx_file.add_facts(model, facts)
        optional("onnx", "onnx").save(model, path)
        return
    network: Any = openvino_file.openvino_model(model)
    if quantised:
        network = openvino_file.quantise(network, ranges)
    openvino_file.save(network, path, facts, halved=halved)


def _keep(part: Path, out: Path) -> None:
    write_atomically(out, lambda temporary: shutil.copyfile(part, temporary))
