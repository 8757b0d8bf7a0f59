"""An image that was not judged is never OK: not in Python, rows, tables or pages."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import picture

from urd import Detector
from urd.engines.torch_engine import TorchEngine
from urd.errors import NotJudged
from urd.inspection.calibration import Calibration
from urd.inspection.prediction import Failure, Prediction

GOOD = [1.0 + 0.01 * index for index in range(100)]


@pytest.fixture
def detector(tiny_config, data, tmp_path):
    return Detector.fit(data, tmp_path / "run", config=tiny_config)


@pytest.fixture
def broken_networks(monkeypatch):
    """Maps with NaN for dark images, as a flipped bit in a weight gives."""
    whole = TorchEngine.__call__

    def call(self, pixels, rois):
        maps, _ = whole(self, pixels, rois)
        maps = maps.copy()
        maps[pixels.mean(axis=(1, 2, 3)) < 20, 3, 3] = np.nan
        return maps, maps.max(axis=(1, 2))

    monkeypatch.setattr(TorchEngine, "__call__", call)


def dark(path: Path) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((48, 48, 3), 5, np.uint8)).save(path)
    return path


def rows_in(folder: Path):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_nan_is_on_the_bad_side_of_every_threshold():
    thresholds = Calibration(GOOD, GOOD, GOOD, "test").thresholds()
    assert thresholds.verdict(math.nan) == "NG"
    assert thresholds.verdict(math.inf) == "NG"
    assert thresholds.verdict(GOOD[0]) == "OK"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_prediction_has_a_finite_score_and_map(value):
    fine = np.zeros((4, 4), np.float32)
    with pytest.raises(NotJudged, match=r"part\.png: .*NaN or Inf"):
        Prediction(value, fine, (4, 4), Path("part.png"))
    broken = fine.copy()
    broken[1, 2] = value
    with pytest.raises(NotJudged):
        Prediction(0.0, broken, (4, 4))


def test_in_python_predict_raises_and_predict_many_yields_a_failure(
    detector, broken_networks, tmp_path
):
    light = picture(np.random.default_rng(0))
    with pytest.raises(NotJudged, match="NaN or Inf"):
        detector.predict(dark(tmp_path / "dark.png"))
    found = list(detector.predict_many([light, tmp_path / "dark.png", light]))
    assert [type(item) for item in found] == [Prediction, Failure, Prediction]
    assert found[1].verdict == "ERROR" and found[1].path == tmp_path / "dark.png"
    assert found[0].score == found[2].score


def test_predict_gives_error_rows_and_exit_code_1(urd, detector, broken_networks, data, tmp_path):
    dark(data / "test" / "good" / "dark.png")
    (data / "test" / "good" / "text.png").write_bytes(b"text")
    out = tmp_path / "p"
    code, said, err = urd("predict", tmp_path / "run", data / "test", "--out", out, "--fail-on-ng")
    assert code == 1
    assert "8 images judged, 2 not" in said and "2 ERROR" in said
    assert "ERROR" in err and "dark.png: its anomaly map has NaN or Inf" in err
    failed = {Path(row["path"]).name: row for row in rows_in(out) if row["verdict"] == "ERROR"}
    assert set(failed) == {"dark.png", "text.png"}
    assert all(row["score"] is None and row["error"] for row in failed.values())
    with (out / "predictions.csv").open(newline="") as file:
        table = {Path(row["path"]).name: row for row in csv.DictReader(file) if row["error"]}
    assert {row["verdict"] for row in table.values()} == {"ERROR"}


def test_without_thresholds_there_is_no_verdict_but_error(urd, tiny_config, data, tmp_path):
    from dataclasses import replace

    Detector.fit(data, tmp_path / "bare", config=replace(tiny_config, holdout=0.0))
    (data / "test" / "good" / "text.png").write_bytes(b"text")
    code, said, _ = urd("predict", tmp_path / "bare", data / "test", "--out", tmp_path / "p")
    assert code == 1 and "No thresholds" in said
    assert {row["verdict"] for row in rows_in(tmp_path / "p")} == {None, "ERROR"}


def test_calibration_on_unjudged_images_stores_nothing(urd, detector, broken_networks, tmp_path):
    run = tmp_path / "run"
    before = (run / "model.safetensors").read_bytes()
    for index in range(3):
        dark(tmp_path / "good" / f"{index}.png")
    code, _, err = urd("calibrate", run, tmp_path / "good")
    assert code == 2 and "no good images to calibrate on" in err
    assert (run / "model.safetensors").read_bytes() == before


def test_evaluate_counts_what_was_not_judged_first(urd, detector, broken_networks, data, tmp_path):
    whole = detector.evaluate(data, resamples=0)
    dark(data / "test" / "good" / "dark.png")
    code, said, err = urd("evaluate", tmp_path / "run", data, "--resamples", 0)
    assert code == 1
    assert said.startswith("Not judged: 1 of 9 images")
    assert said.rstrip().endswith("Not judged 1 of 9.")
    assert "dark.png" in err
    metrics = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert metrics["n_not_judged"] == 1 and metrics["n_good"] == 4
    assert metrics["image_auroc"] == whole["image_auroc"]
    details = json.loads((tmp_path / "run" / "evaluation_details.json").read_text())
    (row,) = [row for row in details["images"] if row["verdict"] == "ERROR"]
    assert row["score"] is None and "NaN" in row["reason"]

    code, _, err = urd("report", tmp_path / "run")
    assert code == 0, err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Not judged (1)" in page and "dark.png" in page
    assert '<div class="tile bad"><b>1 of 9</b>not judged' in page
