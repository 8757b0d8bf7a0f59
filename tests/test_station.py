"""What watch and serve share: one row per image, thresholds in force, kept images, the camera."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lines import bad_bytes, good_bytes, record, served, station, tiny_run
from PIL import Image

from urd import Detector
from urd.errors import NotWritten, UsageError
from urd.inspection.camera import CameraWatch
from urd.inspection.prediction import Failure
from urd.model.schema import DataFacts
from urd.serving.kept_images import heat_of
from urd.serving.retention import prune
from urd.serving.served_model import ServedModel, file_sha256, thresholds_in_force
from urd.serving.station import Arrived
from urd.serving.store import Store, StoreError


@pytest.fixture(scope="module")
def run(tmp_path_factory, weights_file):
    return tiny_run(tmp_path_factory.mktemp("station"), weights_file)


@pytest.fixture(scope="module")
def model(run):
    return served(run)


def concluded(line, model, image, **facts):
    (result,) = model.judge([image])
    return line.conclude(model, Arrived.of(image, **facts), result)


def test_a_judgement_is_that_of_the_detector(tmp_path, model):
    line = station(tmp_path)
    outcome = concluded(line, model, good_bytes(), part="A")
    alone = model.detector.predict(good_bytes())
    assert outcome.stored and outcome.new and outcome.row["sequence"] == 1
    assert outcome.row["score"] == alone.score and outcome.row["verdict"] == alone.verdict
    assert outcome.row["part"] == "A" and outcome.row["path"] is None
    assert outcome.row["model_sha256"] == file_sha256(model.path)
    assert outcome.row == line.store.get(1).to_dict()


def test_what_cannot_be_judged_is_an_error_row(tmp_path, model):
    outcome = concluded(station(tmp_path), model, b"no image")
    assert outcome.row["verdict"] == "ERROR" and outcome.row["error"]
    assert outcome.row["score"] is None


def test_a_key_that_repeats_gives_the_first_row(tmp_path, model):
    line = station(tmp_path)
    first = concluded(line, model, good_bytes(1), key="k")
    again = concluded(line, model, good_bytes(2), key="k")
    assert not again.new and again.row == first.row
    assert len(list(line.store.images.glob("*/*.heat.png"))) == 1


def test_nothing_is_reported_as_stored_if_the_store_fails(tmp_path, model, monkeypatch):
    line = station(tmp_path)

    def fail(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(line.store, "add", fail)
    outcome = concluded(line, model, good_bytes())
    assert not outcome.stored and outcome.problem == "the disk is full"
    assert outcome.row["sequence"] is None and outcome.row["verdict"]


def test_a_judgement_is_stored_although_its_image_cannot_be_kept(tmp_path, model, monkeypatch):
    line = station(tmp_path)

    def fail(*_):
        raise NotWritten("no space")

    monkeypatch.setattr(line.images, "keep", fail)
    outcome = concluded(line, model, good_bytes())
    assert outcome.stored and line.store.get(1).image is None


@pytest.mark.parametrize(("rule", "kept"), [("all", 3), ("rejects+sample", 2), ("none", 0)])
def test_images_are_kept_by_rule(tmp_path, model, rule, kept):
    line = station(tmp_path, rule=rule)
    images = [good_bytes(3), bad_bytes(3), b"junk"]
    verdicts = [concluded(line, model, image).row["verdict"] for image in images]
    assert verdicts == ["OK", "NG", "ERROR"]
    rows = list(line.store.rows())
    assert sum(row.image is not None for row in rows) == kept
    for row, image in zip(rows, images, strict=True):
        if row.image is not None:
            assert (line.store.images / row.image).read_bytes() == image
            has_heat = row.body["verdict"] != "ERROR"
            assert heat_of(line.store.images / row.image).exists() == has_heat


def test_a_sample_of_ok_images_is_kept(tmp_path, model):
    images = station(tmp_path, rule="rejects+sample").images
    kept = [images._wanted(model.detector.predict(good_bytes(3)), f"{n:064x}") for n in (0, 1)]
    assert kept == [True, True]  # the first eight digits decide: both are 0
    assert not images._wanted(model.detector.predict(good_bytes(3)), "00000001" + "0" * 56)


def test_thresholds_of_a_person_are_in_force_at_once_and_after_a_restart(tmp_path, run):
    line, model = station(tmp_path), served(run)
    score = concluded(line, model, good_bytes(3)).row["score"]
    change = line.store.change_thresholds(
        "line", model.sha256, score - 2, score - 1, "Ana", "too many slip through"
    )
    line.refresh(model)
    row = concluded(line, model, good_bytes(3)).row
    assert row["verdict"] == "NG"
    assert row["thresholds"] == {"review": score - 2, "reject": score - 1, "change": change}
    restarted = served(run)
    station(tmp_path).refresh(restarted)
    assert restarted.facts() == model.facts()
    assert thresholds_in_force(run, line.store.path) == model.inspection
    line.store.change_thresholds("line", model.sha256, None, None, "Bo", "back")
    line.refresh(model)
    assert concluded(line, model, good_bytes(3)).row["verdict"] == "OK"


def test_thresholds_and_their_number_change_in_one_step(run):
    """A row never has the old thresholds with the number of the new ones."""
    seen = []

    class Watched(ServedModel):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            seen.append(self.facts())  # what another thread may see now

    model = served(run)
    model.__class__ = Watched
    model.set_thresholds({"id": 3, "review": 5.0, "reject": 6.0})
    model.set_thresholds({"id": 4, "review": 7.0, "reject": 8.0})
    assert seen == [
        {"review": 5.0, "reject": 6.0, "change": 3},
        {"review": 7.0, "reject": 8.0, "change": 4},
    ]
    with pytest.raises(UsageError):
        model.set_thresholds({"id": 5, "review": 2.0, "reject": 1.0})
    assert model.facts() == seen[-1] and len(seen) == 2


def test_thresholds_of_a_person_say_what_to_expect(model):
    calibration = model.detector.header.calibration
    lowest = calibration.thresholds_at(calibration.scores[0], calibration.scores[-1])
    n = len(calibration.scores)
    assert lowest.review.above == sum(s > calibration.scores[0] for s in calibration.scores)
    assert lowest.reject.expected == 1 / (n + 1)
    assert lowest.peak == calibration.thresholds().peak
    everything = calibration.thresholds_at(-1.0, -1.0)
    assert everything.reject.bound == 1.0
    for wrong in [(2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))]:
        with pytest.raises(UsageError):
            calibration.thresholds_at(*wrong)


def test_a_model_without_thresholds_is_refused(tmp_path, run, weights_file):
    detector = Detector.load(run)
    from dataclasses import replace

    detector.header = replace(detector.header, calibration=None)
    detector.save(tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="run urd calibrate"):
        ServedModel.load("line", tmp_path / "model.safetensors")


def test_a_model_is_known_by_all_of_its_files(tmp_path):
    (tmp_path / "a.xml").write_bytes(b"1")
    (tmp_path / "a.bin").write_bytes(b"2")
    before = file_sha256(tmp_path / "a.xml")
    (tmp_path / "a.bin").write_bytes(b"3")
    assert file_sha256(tmp_path / "a.xml") != before


def test_models_of_another_size_see_another_place(run, model):
    other = served(run)
    assert model.same_place(other)
    from dataclasses import replace

    other.detector.header = replace(other.detector.header, roi=np.ones((64, 64), bool))
    assert not model.same_place(other)


FACTS = DataFacts(brightness=[100.0, 110.0, 120.0], grey=True, image_sizes=[[48, 64], [48, 60]])


def scene(mean: float, size=(64, 48), colour: bool = False) -> Image.Image:
    rng = np.random.default_rng(int(mean))
    values = (mean + rng.normal(0, 10, (size[1], size[0], 1))).repeat(3, axis=2)
    if colour:
        values[..., 0] += 20
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def test_a_usual_image_says_nothing():
    watch = CameraWatch(FACTS)
    assert [watch.look(scene(110 + n % 3), (48, 64), str(n)) for n in range(40)] == [()] * 40


@pytest.mark.parametrize(
    ("picture", "size", "words"),
    [
        (scene(110, colour=True), (48, 64), "in colour"),
        (scene(110), (48, 65), "another size"),
        (scene(110), (96, 64), "another shape"),
        (Image.new("RGB", (64, 48), (110, 110, 110)), (48, 64), "almost one colour"),
    ],
)
def test_an_odd_image_is_said(picture, size, words):
    (message,) = CameraWatch(FACTS).look(picture, size, "1")
    assert words in message


def test_a_camera_that_stands_still_is_said():
    watch = CameraWatch(FACTS)
    assert watch.look(scene(110), (48, 64), "a") == ()
    assert "stand still" in watch.look(scene(110), (48, 64), "a")[0]
    assert watch.look(scene(110), (48, 64), "b") == ()


@pytest.mark.parametrize(("factor", "word"), [(1.3, "lighter"), (0.7, "darker")])
def test_a_shift_of_all_parts_is_said_but_one_dark_part_is_not(factor, word):
    watch = CameraWatch(FACTS)
    for n in range(20):
        assert watch.look(scene(40 if n == 10 else 110), (48, 64), str(n)) == ()
    said = [watch.look(scene(110 * factor), (48, 64), f"x{n}") for n in range(20)]
    assert said[0] == () and word in said[-1][0]


def test_an_old_model_says_nothing_of_size_colour_or_light():
    watch = CameraWatch(DataFacts())
    found = [watch.look(scene(200, colour=True), (9, 9), str(n)) for n in range(20)]
    assert found == [()] * 20


def test_the_header_knows_the_camera_of_training(run):
    facts = Detector.load(run).header.data
    assert facts.image_sizes == [[48, 48]] and facts.grey is False
    low, usual, high = facts.brightness
    assert 100 < low <= usual <= high < 160


def test_a_strict_camera_makes_an_odd_image_an_error(tmp_path, model):
    line = station(tmp_path, camera="strict")
    assert concluded(line, model, good_bytes(3)).row["verdict"] == "OK"
    row = concluded(line, model, good_bytes(3)).row
    assert row["verdict"] == "ERROR" and "stand still" in row["error"]
    assert row["camera"] == [row["error"]]


def aged(store: Store, count: int) -> None:
    """Rows of one day after the other, with an image of 100 bytes each."""
    for day in range(count):
        name = f"d/{day}.png"
        path = store.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 90)
        heat_of(path).write_bytes(b"x" * 10)
        store.add(record(time=86_400.0 * day, image=name), ["hook"] if day == 1 else ())


def test_old_rows_go_but_not_those_with_an_unsent_event(tmp_path):
    store = Store(tmp_path / "line.sqlite")
    aged(store, 5)
    done = prune(store, keep_days=1.5, now=86_400.0 * 4)
    assert (done.rows, done.images, done.bytes) == (2, 2, 200)
    assert [row.sequence for row in store.rows()] == [2, 4, 5]
    assert len(list(store.images.glob("*/*"))) == 6


def test_images_go_by_size_and_their_rows_stay(tmp_path):
    store = Store(tmp_path / "line.sqlite")
    aged(store, 5)
    assert prune(store, keep_image_bytes=250).images == 3
    assert [row.image is not None for row in store.rows()] == [False, False, False, True, True]
    assert prune(store, keep_image_days=0.5, now=86_400.0 * 4).images == 1


def test_an_image_without_a_row_goes_after_an_hour(tmp_path):
    store = Store(tmp_path / "line.sqlite")
    aged(store, 1)
    orphan = store.images / "d" / "orphan.png"
    orphan.write_bytes(b"x")
    heat_of(orphan).write_bytes(b"x")
    made = orphan.stat().st_mtime
    assert prune(store, now=made + 60).images == 0
    assert prune(store, now=made + 4000).images == 1
    assert sorted(path.name for path in store.images.glob("*/*")) == ["0.png", "0.png.heat.png"]


def limit_samples(folder, bad_is_good: bool = False):
    for kind, image in (("good", good_bytes(3)), ("bad", bad_bytes(3))):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "1.png").write_bytes(good_bytes(3) if bad_is_good else image)
    return folder


def test_verify(urd, tmp_path, run):
    parts = limit_samples(tmp_path / "parts")
    assert urd("verify", run, parts)[:2] == (0, "2 limit samples judged, 0 wrongly.\n")
    wrong = limit_samples(tmp_path / "wrong", bad_is_good=True)
    (wrong / "good" / "2.png").write_bytes(good_bytes(3)[:100])
    code, out, _ = urd("verify", run, wrong, "--json", tmp_path / "all.json")
    assert code == 3 and "bad/1.png: a bad part is OK" in out and "good/2.png" in out
    found = json.loads((tmp_path / "all.json").read_text())
    assert [sample["wrong"] for sample in found] == [False, True, True]


def test_verify_uses_the_thresholds_of_a_store(urd, tmp_path, run):
    parts = limit_samples(tmp_path / "parts")
    line = station(tmp_path)
    line.store.change_thresholds("line", file_sha256(run), -2.0, -1.0, "Ana", "a test")
    assert urd("verify", run, parts, "--store", line.store.path)[0] == 3


def test_verify_refuses_a_set_that_proves_nothing(urd, tmp_path, run):
    (tmp_path / "good").mkdir()
    assert "there is no image in" in urd("verify", run, tmp_path)[2]
    (tmp_path / "good" / "1.png").write_bytes(good_bytes())
    code, _, error = urd("verify", run, tmp_path)
    assert code == 2 and "needs the folders good and bad" in error


def test_the_core_of_serving_imports_no_torch():
    code = (
        "import sys, urd.serving.station, urd.serving.retention, urd.serving.store_export, "
        "urd.serving.verify; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_predict_says_in_its_last_lines_that_the_camera_has_changed(urd, tmp_path, run):
    folder = tmp_path / "parts"
    folder.mkdir()
    for n in range(10):
        with Image.open(io.BytesIO(good_bytes(n))) as image:
            image.point(lambda v: min(255, int(1.4 * v))).save(folder / f"{n}.png")
    _, out, _ = urd("predict", run, folder, "--out", tmp_path / "out", "--overlays", "none")
    assert "Camera: 3 images are odd" in out and "all lighter than in training" in out
    rows = [json.loads(r) for r in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [bool(row["camera"]) for row in rows] == [False] * 7 + [True] * 3


def test_an_image_that_was_not_stored_is_no_repetition_when_it_comes_again(
    tmp_path, model, monkeypatch
):
    line = station(tmp_path, camera="strict")

    def fail(*_):
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(line.store, "add", fail)
        assert not concluded(line, model, good_bytes(3)).stored
    assert concluded(line, model, good_bytes(3)).row["verdict"] == "OK"


def test_a_file_that_was_not_read_keeps_nothing(tmp_path, model):
    line = station(tmp_path)
    failure = Failure(Path("huge.png"), "larger than 10 bytes")
    outcome = line.conclude(model, Arrived(b"", "", 0.0, Path("huge.png")), failure)
    assert outcome.row["verdict"] == "ERROR" and outcome.row["content_sha256"] is None
    assert not line.store.images.exists()


def test_a_grey_image_is_odd_where_all_were_in_colour():
    facts = DataFacts(brightness=[100.0, 110.0, 120.0], grey=False)
    (message,) = CameraWatch(facts).look(scene(110), (48, 64), "1")
    assert "the training images are in colour" in message
    assert CameraWatch(facts).look(scene(110, colour=True), (48, 64), "1") == ()


def test_an_image_of_a_backlog_says_how_long_it_waited(tmp_path, model):
    row = concluded(station(tmp_path), model, good_bytes(3), came=0.0).row
    assert row["waited_seconds"] > 1e9
    assert concluded(station(tmp_path), model, good_bytes(4)).row["waited_seconds"] == 0.0


@pytest.mark.parametrize("name", ["empty", "absent.onnx"])
def test_a_place_without_a_model_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=rf"there is no model at .*{name}: give a run of urd fit"):
        file_sha256(tmp_path / name)
