"""A prediction shows and serialises itself; a failure likewise."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, save
from PIL import Image

from urd.errors import NotJudged, UsageError
from urd.inspection.calibration import Calibration
from urd.inspection.judge import Inspection, judge
from urd.inspection.judgement import SCHEMA_FILE, VERSION, json_schema
from urd.inspection.prediction import Failure, Prediction

PEAKS = (0.1, 0.2, 0.3)
CALIBRATION = Calibration(PEAKS, PEAKS, (0.05, 0.06, 0.07), "test")
KEYS = [
    *("version", "path", "verdict", "score", "calibrated", "n_defects", "width", "height"),
    *("overlay", "map", "error", "camera", "defects"),
]


@pytest.fixture
def raw(tmp_path):
    anomaly = np.zeros((32, 32), np.float32)
    anomaly[8:24, 8:24] = 0.9
    path = save(picture(np.random.default_rng(0), 64), tmp_path / "part.png")
    return Prediction(0.9, anomaly, (64, 64), path, heat_range=(0.0, 1.0))


def test_judged_and_not_calibrated(raw):
    assert judge(raw, None, Inspection()) is raw
    judged = judge(raw, CALIBRATION, Inspection())
    assert judged.verdict == "NG" and len(judged.defects) == 1 and judged.calibrated > 0.5


def test_the_marks_of_the_colour_bar_are_values_of_maps(raw):
    """If the score is the peak of the map they are the thresholds, also those that a person set."""
    usual = judge(raw, CALIBRATION, Inspection())
    assert usual.marks == (0.3, 0.3)
    assert usual.scale.marks() == [("NG", 0.3)] and raw.scale.marks() == []
    assert judge(raw, CALIBRATION, Inspection(review_at=0.5, reject_at=0.7)).marks == (0.5, 0.7)
    mean = Calibration((0.01, 0.02, 0.03), PEAKS, PEAKS, "test", 0.25, 0.5)
    assert judge(raw, mean, Inspection()).marks == (0.2, 0.3)


def test_to_dict_has_the_same_keys_for_all_and_is_json(raw):
    judged = judge(raw, CALIBRATION, Inspection(mm_per_pixel=0.5))
    failure = Failure(Path("x.png"), "broken")
    rows = [result.to_dict() for result in (raw, judged, failure)]
    assert all(list(row) == KEYS for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False))[0]["version"] == VERSION
    assert rows[0]["verdict"] is None and rows[0]["n_defects"] is None
    assert (rows[1]["width"], rows[1]["height"], rows[1]["n_defects"]) == (64, 64, 1)
    assert rows[2]["verdict"] == "ERROR" and rows[2]["error"] == "broken"


def test_the_schema_file_is_that_of_the_code_and_fits_what_is_written(raw):
    """A field that is written and not described, or the other way round, fails here."""
    schema = json.loads(SCHEMA_FILE.read_text())
    assert schema == json_schema()
    row = judge(raw, CALIBRATION, Inspection()).to_dict()
    assert set(schema["properties"]) == set(row) == set(schema["required"])
    assert set(schema["$defs"]["Defect"]["properties"]) == set(row["defects"][0])
    assert schema["properties"]["version"]["const"] == VERSION


def test_the_map_at_another_size(raw):
    assert raw.map_at((10, 20)).shape == (10, 20)
    assert np.array_equal(raw.map_at((32, 32)), raw.anomaly_map)


def test_the_overlay_shows_the_image_where_nothing_is_wrong(raw):
    shown = np.asarray(raw.overlay())
    original = np.asarray(Image.open(raw.path).resize((320, 320), Image.Resampling.NEAREST))
    assert shown.shape[1] == 320 and shown.shape[0] > 320  # a tiny image; below is the legend
    assert np.abs(shown[:40, :40].astype(int) - original[:40, :40]).max() < 3
    assert np.abs(shown[140:180, 140:180].astype(int) - original[140:180, 140:180]).mean() > 20


def test_an_array_needs_its_image_to_be_drawn_on(raw):
    alone = Prediction(raw.score, raw.anomaly_map, raw.size)
    with pytest.raises(UsageError, match=r"overlay\(image\)"):
        alone.overlay()
    assert alone.overlay(Image.new("RGB", (640, 64)), max_side=400).width == 400


@pytest.mark.parametrize("with_file", [True, False])
def test_notebooks_show_a_picture(raw, with_file):
    shown = raw if with_file else Prediction(raw.score, raw.anomaly_map, raw.size)
    with Image.open(io.BytesIO(shown._repr_png_())) as image:
        assert image.format == "PNG" and np.asarray(image).std() > 0


def test_repr_is_short_and_names_what_counts(raw):
    text = repr(judge(raw, CALIBRATION, Inspection()))
    assert text == "Prediction('part.png', NG, score 0.9000, 64x64 px, 1 defects)"


def test_no_prediction_without_a_finite_score(raw):
    with pytest.raises(NotJudged, match="NaN or Inf"):
        Prediction(float("nan"), raw.anomaly_map, raw.size)
