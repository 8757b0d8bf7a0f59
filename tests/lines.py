"""A tiny detector with thresholds, and what a line consists of, for the tests of serving."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from urd import Detector
from urd.serving.kept_images import KeptImages
from urd.serving.record import Record
from urd.serving.served_model import ServedModel
from urd.serving.service import Service
from urd.serving.station import Arrived, Station
from urd.serving.store import Store


def tiny_run(root: Path, weights_file: Path) -> Path:
    """A run folder of a memory bank at 64 px, trained in a moment; it has thresholds."""
    from conftest import TINY, picture, save

    rng = np.random.default_rng(0)
    for index in range(12):
        save(picture(rng), root / "good" / f"{index:03}.png")
    Detector.fit(
        root / "good",
        root / "run",
        variant="memory",
        memory=64,
        backbone=TINY,
        weights=str(weights_file),
        image_size=(64, 64),
        precision="float32",
        device="cpu",
        holdout=0.5,
    )
    return root / "run"


def good_bytes(seed: int = 1) -> bytes:
    from conftest import picture

    return _png(picture(np.random.default_rng(seed)))


def bad_bytes(seed: int = 1) -> bytes:
    """A part with a square of noise."""
    from conftest import picture

    rng = np.random.default_rng(seed)
    image = picture(rng)
    image[10:30, 12:36] = rng.integers(0, 255, (20, 24, 3))
    return _png(image)


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def station(folder: Path, source: str = "watch", rule: str = "all", **settings) -> Station:
    store = Store(folder / "line.sqlite")
    return Station(store, source, KeptImages(store.images, rule), **settings)


def served(run: Path, name: str = "line") -> ServedModel:
    return ServedModel.load(name, run)


def record(verdict: str | None = "OK", score: float | None = 0.5, **facts) -> Record:
    """A row without an image and without a detector."""
    judgement = {
        "version": 1,
        "path": None,
        "verdict": verdict,
        "score": score,
        "calibrated": None,
        "n_defects": 0,
        "width": 4,
        "height": 3,
        "overlay": None,
        "map": None,
        "error": None,
        "camera": [],
        "defects": [],
    }
    usual = {
        "source": "watch",
        "model": "line",
        "model_sha256": "0" * 64,
        "engine": "torch cpu float32",
        "thresholds": {"review": 0.6, "reject": 0.8, "change": None},
        "time": 1_700_000_000.0,
        "milliseconds": 12.345,
    }
    return Record(judgement, **{**usual, **facts})


def service_of(folder: Path, model: ServedModel, **settings) -> Service:
    line = station(folder, "serve", **settings)
    return Service(line.store, {model.name: model}, line)


def put(service: Service, image: bytes, **facts) -> dict:
    """Judge an image and store it; gives the row."""
    (model,) = service.models.values()
    (result,) = model.judge([image])
    return service.station.conclude(model, Arrived.of(image, **facts), result).row
