"""What version 0.1.0 wrote is read, says the same, and is not done again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from urd import Detector

OLD = Path(__file__).parent / "fixtures" / "version_0_1"
JUDGED = json.loads((OLD / "judged.json").read_text())


def write(path: Path, shift: int, square: bool = False) -> None:
    """A PPM file of 40x40 pixels, the same bytes on every machine."""
    y, x = np.mgrid[:40, :40]
    image = np.stack([(5 * x + shift) % 200, (3 * y + 2 * x + shift) % 200, (x * y + shift) % 200])
    image = np.moveaxis(image, 0, -1)
    if square:
        image[12:22, 14:28] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6 40 40 255\n" + image.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def part(tmp_path_factory) -> Path:
    """The data set of then: ten good images to train on, three good and three defective ones."""
    folder = tmp_path_factory.mktemp("version_0_1") / "root" / "part"
    for index in range(10):
        write(folder / f"train/good/{index}.ppm", 7 * index)
    for index in range(3):
        write(folder / f"test/good/{index}.ppm", 7 * index + 3)
        write(folder / f"test/square/{index}.ppm", 7 * index + 4, square=True)
    return folder


@pytest.mark.parametrize(
    ("file", "key"), [("model.safetensors", "model"), ("model.onnx", "exported")]
)
def test_old_files_judge_as_they_did(part, file, key):
    if file.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    detector = Detector.load(OLD / file)
    for image, (score, verdict) in JUDGED[key].items():
        prediction = detector.predict(part / image)
        assert prediction.score == pytest.approx(score, rel=1e-4)
        assert prediction.verdict == verdict


def test_a_training_of_today_begins_as_then(part, tmp_path):
    """Other processors round otherwise; on one machine the weights are bit-equal."""
    Detector.fit(part, tmp_path / "run", preset="paper", **JUDGED["options"])
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(JUDGED["loss"], rel=1e-2)
    new = Detector.load(tmp_path / "run").header.config.to_dict()
    old = Detector.load(OLD / "model.safetensors").header.config.to_dict()
    assert new == old
