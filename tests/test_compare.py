"""Comparing two detectors: the paired bootstrap, and the verb on runs and on folders of maps."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

from urd import Detector, UsageError
from urd.cli import cli
from urd.metrics.comparison import compare
from urd.metrics.protocol import evaluate_maps, in_memory

DEFECTS = ["good"] * 20 + ["dent"] * 20


def maps_of(strength: float, seed: int = 0, noise: int = 1):
    """Maps and masks; hard images are hard for every detector, `noise` is its own."""
    shared, own = np.random.default_rng(seed), np.random.default_rng(noise)
    masks = [np.zeros((16, 16), bool) for _ in DEFECTS]
    maps = []
    for mask, defect in zip(masks, DEFECTS, strict=True):
        mask[4:8, 4:8] = defect != "good"
        hard = shared.normal(0, 1, (16, 16))
        maps.append(hard + own.normal(0, 0.1, (16, 16)) + strength * mask)
    return maps, masks


def images_of(strength: float, **changes):
    maps, masks = maps_of(strength, **changes)
    return in_memory(maps, [float(m.max()) for m in maps], DEFECTS, masks)


def test_each_value_is_that_of_the_metrics_alone():
    found = {d.name: d for d in compare(images_of(1.0), images_of(1.5, noise=2), resamples=50)}
    for side, maps in (("a", maps_of(1.0)), ("b", maps_of(1.5, noise=2))):
        alone = evaluate_maps(maps[0], [float(m.max()) for m in maps[0]], DEFECTS, maps[1])
        for name, difference in found.items():
            assert getattr(difference, side) == alone[name]
    assert {"image_auroc", "pixel_ap", "aupro"} <= found.keys()


def test_a_better_detector_is_named_where_single_intervals_overlap():
    a, b = images_of(1.0), images_of(1.1, noise=2)
    found = {d.name: d for d in compare(a, b, resamples=500)}
    pixel = found["pixel_auroc"]
    assert pixel.better == "B" and 0 < pixel.low < pixel.difference < pixel.high
    alone = [evaluate_maps(*_arguments(s), resamples=500) for s in (1.0, 1.1)]
    assert alone[0]["pixel_auroc_high"] > alone[1]["pixel_auroc_low"]
    back = {d.name: d for d in compare(b, a, resamples=500)}["pixel_auroc"]
    assert back.better == "A"
    assert (back.low, back.high) == pytest.approx((-pixel.high, -pixel.low))


def _arguments(strength):
    maps, masks = maps_of(strength)
    return maps, [float(m.max()) for m in maps], DEFECTS, masks


def test_equal_detectors_are_not_told_apart():
    same = compare(images_of(1.0), images_of(1.0), resamples=200)
    assert all((d.difference, d.low, d.high, d.better) == (0, 0, 0, None) for d in same)


def test_without_resamples_there_is_no_interval():
    found = compare(images_of(1.0), images_of(1.4), resamples=0)
    assert all(d.low is None and d.better is None for d in found)


def test_other_images_are_refused():
    with pytest.raises(UsageError, match="other test images"):
        compare(images_of(1.0), images_of(1.0)[:-1])


def test_two_runs_on_one_test_set(data, tiny_config, tmp_path, capsys):
    for name, iterations in (("a", 1), ("b", 4)):
        config = dataclasses.replace(tiny_config, iterations=iterations)
        Detector.fit(data, tmp_path / name, config=config)
    out = tmp_path / "c.json"
    command = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), str(data)]
    cli([*command, "--json", str(out), "--resamples", "100"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "image AUROC" in said and "Other verdicts:" in said
    protocol = "8 images; maps at 64x64 px; 100 paired bootstrap resamples, 95 % intervals"
    assert f"A: {tmp_path / 'a'}, B: {tmp_path / 'b'}\n{protocol}\n" in said
    stored = json.loads(out.read_text())
    alone = Detector.load(tmp_path / "b").evaluate(data, resamples=0)
    rows = {row["name"]: row for row in stored["metrics"]}
    assert rows["pixel_auroc"]["b"] == pytest.approx(alone["pixel_auroc"])
    assert (stored["images"], stored["protocol"]) == (8, protocol)


def test_two_folders_of_maps(tmp_path, capsys):
    for name, strength in (("a", 1.0), ("b", 3.0)):
        maps, masks = maps_of(strength)
        for index, (anomaly_map, mask, defect) in enumerate(zip(maps, masks, DEFECTS, strict=True)):
            path = tmp_path / name / defect / f"{index:03}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, anomaly_map.astype(np.float32))
            if mask.any():
                truth = tmp_path / "masks" / defect / f"{index:03}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(truth), mask.astype(np.uint8) * 255)
    command = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    cli([*command, "--masks", str(tmp_path / "masks"), "--resamples", "200"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "pixel AP" in said and " B " in said and "Other verdicts" not in said
    assert "40 images; maps in the size of their files; 200 paired" in " ".join(said.split())
    names = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.npy")]
    for side, sign in (("a", -1.0), ("b", 1.0)):
        scores = {str(name): sign * (name.parts[0] == "dent") for name in names}
        (tmp_path / f"{side}.json").write_text(json.dumps(scores))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    with_scores = [*command, "--masks", str(tmp_path / "masks"), "--scores", *files]
    cli([*with_scores, "--json", str(tmp_path / "c.json")], standalone_mode=False)
    stored = json.loads((tmp_path / "c.json").read_text())
    row = next(row for row in stored["metrics"] if row["name"] == "image_auroc")
    assert (row["a"], row["b"]) == (0.0, 1.0)
    assert "image scores from a.json and b.json" in stored["protocol"]
    with pytest.raises(UsageError, match=r"a folder of maps\? give --masks FOLDER"):
        cli([*command, str(tmp_path)], standalone_mode=False)
    (tmp_path / "b" / "dent" / "020.npy").unlink()
    with pytest.raises(UsageError, match=r"only|there is no map"):
        cli([*command, "--masks", str(tmp_path / "masks")], standalone_mode=False)


def test_runs_and_masks_together_are_refused(tmp_path):
    for extra in ([], ["data", "--masks", "m"]):
        with pytest.raises(UsageError, match="give either DATA"):
            cli(["compare", "a", "b", *extra], standalone_mode=False)
    with pytest.raises(UsageError, match="--scores needs --masks"):
        cli(["compare", "a", "b", "data", "--scores", "c", "d"], standalone_mode=False)
