"""The training images least like the others: found, listed and shown."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from conftest import TINY, picture, save

from urd import Detector
from urd.cli import cli
from urd.results.report import write_report


@pytest.fixture
def run(data, tiny_config, tmp_path):
    rng = np.random.default_rng(5)
    bad = picture(rng)
    bad[12:30, 12:30] = rng.integers(0, 255, (18, 18, 3))
    save(bad, data / "train/good/007.png")
    config = dataclasses.replace(tiny_config, variant="memory", memory=200, holdout=0.0)
    Detector.fit(data, tmp_path / "run", config=config)
    return tmp_path / "run"


def test_a_bad_part_among_the_good_ones_is_named_first(run):
    rows = json.loads((run / "unlike.json").read_text())
    assert len(rows) == 12
    assert rows[0]["path"].endswith("train/good/007.png")
    assert [r["distance"] for r in rows] == sorted((r["distance"] for r in rows), reverse=True)


def test_the_report_shows_them(run):
    page = write_report(run).read_text()
    assert "Training images least like the others (12)" in page and "007.png" in page


def test_fit_names_the_first_ones(run, data, weights_file, tmp_path, capsys):
    command = ["fit", str(data), "--out", str(tmp_path / "again"), "--variant", "memory"]
    command += ["--backbone", TINY, "--weights", str(weights_file), "--memory", "200"]
    cli([*command, "--holdout", "0", "--image-size", "64"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "Least like the other training images" in said
    assert "train/good/007.png (distance" in said


def test_a_later_training_without_a_memory_removes_the_list(run, data, tiny_config):
    Detector.fit(data, run, config=tiny_config, overwrite=True)
    assert not (run / "unlike.json").exists()


def test_a_damaged_list_is_an_error_of_the_report(run):
    (run / "unlike.json").write_text('[{"path": "a.png", "distance": NaN}]')
    with pytest.raises(Exception, match=r"unlike\.json is damaged"):
        write_report(run)
