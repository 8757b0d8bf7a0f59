"""The public object: prediction, evaluation, the model file and its refusals."""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import picture, save
from PIL import Image

from urd import Detector, UrdError, UsageError
from urd.data import UnreadableImage
from urd.inspection.judge import Inspection
from urd.inspection.prediction import Failure
from urd.metrics import METRICS


@pytest.fixture(scope="module")
def detector(tmp_path_factory, weights_file):
    from urd.config import FitConfig

    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    for index in range(10):
        save(picture(rng), folder / f"{index}.png")
    config = FitConfig(
        backbone="test_resnet.r160_in1k",
        weights=str(weights_file),
        iterations=25,
        batch_size=8,
        image_size=(64, 64),
        precision="float32",
        device="cpu",
    )
    return Detector.fit(folder, config=config)


def test_predict_takes_files_images_and_arrays(detector, data):
    path = data / "test" / "square" / "000.png"
    image = Image.open(path)
    predictions = [detector.predict(x) for x in (path, str(path), image, np.asarray(image))]
    assert len({p.score for p in predictions}) == 1
    assert predictions[0].path == path
    assert predictions[0].size == (48, 48)
    assert predictions[0].anomaly_map.shape == (64, 64)
    assert predictions[0].anomaly_map.dtype == np.float32
    assert predictions[0].anomaly_map.max() == predictions[0].score


def test_its_repr_names_variant_backbone_size_and_thresholds(detector):
    said = "Detector(urd, test_resnet.r160_in1k, 64x64 px, {}thresholds)"
    assert repr(detector) == said.format("")
    without = Detector(detector.engine, dataclasses.replace(detector.header, calibration=None))
    assert repr(without) == said.format("no ")


def test_verdict_score_and_defects_go_together(detector, data):
    thresholds = detector.thresholds()
    paths = sorted((data / "test").rglob("*.png"))
    for inspection in (None, Inspection(false_reject=0.4)):
        for prediction in detector.predict_many(paths, inspection=inspection):
            limit = detector.thresholds(inspection).review.threshold
            assert (prediction.score > limit) == (prediction.verdict != "OK")
            assert (prediction.score > limit) == (prediction.calibrated > 0.5)
            assert (prediction.score > limit) == bool(prediction.defects)
            peaks = [defect.peak for defect in prediction.defects]
            assert not peaks or max(peaks) == pytest.approx(prediction.score)
    assert thresholds.review.n == 5
    low, high = detector.heat_range()
    assert (low + high) / 2 == pytest.approx(thresholds.review.threshold)


def test_what_an_inspection_can_not_be(detector, data):
    for wrong in ({"mm_per_pixel": 0}, {"smallest_area": -1}, {"mm_per_pixel": float("nan")}):
        with pytest.raises(UsageError):
            Inspection(**wrong)
    with pytest.raises(UsageError, match="includes the false-reject share"):
        detector.predict(data / "test/good/000.png", Inspection(false_reject=0.2, review=0.1))


