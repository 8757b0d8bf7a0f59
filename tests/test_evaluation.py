"""A labelled test set, judged: the same figures as from memory, but maps that wait on the disk."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import save
from measured import random_case

from urd.config import FitConfig
from urd.data import DataSet, Sample, read_layout
from urd.detector import Detector
from urd.errors import NotWritten, UrdError
from urd.evaluation import evaluate, maps_on_disk
from urd.evaluation.evaluate import evaluate_predictions
from urd.evaluation.records import Evaluation, JudgedImage, read_details, read_evaluation
from urd.evaluation.tally import Tally
from urd.inspection.defects import Defect
from urd.inspection.prediction import Failure, Prediction
from urd.metrics import METRICS, Metric, evaluate_maps, images, measure
from urd.metrics.protocol import describe, in_memory
from urd.model.header import ModelHeader

SIZE = (64, 64)
CONFIG = FitConfig(backbone=("drawn",), image_size=SIZE, iterations=7)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files lie, empty so far."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def labelled_set(tmp_path):
    """A good image and three defective ones, with maps and masks; the masks lie in files."""
    maps, masks = random_case(8, 40, np.float32, size=64)
    samples = [Sample(tmp_path / "0.png")]
    for index, mask in enumerate(masks[1:], start=1):
        file = save(mask.astype(np.uint8) * 255, tmp_path / f"{index}_mask.png")
        samples.append(Sample(tmp_path / f"{index}.png", "dent", (file,)))
    return DataSet(tmp_path, "mvtec", [], samples, has_masks=True), maps, masks


def judged(maps, rois=None):
    for index, anomaly_map in enumerate(maps):
        roi = None if rois is None else rois[index]
        yield Prediction(float(anomaly_map.max()), anomaly_map, SIZE, verdict="OK", roi=roi)


def evaluated(data, results, resamples=0):
    return evaluate_predictions(data, results, CONFIG, in_rois=False, resamples=resamples)


@pytest.mark.parametrize("inside", [False, True])
def test_figures_and_curves_are_those_of_maps_in_memory(labelled_set, inside):
    data, maps, masks = labelled_set
    rois = [np.arange(64) > 5 * np.arange(64)[:, None] for _ in maps] if inside else None
    found = evaluated(data, judged(maps, rois), resamples=30)
    scores = np.array([m.max() for m in maps])
    test = in_memory(maps, scores, ["good", *["dent"] * 3], masks, rois=rois)
    expected = measure(test, resamples=30)
    assert found.metrics.items() >= expected.figures.items()
    assert (found.metrics["backbone"], found.metrics["n_missed"]) == ("drawn", 3)
    curves = {name: (x.tolist(), y.tolist()) for name, (x, y) in expected.curves().items()}
    assert found.curves == curves and curves.keys() == {"roc", "pro"}


class Counting:
    """An engine that gives drawn maps and counts the images that it sees."""

    input_size, device, precision = SIZE, torch.device("cpu"), "float32"
    seen = 0

    def weights_sha256(self):
        return None

    def __call__(self, pixels, rois):
        self.seen += len(pixels)
        maps = pixels.mean(axis=-1, dtype=np.float32)
        return maps, maps.max(axis=(1, 2))


def test_the_network_sees_each_image_once(data):
    engine = Counting()
    header = ModelHeader(CONFIG, (0.5,) * 3, (0.5,) * 3, (0.0, 1.0))
    found = Detector(engine, header).evaluation(data, resamples=20)
    assert engine.seen == len(read_layout(data).test) == 8
    assert found.metrics["aupro"] is not None and "aupro_low" in found.metrics


def test_memory_does_not_grow_with_the_maps(tmp_path, temporary, monkeypatch):
    monkeypatch.setattr(images, "CHUNK_PIXELS", 4 * 64 * 64)
    count, alive = 400, set()
    mask = np.zeros(SIZE, bool)
    mask[5:8, 5:8] = True
    monkeypatch.setattr(evaluate, "read_masks", lambda *_: mask)  # a file's buffer would count
    bad = Sample(tmp_path / "bad.png", "dent", (tmp_path / "mask.png",))
    samples = [Sample(tmp_path / "good.png"), bad] * (count // 2)
    data = DataSet(tmp_path, "mvtec", [], samples, has_masks=True)

    def drawn():
        for seed in range(count):
            anomaly_map = np.random.default_rng(seed).random(SIZE, np.float32)
            alive.add(seed)
            weakref.finalize(anomaly_map, alive.remove, seed)
            yield Prediction(float(anomaly_map.max()), anomaly_map, SIZE, roi=np.ones(SIZE, bool))
            del anomaly_map
            assert len(alive) <= 2

    tracemalloc.start()
    evaluated(data, drawn())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < count * 64 * 64 * 4 / 4
    assert list(temporary.iterdir()) == []


class Disk(io.FileIO):
    """A file on a disk that takes `most` bytes at a time, and `room` in all."""

    most, room, opened = 1 << 30, 1 << 30, []

    def __init__(self, **options):
        with tempfile.NamedTemporaryFile() as file:
            super().__init__(os.dup(file.fileno()), "r+")
        self.opened.append(self)

    def write(self, content):
        if self.tell() + len(content) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content[: self.most])


@pytest.fixture
def disk(monkeypatch):
    monkeypatch.setattr(maps_on_disk.tempfile, "TemporaryFile", Disk)
    monkeypatch.setattr(Disk, "opened", [])
    return monkeypatch


def test_a_full_disk_is_one_line_and_leaves_nothing(labelled_set, temporary, disk):
    data, maps, _ = labelled_set
    disk.setattr(Disk, "room", 2 * maps[0].nbytes)
    with pytest.raises(NotWritten, match=r"No space left on device; .*TMPDIR") as caught:
        evaluated(data, judged(maps))
    assert str(temporary) in str(caught.value) and str(caught.value).isprintable()
    assert caught.value.exit_code == 1
    assert [file.closed for file in Disk.opened] == [True]
    assert list(temporary.iterdir()) == []


def test_without_a_folder_for_temporary_files_it_is_one_line(labelled_set, monkeypatch):
    def refuse(**options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(maps_on_disk.tempfile, "TemporaryFile", refuse)
    with pytest.raises(NotWritten, match=r"No usable temporary directory found; .*TMPDIR"):
        evaluated(labelled_set[0], judged(labelled_set[1]))


def test_a_disk_that_takes_parts_loses_nothing(labelled_set, disk):
    data, maps, _ = labelled_set
    whole = evaluated(data, judged(maps))
    disk.setattr(Disk, "most", 1000)
    assert evaluated(data, judged(maps)) == whole


def test_ctrl_c_ends_the_maps_file(labelled_set, temporary, disk):
    data, maps, _ = labelled_set

    def stopped():
        yield from judged(maps[:2])
        assert not Disk.opened[0].closed
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluated(data, stopped())
    assert Disk.opened[0].closed and list(temporary.iterdir()) == []


def test_images_that_were_not_judged_count_nowhere_else(labelled_set):
    data, maps, masks = labelled_set
    lost = data.test[3].path
    found = evaluated(data, [*judged(maps[:3]), Failure(lost, "cut off")])
    scores = np.array([m.max() for m in maps[:3]])
    expected = evaluate_maps(maps[:3], scores, ["good", "dent", "dent"], masks[:3])
    assert found.metrics.items() >= expected.items()
    assert found.metrics["n_not_judged"] == 1
    assert found.images[-1] == JudgedImage(str(lost), "dent", None, "ERROR", "cut off")
    with pytest.raises(UrdError, match="no test image can be judged"):
        evaluated(replace(data, test=data.test[:1]), [Failure(lost, "cut off")])


def test_what_is_written_is_read_back(labelled_set, tmp_path):
    data, maps, _ = labelled_set
    found = evaluated(data, [*judged(maps[:3]), Failure(data.test[3].path, "cut off")])
    found = replace(found, metrics={**found.metrics, "data": "parts"})
    found.write(tmp_path)
    assert read_evaluation(tmp_path, None) == found
    details = json.loads((tmp_path / "evaluation_details.json").read_text())
    assert details.keys() == {"images", "curves"}
    first, last = details["images"][0], details["images"][-1]
    assert first == {
        "path": str(tmp_path / "0.png"), "defect": "good", "score": float(maps[0].max()),
        "verdict": "OK",
    }  # fmt: skip
    assert (last["score"], last["verdict"], last["reason"]) == (None, "ERROR", "cut off")
    assert details["curves"]["roc"] == [list(rates) for rates in found.curves["roc"]]


def test_details_alone_are_no_evaluation(tmp_path):
    row = JudgedImage("a.png", "good", 0.5, None)
    Evaluation({"data": "parts"}, [row], {}, []).write(tmp_path)
    (tmp_path / "evaluation.json").unlink()
    assert read_evaluation(tmp_path, None) is None
    assert read_details(tmp_path).images == [row]
    assert read_details(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("score", "verdict", "reason"), [(None, "OK", None), (1.0, "ERROR", "x"), (None, "ERROR", None)]
)
def test_a_record_has_a_score_or_a_reason(score, verdict, reason):
    with pytest.raises(ValueError, match="an image"):
        JudgedImage("a.png", "good", score, verdict, reason)


def test_a_new_metric_is_one_entry(monkeypatch):
    highest = Metric(
        "image_highest",
        "highest score",
        False,
        lambda found: max(survey.score for survey in found.surveys),
        lambda drawn: drawn.weights.max(axis=1),
        by_type=True,
    )
    monkeypatch.setitem(METRICS, "image_highest", highest)
    maps = [np.full((4, 4), value) for value in (0.0, 0.25, 0.5, 0.75)]
    scores = np.array([m.max() for m in maps])
    found = evaluate_maps(maps, scores, ["good", "good", "dent", "dent"], None, resamples=9)
    assert (found["image_highest"], found["image_highest:dent"]) == (0.75, 0.75)
    assert 1 <= found["image_highest_low"] <= found["image_highest_high"] <= 2
    assert describe(found)[-1][:2] == ("highest score", "0.7500")


def rows(defect: str, *verdicts: str | None):
    for verdict in verdicts:
        error = verdict == "ERROR"
        yield JudgedImage("a", defect, None if error else 0.5, verdict, "cut" if error else None)


def test_the_tally_counts_what_matters():
    tally = Tally.of(
        [
            *rows("good", "OK", "OK", "REVIEW", "NG", "ERROR"),
            *rows("dent", "OK", "REVIEW", "NG"),
            *rows("hole", "NG", "ERROR"),
        ]
    )
    assert tally.sentence() == (
        "Missed defects 1 of 4 (25 %). Good parts rejected 1 of 4, sent to review 1 of 4. "
        "Not judged 2 of 10."
    )
    counted = {"n_missed": 1, "n_outlined_elsewhere": 0, "n_rejected": 1, "n_to_review": 1}
    assert tally.metrics() == {"n_not_judged": 2, **counted}


def with_outlines(maps, outlines):
    """Judged NG; each image has one defect with this outline, or none."""
    for anomaly_map, outline in zip(maps, outlines, strict=True):
        peak = float(anomaly_map.max())
        found = [Defect((0, 0, 1, 1), outline, 1.0, None, peak, peak, (0, 0))] if outline else []
        yield Prediction(peak, anomaly_map, SIZE, verdict="NG", defects=found)


def test_a_right_verdict_at_a_wrong_place_is_counted(labelled_set, tmp_path):
    data, maps, masks = labelled_set
    masks = [np.zeros(SIZE, bool) for _ in masks]
    for mask, sample in zip(masks, data.test, strict=True):
        mask[20:24, 30:34] = True
        if sample.masks:
            save(mask.astype(np.uint8) * 255, sample.masks[0])
    around = [(10.5, 10.5), (50.5, 10.5), (50.5, 40.5), (10.5, 40.5)]  # no corner is on the mask
    beside = [(2.5, 2.5), (29.5, 2.5), (29.5, 60.5)]
    found = evaluated(data, with_outlines(maps, [around, around, beside, None]))
    assert [image.on_defect for image in found.images] == [None, True, False, None]
    tally = Tally.of(found.images)
    assert (tally.elsewhere, tally.outlined) == (1, 2)
    assert "Outlined elsewhere 1 of 2." in tally.sentence()
    assert found.metrics["n_outlined_elsewhere"] == 1
    found.write(tmp_path)
    details = read_details(tmp_path)
    assert details is not None and details.images == found.images


def test_the_tally_without_thresholds_claims_nothing():
    tally = Tally.of([*rows("good", None, None), *rows("dent", None, "ERROR")])
    assert tally.metrics()["n_missed"] is None
    assert tally.sentence() == (
        "No thresholds, so no verdicts: run urd calibrate. Not judged 1 of 4."
    )
