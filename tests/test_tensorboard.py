"""Training curves as events of TensorBoard."""

from __future__ import annotations

import json
import sys

import pytest

LINES = [
    {"iteration": 10, "loss": {"student": 2.0, "teacher": 1.5}, "images_per_second": 3.0},
    {"iteration": 20, "validation": {"good_distance": 0.25, "synthetic_image_auroc": None}},
    {"iteration": 20, "loss": {"student": 1.0, "teacher": 1.25}, "images_per_second": 4.0},
]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    lines = [json.dumps(line) + "\n" for line in LINES]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join([*lines, '{"iterat']))  # cut by a kill
    return tmp_path / "run"


def test_every_value_of_the_curve_is_an_event(urd, run, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second call replaces the events of the first
        code, out, error = urd("tensorboard", run, "--out", tmp_path / "tb")
        assert (code, error) == (0, "") and out.startswith("7 values in ")
        (file,) = (tmp_path / "tb" / "run").iterdir()
        read = events.EventAccumulator(str(file)).Reload()
        tags = read.Tags()["scalars"]
        assert {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in tags} == {
            "loss/student": [(10, 2.0), (20, 1.0)],
            "loss/teacher": [(10, 1.5), (20, 1.25)],
            "speed/images_per_second": [(10, 3.0), (20, 4.0)],
            "validation/good_distance": [(20, 0.25)],
        }


def test_wrong_runs_are_refused(urd, run, tmp_path):
    pytest.importorskip("tensorboard")
    code, _, error = urd("tensorboard", tmp_path, "--out", tmp_path / "tb")
    assert code == 2 and "no training curve" in error
    code, _, error = urd("tensorboard", run, run, "--out", tmp_path / "tb")
    assert code == 2 and "same name" in error
    (run / "metrics.jsonl").write_text('{"iteration": 1, "loss": {"a": 1}}\n')
    code, _, error = urd("tensorboard", run, "--out", tmp_path / "tb")
    assert code == 1 and "line 1: losses without images_per_second" in error
    assert not (tmp_path / "tb").exists()


def test_without_the_library_the_extra_is_named(urd, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, error = urd("tensorboard", run, "--out", tmp_path / "tb")
    assert code == 2 and "pip install 'urd-inspect[tensorboard]'" in error