def test_predict_of_a_broken_file_raises_and_many_go_on(detector, data, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(UnreadableImage):
        detector.predict(tmp_path / "bad.png")
    good = data / "test" / "good" / "000.png"
    results = list(detector.predict_many([good, tmp_path / "bad.png", good] * 5, batch_size=4))
    assert [isinstance(r, Failure) for r in results] == [False, True, False] * 5
    assert results[0].score == pytest.approx(detector.predict(good).score, rel=1e-5)


def test_predict_many_reads_no_further_than_it_must(detector, data):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield data / "test" / "good" / "000.png"

    next(detector.predict_many(endless(), batch_size=2))
    assert len(asked) < 20


def test_mixed_and_odd_sizes(detector, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for size in ((30, 90), (64, 64), (200, 17)):
        image = rng.integers(0, 255, (*size, 3), np.uint8)
        paths.append(save(image, tmp_path / f"{size[0]}.png"))
    results = list(detector.predict_many(paths))
    assert [r.size for r in results] == [(30, 90), (64, 64), (200, 17)]


def test_evaluate_gives_the_contract(detector, data):
    result = detector.evaluate(data)
    assert set(METRICS) <= set(result)
    assert all(0 <= result[name] <= 1 for name in METRICS)
    assert (result["n_good"], result["n_defective"], result["n_not_judged"]) == (4, 4, 0)
    assert "64x64 px" in result["protocol"]
    assert "iteration 25 (last)" in result["protocol"]
    json.dumps(result, allow_nan=False)


def test_labels_come_from_the_folder_also_where_the_mask_vanishes(detector, data):
    for mask in (data / "ground_truth").rglob("*.png"):
        save(np.zeros((48, 48), np.uint8), mask)
    result = detector.evaluate(data)
    assert result["n_defective"] == 4
    assert result["image_auroc"] is not None
    assert result["pixel_auroc"] is None


def test_without_ground_truth_there_are_image_metrics_only(detector, data):
    shutil.rmtree(data / "ground_truth")
    result = detector.evaluate(data)
    assert result["image_auroc"] is not None
    assert result["aupro"] is None
    assert "no masks" in result["protocol"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mask missing", "1 defective images have no mask"),
        ("image missing", "1 masks belong to no test image"),
        ("mask size", "mask .*000_mask.png is 9x9, its image 000.png is 48x48"),
        ("no test", "no labelled test images"),
    ],
)
def test_incomplete_labels_are_refused(detector, data, change, message):
    if change == "mask missing":
        (data / "ground_truth" / "square" / "000_mask.png").unlink()
    elif change == "image missing":
        (data / "test" / "square" / "000.png").unlink()
    elif change == "mask size":
        save(np.full((9, 9), 255, np.uint8), data / "ground_truth" / "square" / "000_mask.png")
    else:
        shutil.rmtree(data / "test")
    with pytest.raises(UsageError, match=message):
        detector.evaluate(data)


def test_unreadable_test_images_are_counted(detector, data):
    (data / "test" / "good" / "000.png").write_bytes(b"")
    result = detector.evaluate(data)
    assert (result["n_good"], result["n_not_judged"]) == (3, 1)
    for path in (data / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UrdError, match="no test image can be judged"):
        detector.evaluate(data)


def test_save_and_load_keep_everything(detector, data, tmp_path):
    detector.save(tmp_path / "m.safetensors")
    again = Detector.load(tmp_path / "m.safetensors")
    assert again.header == detector.header.without_paths()
    calibration = again.header.calibration
    assert calibration.scores == tuple(sorted(calibration.scores))
    assert len(calibration.scores) == len(calibration.pixels) == 5
    low, high = again.header.heat_range
    assert low < high
    for name in ("fingerprint", "train_images", "holdout_images", "foreground"):
        assert name in again.header.data.to_dict()
    assert set(again.header.versions) == {"urd", "torch", "timm", "python", "threads"}
    image = data / "test" / "good" / "000.png"
    assert again.predict(image).score == detector.predict(image).score


@pytest.mark.parametrize("damage", ["cut", "text", "zero", "foreign", "other format", "absent"])
def test_files_that_are_not_ours_are_refused_in_one_line(detector, tmp_path, damage):
    path = tmp_path / "m.safetensors"
    detector.save(path)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "zero":
        path.write_bytes(b"")
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    elif damage == "other format":
        path.write_bytes(whole.replace(b'\\"format\\": 2', b'\\"format\\": 9'))
    else:
        path.unlink()
    with pytest.raises(UrdError, match=r"m\.safetensors") as error:
        Detector.load(path)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_the_old_file_intact(detector, tmp_path):
    """A file-size limit makes the writes fail half-way, as a full disk does."""
    path = tmp_path / "m.safetensors"
    detector.save(path)
    before = path.read_bytes()
    code = (
        "import sys; from urd import Detector, UrdError\n"
        "d = Detector.load(sys.argv[1], 'cpu')\n"
        "try: d.save(sys.argv[1])\n"
        "except UrdError as e: print(e); sys.exit(7)\n"
    )

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

    done = subprocess.run(
        [sys.executable, "-c", code, path], preexec_fn=limit, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
    assert "cannot write" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("count", "readable"), [(0, 0), (1, 1), (3, 0)])
def test_too_few_images_are_refused_and_nothing_is_written(tiny_config, tmp_path, count, readable):
    folder = tmp_path / "good"
    folder.mkdir()
    for index in range(count):
        path = save(picture(np.random.default_rng(index)), folder / f"{index}.png")
        if index >= readable:
            path.write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"no images|needed"):
        Detector.fit(folder, tmp_path / "run", config=tiny_config)
    assert not (tmp_path / "run").exists()


