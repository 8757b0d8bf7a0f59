"""What a worker is told once: the model, and how to judge with it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from urd.data import Reading
from urd.detector import Detector
from urd.engines.registry import exported_files, is_exported
from urd.errors import UrdError, UsageError, first_line
from urd.inspection.judge import Inspection
from urd.model.run_folder import model_file_of
from urd.system.files import refuse_special

ModelFiles = Mapping[str, bytes]  # by name; the first is the one that is opened


@dataclass(frozen=True)
class Order:
    """How the images are judged; everything but the model itself.

    Attributes:
        uris: as `FoundImages.uris`.
        device: cpu or cuda. precision: float32 or bfloat16; `None`: the file has its own.
        threads: of each worker.
        reading: how images are read.
        roi, ignore: folders with one region per image, as `Detector.inspect_in`; empty: none.
        overlays: which images get a picture, a key of `urd.results.prediction_files.OVERLAYS`.
        overlay_side: pixels of the longer side of pictures of larger images; 0 keeps every pixel.
        missing: folders of images that the user has named and that do not exist.
    """

    uris: tuple[str, ...]
    device: str
    precision: str | None
    threads: int
    batch_size: int
    inspection: Inspection
    reading: Reading
    roi: str = ""
    ignore: str = ""
    overlays: str = "none"
    overlay_side: int = 0
    missing: frozenset[str] = frozenset()

    def settings(self, model: ModelFiles) -> dict[str, Any]:
        """What a row depends on, as plain values. Rounding alone depends on more."""
        digest = hashlib.sha256(b"".join(model.values())).hexdigest()
        return {
            "model_sha256": digest,
            "precision": self.precision,
            **asdict(self.inspection),
            **asdict(self.reading),
            "roi": self.roi,
            "ignore": self.ignore,
            "overlays": self.overlays,
            "overlay_side": self.overlay_side,
        }

    def open(self, model: ModelFiles) -> Detector:
        """The detector of the model, on the device of the order.

        Raises:
            UsageError, UrdError: as `Detector.load` and `Detector.inspect_in`.
        """
        import cv2

        os.environ["OMP_NUM_THREADS"] = str(self.threads)  # the runtimes of exported files read it
        cv2.setNumThreads(self.threads)
        with _on_disk(model) as path:
            exported = is_exported(path)
            detector = Detector.load(path, self.device, None if exported else self.precision)
        if not exported:
            import torch

            torch.set_num_threads(self.threads)
        detector.reading = self.reading
        if self.roi or self.ignore:
            detector.inspect_in(self.roi, self.ignore)
        return detector


def model_files(run: Path) -> dict[str, bytes]:
    """The files of RUN: a run folder, a model file or an exported file.

    Raises:
        UsageError, UrdError: there is no such file, or it cannot be read.
    """
    path = model_file_of(run)
    parts = exported_files(path) if is_exported(path) else [path]
    try:
        for part in parts:
            refuse_special(part)
        return {part.name: part.read_bytes() for part in parts}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error


@contextmanager
def _on_disk(model: ModelFiles) -> Iterator[Path]:
    """The files in a folder that exists while the body runs, as the path of the first."""
    try:
        with tempfile.TemporaryDirectory(prefix="urd-", ignore_cleanup_errors=True) as folder:
            for name, content in model.items():
                Path(folder, name).write_bytes(content)
            yield Path(folder, next(iter(model)))
    except OSError as error:
        raise UrdError(f"the model cannot be opened on a node: {first_line(error)}") from error
