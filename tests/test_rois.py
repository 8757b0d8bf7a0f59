"""Regions of interest: how they are read, and that nothing outside of them counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, save
from PIL import Image

from urd import Detector
from urd.cli import cli
from urd.data import paint_outside, read_rois
from urd.errors import UsageError
from urd.inspection.prediction import Failure
from urd.metrics import evaluate_maps
from urd.model.file import load_model
from urd.results.report import write_report

LEFT = [[0, 0], [24, 0], [24, 48], [0, 48]]

GREY = (0.5, 0.5, 0.5)


def polygons(path: Path, corners=LEFT, size=(48, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"size": size, "polygons": [corners]}))
    return path


def left_half(size: int = 48) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[:, : size // 2] = 255
    return mask


def right_halves(data: Path, folder: Path) -> Path:
    for path in (data / "train" / "good").iterdir():
        save(255 - left_half(), folder / path.name)
    return folder


def test_a_mask_and_the_polygon_around_it_are_the_same_region(tmp_path):
    mask = save(left_half(), tmp_path / "left.png")
    drawn = polygons(tmp_path / "left.json")
    inside = np.zeros((64, 64), bool)
    inside[:, :32] = True
    for path in (mask, drawn):
        np.testing.assert_array_equal(read_rois(str(path), "", (64, 64)).everywhere, inside)
        np.testing.assert_array_equal(read_rois("", str(path), (64, 64)).everywhere, ~inside)


def test_a_polygon_covers_the_pixels_whose_middle_it_covers(tmp_path):
    square = polygons(tmp_path / "s.json", [[10, 20], [30, 20], [30, 50], [10, 50]], (64, 64))
    roi = read_rois(str(square), "", (64, 64)).everywhere
    inside = np.zeros((64, 64), bool)
    inside[20:50, 10:30] = True
    np.testing.assert_array_equal(roi, inside)


def test_region_and_ignored_part_of_it(tmp_path):
    roi = save(left_half(), tmp_path / "roi.png")
    ignore = save(left_half().T.copy(), tmp_path / "ignore.png")
    roi = read_rois(str(roi), str(ignore), (64, 64)).everywhere
    assert roi[40, 10] and not roi[10, 10] and not roi[40, 40]


def test_a_region_per_image_is_found_by_name_and_by_folder(tmp_path):
    """Names repeat from folder to folder in MVTec's layout; cameras write suffixes in capitals."""
    rois, left, top = tmp_path / "regions", left_half(), left_half().T.copy()
    save(left, rois / "000.png")
    save(255 - left, rois / "good" / "000.png")
    save(top, rois / "test" / "good" / "000_mask.png")
    save(255 - top, rois / "one.png").rename(rois / "ONE.PNG")
    read = read_rois(str(rois), "", (48, 48))
    for image, expected in (
        ("test/scratch/000.png", left),
        ("train/good/000.png", 255 - left),
        ("test/good/000.png", top),
        ("test/good/ONE.JPG", 255 - top),
    ):
        assert np.array_equal(read.of(tmp_path / image), expected > 0), image


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"size": [0, 4], "polygons": [[[0, 0], [1, 0], [0, 1]]]}',
        '{"size": [4, 4], "polygons": []}',
        '{"size": [4, 4], "polygons": [[[0, 0], [1, 1]]]}',
        '{"size": [4, 4], "polygons": [[[0, 0], [1, 1], ["a", 1]]]}',
        '{"size": [4, 4], "polygons": [[[0, 0], [1, 1], [NaN, 1]]]}',
        '{"size": [4, 4], "polygons": [[[0, 0], [1, 1], [1e300, 1]]]}',
    ],
)
def test_what_is_no_list_of_polygons_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "roi.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"roi\.json") as caught:
        read_rois(str(path), "", (64, 64))
    assert "\n" not in str(caught.value)


def test_missing_and_empty_regions_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no region of interest at"):
        read_rois(str(tmp_path / "none.png"), "", (64, 64))
    empty = save(np.zeros((48, 48), np.uint8), tmp_path / "empty.png")
    with pytest.raises(UsageError, match="nothing is left to inspect"):
        read_rois(str(empty), "", (64, 64))
    assert read_rois("", "", (64, 64)) is None


def test_only_the_outside_is_painted():
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    roi = np.zeros((8, 8), bool)
    roi[2:5, 3:7] = True
    painted = paint_outside(pixels, roi, (0.5, 0.0, 1.0))
    np.testing.assert_array_equal(painted[roi], pixels[roi])
    assert (painted[~roi] == (128, 0, 255)).all()
    assert paint_outside(pixels, None, (0.5, 0.0, 1.0)) is pixels


@pytest.fixture
def fixed(data, tiny_config, tmp_path):
    """A detector that looks at the left half only, and its run folder."""
    roi = save(left_half(), tmp_path / "roi.png")
    config = replace(tiny_config, roi=str(roi))
    return Detector.fit(data, tmp_path / "run", config=config), tmp_path / "run"


def test_nothing_outside_of_the_region_changes_a_prediction(fixed, data):
    detector, run = fixed
    image = np.asarray(Image.open(data / "test" / "good" / "000.png")).copy()
    before = detector.predict(image)
    image[:, 27:] = 255  # two pixels of the original reach over the border when it is resized
    after = detector.predict(image)
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    assert before.anomaly_map[:, :32].max() == before.score
    assert (before.anomaly_map[:, 32:] == 0).all()
    reloaded = Detector.load(run).predict(image)
    np.testing.assert_array_equal(reloaded.anomaly_map, after.anomaly_map)