def test_unreadable_training_images_are_named_and_skipped(tiny_config, data, tmp_path):
    (data / "train" / "good" / "003.png").write_bytes(b"broken")
    detector = Detector.fit(data, tmp_path / "run", config=tiny_config)
    (skipped,) = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert skipped["path"].endswith("003.png") and skipped["reason"]
    assert detector.header.data.skipped == 1


def test_foreground_and_textures_from_folders(tiny_config, data, tmp_path):
    rng = np.random.default_rng(0)
    mask = np.zeros((48, 48), np.uint8)
    mask[8:30, 8:30] = 255
    for index in range(12):
        save(mask, tmp_path / "fg" / f"{index:03}.png")
        save(picture(rng, 60), tmp_path / "textures" / "kind" / f"{index}.jpg")
    config = dataclasses.replace(
        tiny_config, foreground=str(tmp_path / "fg"), textures=str(tmp_path / "textures")
    )
    detector = Detector.fit(data, config=config)
    assert detector.header.data.textures == 12
    (tmp_path / "fg" / "003.png").unlink()
    with pytest.raises(UsageError, match=r"no foreground mask for 003\.png"):
        Detector.fit(data, config=config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"varient": "urd"}, "unknown option 'varient'"),
        ({"variant": "x"}, "variant cannot be 'x'"),
        ({"iterations": 0}, "iterations is 0"),
        ({"iterations": 2.5}, "whole number"),
        ({"image_size": 100}, "multiples of 32"),
        ({"device": "cuda:99"}, "device 'cuda:99'"),
        ({"device": "meta"}, "choose auto, cpu"),
        ({"seed": float("inf")}, "seed cannot be inf"),
        ({"image_size": [64.7, 64]}, "whole numbers"),
        ({"image_size": 32, "batch_size": 1}, "batch_size 1 is too small"),
        ({"textures": "/nope"}, "no texture folder"),
        ({"foreground": "what"}, "choose auto, none, otsu or grabcut"),
        ({"holdout": 0.9}, "between 0.0 and 0.5"),
        ({"weights": "/nope.safetensors"}, "no weight file"),
    ],
)
def test_wrong_options_are_refused_by_name(data, tmp_path, weights_file, options, message):
    settings = {"backbone": "test_resnet.r160_in1k", "weights": str(weights_file), "device": "cpu"}
    with pytest.raises(UsageError, match=message):
        Detector.fit(data, tmp_path / "run", **{**settings, "iterations": 2, **options})
    assert not (tmp_path / "run").exists()


def test_a_model_file_with_nan_is_refused(detector, tmp_path):
    detector.save(tmp_path / "m.safetensors")
    broken = Detector.load(tmp_path / "m.safetensors")
    next(broken.model.parameters()).data.fill_(float("nan"))
    broken.save(tmp_path / "nan.safetensors")
    with pytest.raises(UrdError, match="NaN or Inf"):
        Detector.load(tmp_path / "nan.safetensors")


def test_files_have_the_permissions_of_any_new_file(detector, tmp_path):
    detector.save(tmp_path / "m.safetensors")
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_slim_student_is_kept_and_loaded(detector, data, tmp_path):
    config = dataclasses.replace(detector.config, student="slim", iterations=1)
    slim = Detector.fit(data, tmp_path / "run", config=config)
    again = Detector.load(tmp_path / "run")
    assert again.config.student == "slim"
    image = data / "test" / "good" / "000.png"
    assert again.predict(image).score == slim.predict(image).score


def test_precision_can_be_chosen(detector, data, tmp_path):
    image = data / "test" / "good" / "000.png"
    exact = detector.in_precision("float32")
    half = detector.in_precision("bfloat16")
    assert (exact.engine.precision, half.engine.precision) == ("float32", "bfloat16")
    assert half.predict(image).score == pytest.approx(exact.predict(image).score, rel=0.05)
    assert half.predict(image).score != exact.predict(image).score
    detector.save(tmp_path / "m.safetensors")
    loaded = Detector.load(tmp_path / "m.safetensors", precision="bfloat16")
    assert loaded.predict(image).score == half.predict(image).score
    assert loaded.evaluate(data, resamples=0)["inference_precision"] == "bfloat16"
