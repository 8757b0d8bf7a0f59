"""Judge images of any kind with an engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from urd.data import Reading, Roi, Rois, UnreadableImage, resize_rgb
from urd.data.images_in_memory import Channels, ImageLike, rgb_of
from urd.engines.base import Engine
from urd.errors import NotJudged
from urd.inspection.calibration import Calibration
from urd.inspection.judge import Inspection, judge
from urd.inspection.pictures import reduced
from urd.inspection.prediction import Failure, Prediction
from urd.system.threads import map_ahead


@dataclass(frozen=True)
class Prepared:
    """An image at the network's size, and facts of the original image."""

    pixels: np.ndarray
    size: tuple[int, int]
    path: Path | None
    roi: Roi | None
    picture: Image.Image | None


@dataclass(frozen=True)
class Judging:
    """Everything a judgement depends on, except the image.

    Attributes:
        rois: the regions to inspect; `None`: everything.
        heat_range: the anomaly values at which the colours of pictures begin and end.
    """

    engine: Engine
    calibration: Calibration | None
    inspection: Inspection
    heat_range: tuple[float, float]
    reading: Reading
    rois: Rois | None

    def one(self, image: ImageLike, channels: Channels = "rgb") -> Prediction:
        """Judge one image.

        Raises:
            NotJudged: the image cannot be read, or its score is not finite.
        """
        (result,) = self.scored([self.prepare(image, channels=channels)])
        if isinstance(result, Failure):
            raise NotJudged(result.path, result.reason)
        return result

    def many(
        self,
        images: Iterable[ImageLike],
        batch_size: int,
        picture_side: int = 0,
        channels: Channels = "rgb",
    ) -> Iterator[Prediction | Failure]:
        """Judge images in order; threads decode the next images while the network computes."""

        def prepare(image: ImageLike) -> Prepared | Failure:
            try:
                return self.prepare(image, picture_side, channels)
            except UnreadableImage as error:
                return Failure(error.path, error.reason)

        prepared = map_ahead(prepare, images, depth=2 * batch_size)
        with closing(prepared):  # stop the threads if the caller stops early
            yield from self.in_batches(prepared, batch_size)

    def in_batches(
        self, prepared: Iterator[Prepared | Failure], batch_size: int
    ) -> Iterator[Prediction | Failure]:
        """Judge prepared images in order; failures among them pass through."""
        while batch := list(itertools.islice(prepared, batch_size)):
            readable = [item for item in batch if not isinstance(item, Failure)]
            scored = iter(self.scored(readable) if readable else ())
            for item in batch:
                yield item if isinstance(item, Failure) else next(scored)

    def prepare(
        self, image: ImageLike, picture_side: int = 0, channels: Channels = "rgb"
    ) -> Prepared:
        """Read an image and resize it for the network.

        Raises:
            UnreadableImage: the image cannot be read, or has no region of interest.
        """
        path = Path(image) if isinstance(image, str | Path) else None
        rgb = rgb_of(image, self.reading, channels)
        roi = self.rois.of(path) if self.rois else None
        pixels = resize_rgb(rgb, self.engine.input_size)
        picture = reduced(rgb, picture_side) if picture_side else None
        return Prepared(pixels, (rgb.height, rgb.width), path, roi, picture)

    def scored(self, batch: list[Prepared]) -> list[Prediction | Failure]:
        """Run one forward pass and judge each map; a map that is not finite gives a `Failure`."""
        rois = [item.roi for item in batch if item.roi is not None]
        maps, scores = self.engine(
            np.stack([item.pixels for item in batch]), np.stack(rois) if rois else None
        )
        return [
            self._judged(item, anomaly_map, score)
            for item, anomaly_map, score in zip(batch, maps, scores.tolist(), strict=True)
        ]

    def _judged(
        self, item: Prepared, anomaly_map: np.ndarray, score: float
    ) -> Prediction | Failure:
        try:
            raw = Prediction(
                score,
                anomaly_map,
                item.size,
                item.path,
                roi=item.roi,
                picture=item.picture,
                heat_range=self.heat_range,
            )
        except NotJudged as error:
            return Failure(error.path, error.reason)
        return judge(raw, self.calibration, self.inspection)
