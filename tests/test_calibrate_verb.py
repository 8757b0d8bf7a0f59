"""`urd calibrate` refuses or doubts wrong images, and says what it changed."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import picture, save

from urd import Detector
from urd.cli import cli as command
from urd.cli.calibrate import doubt_about_scores, what_moved
from urd.errors import UsageError
from urd.inspection.calibration import Calibration


@pytest.fixture
def run(data, tiny_config, tmp_path):
    """Of a detector with a memory, which lists its training images."""
    config = dataclasses.replace(tiny_config, variant="memory", memory=200)
    Detector.fit(data, tmp_path / "run", config=config)
    return tmp_path / "run"


def calibrate(*words):
    command(["calibrate", *map(str, words)], standalone_mode=False)


def test_more_images_than_a_model_file_holds_scores_are_refused_at_once(tmp_path, monkeypatch):
    for index in range(3):
        save(picture(np.random.default_rng(index)), tmp_path / "good" / f"{index}.png")
    monkeypatch.setattr("urd.model.schema.MOST_SCORES", 2)
    with pytest.raises(UsageError, match="has 3 images; use at most 2"):
        calibrate(tmp_path, tmp_path / "good")


def test_images_of_the_training_are_refused_also_as_copies(run, data, tmp_path):
    rows = json.loads((run / "unlike.json").read_text())
    trained = [row["path"] for row in rows]
    before = (run / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match=f"{len(trained)} of these 12 images were trained on"):
        calibrate(run, data / "train/good")
    more = tmp_path / "more"
    shutil.copytree(data / "test/good", more)  # the same names as in the training
    shutil.copy(trained[0], more / "copy.png")
    for given in (run, run / "model.safetensors"):
        with pytest.raises(UsageError, match=r"1 of these 5 images .*copy\.png; give images"):
            calibrate(given, more)
    assert (run / "model.safetensors").read_bytes() == before
    (more / "copy.png").unlink()
    calibrate(run, more)
    assert (run / "model.safetensors").read_bytes() != before


def test_the_held_out_images_may_be_given(run, data, tmp_path):
    trained = {row["path"] for row in json.loads((run / "unlike.json").read_text())}
    held = [path for path in (data / "train/good").iterdir() if str(path.absolute()) not in trained]
    assert held
    (tmp_path / "held").mkdir()
    for path in held:
        shutil.copy(path, tmp_path / "held")
    calibrate(run, tmp_path / "held")


def test_without_a_list_the_whole_training_set_is_known(data, tiny_config, tmp_path):
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    assert not (tmp_path / "run/unlike.json").exists()
    moved = tmp_path / "moved"
    shutil.copytree(data / "train/good", moved)
    with pytest.raises(UsageError, match=r"6 of these 12 images were trained on"):
        calibrate(tmp_path / "run", moved)
    first = min(moved.iterdir())
    save(picture(np.random.default_rng(77)), first)
    calibrate(tmp_path / "run", moved)


def test_defective_parts_are_doubted(run, data, capsys):
    kind = next(path for path in (data / "test").iterdir() if path.name != "good")
    calibrate(run, kind)
    assert f"{kind} is a folder of test/ that is not good" in capsys.readouterr().err
    calibrate(run, data / "test/good")
    assert "not good" not in capsys.readouterr().err


def limits(*scores):
    return Calibration(scores, scores, scores, "a test").thresholds(0.3, 0.5)


def test_scores_above_the_old_threshold_are_doubted():
    before = limits(1.0, 2.0, 3.0)
    assert before.reject.threshold == 3.0
    assert "2 of these 4 images would be NG" in doubt_about_scores([1, 2, 4, 5], before)
    assert doubt_about_scores([1, 2, 3, 5], before) is None


def test_what_moved():
    low, high = limits(1.0, 2.0, 3.0), limits(2.0, 3.0, 4.0)
    assert what_moved(low, high) == "Both thresholds rose: fewer images will be REVIEW or NG."
    assert what_moved(high, low) == "Both thresholds fell: more images will be REVIEW or NG."
    assert what_moved(low, low) == ""
    wide = dataclasses.replace(low, reject=high.reject)
    assert what_moved(low, wide) == "The threshold of NG rose."


def test_an_older_report_is_named(run, data, capsys):
    calibrate(run, data / "test/good")
    assert "urd report" not in capsys.readouterr().out
    (run / "report.html").write_text("older")
    calibrate(run, data / "test/good")
    assert f"run urd report {run} again" in capsys.readouterr().out.replace("\n", " ")


def test_a_share_in_percent_is_named_as_a_number(urd, tmp_path):
    code, _, error = urd("calibrate", tmp_path, tmp_path, "--false-reject", "2%")
    assert code == 2 and "2 % is 0.02" in error
    code, _, error = urd("calibrate", tmp_path, tmp_path, "--false-reject", "x%")
    assert code == 2 and "'x%' is no share" in error
