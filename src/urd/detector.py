"""The public object: fit, predict, evaluate, save, load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np

from urd.config import FitConfig, FitOptions, given_settings, resolve_config
from urd.data import (
    PER_IMAGE,
    Reading,
    Rois,
    read_layout,
    read_rois,
)
from urd.data.images_in_memory import Channels, ImageLike
from urd.engines.base import Engine
from urd.engines.exported import ExportedEngine
from urd.engines.judging import Judging
from urd.engines.registry import is_exported, open_exported
from urd.errors import UsageError
from urd.evaluation.evaluate import evaluate_predictions, refuse_unusable
from urd.evaluation.records import Evaluation
from urd.inspection.calibration import (
    FALSE_REJECT,
    REVIEW,
    Calibration,
    GoodImage,
    Thresholds,
)
from urd.inspection.judge import Inspection
from urd.inspection.prediction import Failure, Prediction
from urd.model.header import ModelHeader
from urd.system.progress import track

if TYPE_CHECKING:
    from urd.engines.torch_engine import TorchEngine
    from urd.networks.detector_network import DetectorNetwork


class Detector:
    """A trained anomaly detector.

    Example:
        detector = Detector.fit("data/screw", out="runs/screw")
        detector.predict("part.png").score

    `reading` says how image files are read. To override it, set
    `detector.reading = detector.reading.changed(page=2)`.
    """

    def __init__(self, engine: Engine, header: ModelHeader) -> None:
        self.engine = engine
        self.header = header
        self.reading = Reading.of(header.config)
        self._rois: Rois | None = None
        if header.roi is not None and not self.roi_per_image:
            self._rois = Rois(header.roi, (), header.config.image_size)

    def __repr__(self) -> str:
        height, width = self.config.image_size
        thresholds = "no thresholds" if self.header.calibration is None else "thresholds"
        names = f"{self.config.variant}, {self.config.tag}"
        return f"Detector({names}, {width}x{height} px, {thresholds})"

    @property
    def config(self) -> FitConfig:
        """The settings of the training."""
        return self.header.config

    @classmethod
    def fit(
        cls,
        data: str | Path,
        out: str | Path | None = None,
        *,
        config: FitConfig | None = None,
        preset: str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        **options: Unpack[FitOptions],
    ) -> Detector:
        """Train on the good images of DATA.

        Images that cannot be read are skipped; `out`/skipped.json names them.

        Args:
            data: a category in MVTec layout, or a folder of good images.
            out: run folder; `None` writes nothing.
            config: settings; or give `preset` and single `options`, named as in `FitConfig`.
            resume: continue the run in `out`.
            overwrite: replace the run in `out`, if there is one.

        Raises:
            UsageError, UrdError: as `urd.training.fit.fit`; the message says what to do.
        """
        from urd.engines.torch_engine import TorchEngine
        from urd.system.machine import pick_device
        from urd.training.fit import fit
        from urd.training.resume import settings_to_resume

        folder = None if out is None else Path(out)
        if resume and folder is None:
            raise UsageError("resume needs a run folder: give out")
        if config is not None and (preset is not None or options):
            raise UsageError("give either config, or preset and options, not both")
        if config is None and resume and folder is not None:
            config = settings_to_resume(folder, given_settings(preset, None, options))
        settings = config or resolve_config(preset=preset, options=options)
        fitted = fit(data, folder, settings, resume=resume, overwrite=overwrite)
        engine = TorchEngine(fitted.model, fitted.header, pick_device(settings.device))
        return cls(engine, fitted.header)

    @classmethod
    def load(cls, run: str | Path, device: str = "auto", precision: str | None = None) -> Detector:
        """Open a run folder, a model file, or an exported file, which runs on the CPU.

        Args:
            precision: auto, float32 or bfloat16; `None`: as in training. Exported files have a
                fixed precision.

        Raises:
            UsageError, UrdError: there is no such file, or it is damaged or not from urd.
        """
        path = Path(run)
        if is_exported(path):
            if device not in ("auto", "cpu"):
                raise UsageError(f"{path} runs only on the CPU: leave out --device")
            if precision not in (None, "auto"):
                raise UsageError(f"{path} has a fixed precision: leave out --precision")
            engine = open_exported(path)
            return cls(engine, engine.header)
        from urd.engines.torch_engine import TorchEngine
        from urd.model.file import load_model
        from urd.system.machine import pick_device

        computes_on = pick_device(device)
        model, header = load_model(path, computes_on)
        return cls(TorchEngine(model, header, computes_on, precision), header)

    @property
    def device(self) -> str:
        """The device that it computes on: cpu, cuda:0, ..."""
        return self.engine.device

    @property
    def model(self) -> DetectorNetwork:
        """The networks.

        Raises:
            UsageError: it was opened from an exported file, whose weights cannot change.
        """
        if isinstance(self.engine, ExportedEngine):
            raise UsageError(
                "an exported file gives no access to its networks: load the original run"
            )
        return self._torch_engine.model

    def in_precision(self, precision: str) -> Detector:
        """The same detector, computing in `auto`, `float32` or `bfloat16`."""
        detector = Detector(self._torch_engine.in_precision(precision), self.header)
        detector._rois, detector.reading = self._rois, self.reading
        return detector

    @property
    def _torch_engine(self) -> TorchEngine:
        return cast("TorchEngine", self.engine)

    def save(self, path: str | Path) -> None:
        """Write one self-contained file atomically: a model file, or the exported file again.

        An exported file keeps its network and gets the thresholds of `calibrate`.

        Raises:
            UsageError: the suffix is not that of the exported file.
            UrdError: the file cannot be written; an older file is unchanged.
        """
        if isinstance(self.engine, ExportedEngine):
            self.engine.save(Path(path), self.header)
            return
        from urd.model.file import save_model

        save_model(Path(path), self.model, self.header)

    def inspect_in(self, roi: str = "", ignore: str = "") -> None:
        """Set the regions of interest, for a detector that was trained with one per image.

        Args:
            roi, ignore: as the options of training; folders with one mask per image.

        Raises:
            UsageError: it was trained on whole images or with one region, which is in the model
                file; or the paths have no regions per image.
        """
        if not self.roi_per_image:
            trained = "with one region for all" if self._rois else "on whole"
            raise UsageError(
                f"this detector was trained {trained} images; --roi belongs to urd fit"
            )
        rois = read_rois(roi, ignore, self.config.image_size, self.reading)
        if rois is None or not rois.folders:
            raise UsageError(
                "this detector was trained with one region per image: give the folder of regions"
            )
        self._rois = rois.within(self.header.roi)

    @property
    def roi_per_image(self) -> bool:
        """Whether it was trained with one region of interest per image, so that it needs them."""
        return self.header.data.region_of_interest == PER_IMAGE

    def predict(
        self,
        image: ImageLike,
        inspection: Inspection | None = None,
        *,
        channels: Channels = "rgb",
    ) -> Prediction:
        """Judge one image: a file, the bytes of a file, a Pillow image, or an array.

        Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16. An array gives the
        same result as a file with the same pixels.

        Args:
            channels: the colour order of an array: rgb, or bgr as in OpenCV.

        Raises:
            NotJudged: the file cannot be decoded, or the score is not finite.
            UsageError: not an image, or an array or Pillow image that cannot be used.
        """
        return self.judging(inspection).one(image, channels)

    def calibrate(
        self,
        good: Iterable[ImageLike],
        source: str,
        *,
        false_reject: float = FALSE_REJECT,
        review: float = REVIEW,
        batch_size: int = 8,
        channels: Channels = "rgb",
    ) -> list[Failure]:
        """Set thresholds from good images that training did not see; `save` writes them.

        Args:
            source: where the images come from, for the record.
            false_reject, review: target shares of good images above the two thresholds.
            channels: as `predict`.

        Returns:
            The images that could not be judged; the thresholds do not count them.

        Raises:
            UsageError: a share is out of range, or no image can be read.
        """
        images, failures = [], []
        for result in self.predict_many(good, batch_size, channels=channels):
            if isinstance(result, Failure):
                failures.append(result)
                continue
            images.append(GoodImage.of(result.score, result.anomaly_map, result.roi))
        calibration = Calibration.of(images, source, false_reject, review)
        calibration.thresholds(false_reject, review)  # raises if a share is out of range
        self.header = replace(self.header, calibration=calibration)
        return failures

    def thresholds(self, inspection: Inspection | None = None) -> Thresholds | None:
        """The thresholds between OK, REVIEW and NG; `None` without calibration."""
        wanted = inspection or Inspection()
        if self.header.calibration is None:
            return None
        return wanted.thresholds(self.header.calibration)

    def heat_range(self, inspection: Inspection | None = None) -> tuple[float, float]:
        """The anomaly values of the first and the last colour of a heat map.

        The first is the median peak of the maps of good images. The threshold for peaks is in the
        middle. Without calibration both values come from training.
        """
        thresholds = self.thresholds(inspection)
        if thresholds is None or self.header.calibration is None:
            return self.header.heat_range
        middle = thresholds.peak.threshold
        half = middle - float(np.median(self.header.calibration.peaks))
        half = max(half, 0.1 * abs(middle), 1e-6)
        return middle - half, middle + half

    def predict_many(
        self,
        images: Iterable[ImageLike],
        batch_size: int = 8,
        inspection: Inspection | None = None,
        picture_side: int = 0,
        *,
        channels: Channels = "rgb",
    ) -> Iterator[Prediction | Failure]:
        """Judge images in order and decode ahead of the network; memory use does not grow.

        An input that cannot be read, is not an image, or has no finite score gives a `Failure`.

        Args:
            picture_side: keep each image in its prediction, reduced to this side in pixels.
            channels: as `predict`.
        """

        return self.judging(inspection).many(images, batch_size, picture_side, channels)

    def evaluate(
        self, data: str | Path, batch_size: int = 8, resamples: int = 1000
    ) -> dict[str, Any]:
        """The metrics of `evaluation`: a flat dictionary that also names the protocol."""
        return self.evaluation(data, batch_size, resamples).metrics

    def evaluation(
        self, data: str | Path, batch_size: int = 8, resamples: int = 1000
    ) -> Evaluation:
        """Judge the labelled test set of DATA: one category in a layout with labels.

        Args:
            resamples: bootstrap resamples of the test images for 95 % intervals; 0: no intervals.

        Raises:
            UsageError: there are no test images, or a mask does not fit its image.
            UrdError: no test image can be judged.
        """
        data_set = read_layout(data)
        refuse_unusable(data_set)
        paths = [sample.path for sample in data_set.test]
        judged = track(self.predict_many(paths, batch_size), "Evaluating", len(paths))
        found = evaluate_predictions(
            data_set,
            judged,
            self.config,
            in_rois=self._rois is not None,
            resamples=resamples,
            reading=self.reading,
        )
        facts = {
            "data": str(data),
            "inference_precision": self.engine.precision,
            "weights_sha256": self.engine.weights_sha256(),
        }
        return replace(found, metrics={**found.metrics, **facts})

    def judging(self, inspection: Inspection | None = None) -> Judging:
        """What judges images in steps: decode and resize one, then score several together.

        Raises:
            UsageError: it was trained with one region per image, and has none.
        """
        if self.roi_per_image and self._rois is None:
            raise UsageError(
                "this detector was trained with one region per image: give the regions (--roi, "
                "--ignore, or inspect_in in Python)"
            )
        return Judging(
            self.engine,
            self.header.calibration,
            inspection or Inspection(),
            self.heat_range(inspection),
            self.reading,
            self._rois,
        )
