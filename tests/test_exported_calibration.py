"""Thresholds of an exported file by its own scores, at export and later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, save
from exporting import grey, header, small_file, tiny_detector
from PIL import Image

from urd import Detector
from urd.cli import cli
from urd.errors import UrdError, UsageError
from urd.export.own_thresholds import Unseen, unseen_by_training
from urd.inspection.calibration import Calibration
from urd.training.training_data import HELD_OUT, held_out, load_training_data

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")
SUFFIXES = (".onnx", ".xml")

GREY = (0.5, 0.5, 0.5)


def calibrated_of(path: Path, image: np.ndarray) -> float:
    """The output of that name, by the bare runtime."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return float(session.run(["calibrated"], {"images": image[None]})[0][0])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    return float(
        core.compile_model(core.read_model(path), "CPU", exact)(image[None])["calibrated"][0]
    )


def good_images(folder: Path, values=range(20, 40)) -> Path:
    for value in values:
        save(grey(value), folder / f"{value}.png")
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_calibrating_a_file_sets_verdicts_and_its_calibrated_output(tmp_path, suffix, capsys):
    path, good = small_file(tmp_path / f"m{suffix}"), good_images(tmp_path / "good")
    weights = path.with_suffix(".bin")
    before = weights.read_bytes() if suffix == ".xml" else b""
    if before:
        weights.chmod(0o400)
    assert Detector.load(path).predict(grey(60)).verdict == "OK"
    cli(
        ["calibrate", str(path), str(good), "--json", str(tmp_path / "t.json")],
        standalone_mode=False,
    )
    assert "before" in (said := capsys.readouterr().out) and "0.9500" in said and "0.1529" in said
    opened = Detector.load(path)
    assert opened.header.calibration.scores == pytest.approx([v / 255 for v in range(20, 40)])
    assert opened.predict(grey(60)).verdict == "NG"
    stored = json.loads((tmp_path / "t.json").read_text())["review"]["threshold"]
    assert stored == opened.thresholds().review.threshold == pytest.approx(39 / 255)
    for value in (25, 39, 60):
        expected = opened.predict(grey(value)).calibrated
        assert calibrated_of(path, grey(value)) == pytest.approx(expected, rel=1e-4)
    assert opened.engine.facts.thresholds_of == "this file"
    assert opened.header.calibration.source == "good"  # not where that lay
    if before:
        assert weights.read_bytes() == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_file_takes_the_thresholds_with_out(tmp_path, suffix):
    path, good = small_file(tmp_path / f"m{suffix}"), good_images(tmp_path / "good")
    kept = path.read_bytes()
    out = tmp_path / "other" / f"n{suffix}"
    cli(["calibrate", str(path), str(good), "--out", str(out)], standalone_mode=False)
    assert path.read_bytes() == kept
    assert Detector.load(out).predict(grey(60)).verdict == "NG"
    with pytest.raises(UsageError, match="must end in"):
        cli(
            ["calibrate", str(path), str(good), "--out", str(tmp_path / "n")], standalone_mode=False
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_thresholds_gets_some(tmp_path, suffix):
    from urd.engines.facts import Facts

    path = small_file(tmp_path / f"m{suffix}", Facts(header(calibration=None), "float32"))
    assert Detector.load(path).predict(grey(60)).verdict is None
    cli(["calibrate", str(path), str(good_images(tmp_path / "good"))], standalone_mode=False)
    assert Detector.load(path).predict(grey(60)).verdict == "NG"


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = small_file(tmp_path / "m.onnx")
    kept = path.read_bytes()
    detector = Detector.load(path)
    detector.calibrate([grey(9), grey(10)], "two")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(UrdError, match="nothing was replaced"):
        detector.save(path)
    assert path.read_bytes() == kept and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_file_that_changed_meanwhile_is_not_written_over(tmp_path):
    path = small_file(tmp_path / "m.onnx")
    detector = Detector.load(path)
    small_file(path, most=200.0)
    with pytest.raises(UrdError, match="has changed since"):
        detector.save(path)


def test_calibrating_a_run_shows_what_was_before(data, tiny_config, tmp_path, capsys):
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    good = tmp_path / "more"
    for index in range(4):
        save(picture(np.random.default_rng(index)), good / f"{index}.png")
    cli(["calibrate", str(tmp_path / "run"), str(good)], standalone_mode=False)
    assert "before" in capsys.readouterr().out


def test_the_images_that_training_held_out_are_found_again(data, tiny_config, tmp_path):
    paths = sorted((data / "train" / "good").iterdir())
    mask = np.zeros((48, 48), np.uint8)
    mask[:, :24] = 255
    from urd.data import Sample

    for roi in ("", str(save(mask, tmp_path / "roi.png"))):
        config = replace(tiny_config, roi=roi)
        training_data = load_training_data([Sample(path) for path in paths], config, GREY, "cpu")
        known = header(config=config, mean=GREY, data=training_data.facts, roi=training_data.roi)
        found = held_out(paths, known)
        assert len(found) == len(training_data.holdout.images) == 6
        for path, expected in zip(found, training_data.holdout.images, strict=True):
            image = Image.open(path).resize((64, 64), Image.Resampling.BILINEAR)
            seen = np.asarray(image)[:, :32], expected[:, :, :32].permute(1, 2, 0).numpy()
            assert np.abs(seen[0].astype(int) - seen[1])[:, :30].max() <= 1
    assert held_out(paths[:-1], known) == []
    assert held_out([], known) == []


def test_the_images_of_an_earlier_calibration_are_taken_if_they_are_the_same(tmp_path):
    good = tmp_path / "good"
    for index in range(5):
        save(picture(np.random.default_rng(index)), good / f"{index}.png")
    detector = tiny_detector(header())
    detector.calibrate(sorted(good.iterdir()), str(good))
    assert unseen_by_training(detector, [], good) == Unseen(sorted(good.iterdir()), str(good))
    assert unseen_by_training(detector, [], None) is None
    save(picture(np.random.default_rng(9)), good / "more.png")
    assert unseen_by_training(detector, sorted(good.iterdir()), good) is None


@pytest.mark.parametrize("source", [HELD_OUT, "gone", "", "."])
def test_training_images_are_never_taken_instead(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    train = [save(grey(value), tmp_path / f"{value}.png") for value in (3, 4)]
    calibration = Calibration((0.1, 0.2), (0.1, 0.2), (0.1, 0.2), source)
    for folder in (None, tmp_path, tmp_path / "gone"):
        detector = tiny_detector(header(calibration=calibration))
        assert unseen_by_training(detector, train, folder) is None


def test_a_data_set_is_no_folder_of_unseen_images(data):
    with pytest.raises(UsageError, match="training and test images"):
        Unseen.given(data)


def test_an_export_says_in_one_line_whose_thresholds_it_has():
    from urd.cli.export import _thresholds_said
    from urd.engines.facts import Facts

    before, out = header().calibration.thresholds(), Path("m.onnx")
    of_torch = Facts(header(), "int8")
    assert "are torch's" in (said := _thresholds_said(of_torch, before, out))
    assert "urd calibrate m.onnx GOOD" in said and "\n" not in said
    own = of_torch.recalibrated(header(calibration=Calibration(*[(0.5, 0.6)] * 3, "a/good")))
    said = _thresholds_said(own, before, out)
    assert "2 good images (good)" in said and "NG above 0.6000 (torch's: 0.9900)" in said
    assert "No thresholds" in _thresholds_said(Facts(header(calibration=None), "int8"), None, out)
