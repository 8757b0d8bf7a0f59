"""Image scores in a file, for `urd metrics`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from urd import UsageError
from urd.cli import cli
from urd.evaluation.map_files import MapFile
from urd.evaluation.score_files import read_scores

FILES = [MapFile(Path(f"{name}.npy"), name, "x", ()) for name in ("good/000", "dent/000")]


def test_rows_of_predictions_csv_belong_to_the_maps_whose_names_they_end_with(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(
        "path,verdict,score\nparts/test/dent/000.png,NG,-2.5\n./test/good/000.jpg,OK,1e-3\n"
        "parts/test/scratch/000.png,NG,9\n"
    )
    assert read_scores(path, FILES) == [1e-3, -2.5]


def test_an_object_of_paths(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"dent/000": 3, "good/000.tiff": 1.5}))
    assert read_scores(path, FILES) == [1.5, 3.0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("s.csv", "path,score\ngood/000,1\n", "no score for 1 maps, first dent/000"),
        ("s.csv", "path,score\ngood/000,1\na/good/000.png,2\ndent/000,1\n", "two scores"),
        ("s.csv", "path,score\ngood/000,nan\ndent/000,1\n", "'nan', not a number"),
        ("s.csv", "path,score\ngood/000,much\ndent/000,1\n", "'much', not a number"),
        ("s.csv", "path,score\ngood/000\ndent/000,1\n", "not a number"),
        ("s.csv", "name,score\n", "columns path and score"),
        ("s.csv", "", "columns path and score"),
        ("s.json", "[1, 2]", "not an object"),
        ("s.json", "{", "cannot be read as scores"),
        ("s.csv", b"\xff\xfe\x00", "cannot be read as scores"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=said):
        read_scores(path, FILES)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no file of scores"):
        read_scores(tmp_path / "none.csv", FILES)


def test_the_verb_takes_scores_of_any_sign(tmp_path, capsys):
    import cv2

    for defect, value in (("good", 1.0), ("dent", 0.5)):  # the maxima would be the wrong way round
        for index in range(2):
            path = tmp_path / "maps" / defect / f"{index:03}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.full((8, 8), value, np.float32))
    for index in range(2):
        mask = tmp_path / "masks/dent" / f"{index:03}_mask.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(mask), np.pad(np.full((2, 2), 255, np.uint8), 3))
    rows = {f"{d}/{i:03}": -2.0 + (d == "dent") for d in ("good", "dent") for i in range(2)}
    (tmp_path / "s.json").write_text(json.dumps(rows))
    command = ["metrics", "--maps", str(tmp_path / "maps"), "--masks", str(tmp_path / "masks")]
    found = {}
    for name, extra in (("maxima", []), ("scores", ["--scores", str(tmp_path / "s.json")])):
        out = tmp_path / f"{name}.json"
        cli([*command, *extra, "--json", str(out), "--resamples", "0"], standalone_mode=False)
        found[name] = json.loads(out.read_text())
    assert (found["maxima"]["image_auroc"], found["scores"]["image_auroc"]) == (0, 1)
    assert "image score: from s.json" in found["scores"]["protocol"]