def test_the_region_lies_in_the_model_file_and_is_no_other_at_prediction(fixed, tmp_path):
    _, run = fixed
    (tmp_path / "roi.png").unlink()
    detector = Detector.load(run)
    assert detector.header.roi.sum() == 64 * 32
    assert load_model(run)[1].data.region_of_interest == "one for all images"
    with pytest.raises(UsageError, match="--roi belongs to urd fit"):
        detector.inspect_in(str(run))
    detector.save(tmp_path / "copy.safetensors")
    assert Detector.load(tmp_path / "copy.safetensors").header.roi.sum() == 64 * 32


def test_anomalies_are_painted_inside_of_the_region_only(data, tiny_config, tmp_path):
    from urd.data import read_layout
    from urd.training.training_data import load_training_data

    roi = save(left_half(), tmp_path / "roi.png")
    config = replace(tiny_config, roi=str(roi), foreground="none")
    training_data = load_training_data(read_layout(data).train, config, GREY, torch.device("cpu"))
    assert training_data.train.foreground[:, :, :32].all()
    off = replace(config, foreground=str(right_halves(data, tmp_path / "right")))
    elsewhere = load_training_data(
        read_layout(data).train, off, GREY, torch.device("cpu")
    ).train.foreground
    assert torch.equal(
        elsewhere, training_data.train.foreground
    )  # where they do not meet, the region
    assert not training_data.train.foreground[:, :, 32:].any()
    colours = training_data.train.images[:, :, :, 32:].flatten(2)
    assert (colours == colours[:1, :, :1]).all()


def test_calibration_and_evaluation_look_inside_only(fixed, data):
    detector, _ = fixed
    inside = detector.evaluate(data, resamples=0)
    assert "region of interest" in inside["protocol"]
    good = sorted((data / "test" / "good").glob("*.png"))
    maps = [detector.predict(p).anomaly_map for p in good]
    assert all((m[:, 32:] == 0).all() for m in maps)
    detector.calibrate(good, "a test")
    found = detector.header.calibration
    assert found.scores == pytest.approx(sorted(m.max() for m in maps))
    share = [np.sort(m[:, :32], axis=None)[-1 - int(0.001 * 64 * 32)] for m in maps]
    assert found.pixels == pytest.approx(sorted(share))
    for path in good:
        image = np.asarray(Image.open(path)).copy()
        image[:, 27:] = 0
        save(image, path)
    detector.calibrate(good, "a test")
    assert detector.header.calibration == found


def test_metrics_count_inspected_pixels_only():
    rng = np.random.default_rng(1)
    maps = [rng.random((20, 20)) for _ in range(6)]
    masks = [np.zeros((20, 20), bool) for _ in maps]
    for mask in masks[:3]:
        mask[4:9, 2:14] = True
    rois = [np.zeros((20, 20), bool) for _ in maps]
    for roi in rois:
        roi[:, :10] = True
    defects = ["hole"] * 3 + ["good"] * 3
    scores = np.array([m.max() for m in maps])
    seen = evaluate_maps(maps, scores, defects, masks, rois=rois, resamples=50)
    cropped = evaluate_maps(
        [m[:, :10] for m in maps], scores, defects, [m[:, :10] for m in masks], resamples=50
    )
    assert seen == pytest.approx(cropped, abs=1e-12)


@pytest.fixture
def per_image(data, tiny_config, tmp_path):
    rois = tmp_path / "regions"
    for path in data.rglob("*.png"):
        polygons(rois / f"{path.stem}.json")
    return Detector.fit(data, tmp_path / "run", config=replace(tiny_config, roi=str(rois)))


def test_a_region_per_image_is_asked_for_at_prediction(per_image, data, tmp_path):
    image = data / "test" / "good" / "000.png"
    with pytest.raises(UsageError, match="one region per image"):
        per_image.predict(image)
    per_image.inspect_in(str(tmp_path / "regions"))
    assert (per_image.predict(image).anomaly_map[:, 33:] == 0).all()
    strange = save(picture(np.random.default_rng(5)), tmp_path / "strange.png")
    (failure,) = per_image.predict_many([strange])
    assert isinstance(failure, Failure) and "no region of interest" in failure.reason


def test_a_region_per_image_lies_within_the_one_for_all(data, tiny_config, tmp_path):
    rois = tmp_path / "regions"
    for path in data.rglob("*.png"):
        polygons(rois / f"{path.stem}.json")
    top = polygons(tmp_path / "top.json", [[0, 0], [48, 0], [48, 12], [0, 12]])
    config = replace(tiny_config, roi=str(rois), ignore=str(top))
    Detector.fit(data, tmp_path / "run", config=config)
    detector = Detector.load(tmp_path / "run")
    image = data / "test" / "good" / "000.png"
    with pytest.raises(UsageError, match="one region per image"):
        detector.predict(image)
    with pytest.raises(UsageError, match="the folder of regions"):
        detector.inspect_in(ignore=str(top))
    detector.inspect_in(str(rois))
    seen = detector.predict(image).anomaly_map
    assert (seen[:, 33:] == 0).all() and (seen[:15] == 0).all() and (seen[17:, :31] > 0).all()


def test_the_report_takes_a_region_per_image(per_image, data, tmp_path):
    run, rois = tmp_path / "run", str(tmp_path / "regions")
    evaluated = ["evaluate", str(run), str(data), "--roi", rois, "--resamples", "0"]
    cli(evaluated, standalone_mode=False)
    write_report(run)
    assert "cannot be shown" in (run / "report.html").read_text()
    cli(["report", str(run), "--roi", rois], standalone_mode=False)
    assert "cannot be shown" not in (run / "report.html").read_text()


def test_a_training_image_without_its_region_is_named(data, tiny_config, tmp_path):
    polygons(tmp_path / "regions" / "000.json")
    with pytest.raises(UsageError, match=r"001\.png: no region of interest"):
        Detector.fit(data, config=replace(tiny_config, roi=str(tmp_path / "regions")))
