"""`urd fit-all`: the categories, what is trained again, and the list of all models."""

from __future__ import annotations

import dataclasses
import html
import json
import shutil

import numpy as np
import pytest
from conftest import TINY, assert_same_weights, picture, save

from urd import Detector
from urd.config import FitConfig
from urd.data.categories import categories_below
from urd.errors import UrdError, UsageError
from urd.suites.executor import EXECUTORS, Execution
from urd.suites.fit_all import fit_all, missing_categories
from urd.suites.job import run_job
from urd.suites.local_executor import LocalExecutor
from urd.suites.tasks import Ended


class InThisProcess:
    """Does each job at once; one whose name is in `failing` leaves a reason."""

    failing: tuple[str, ...] = ()

    def __init__(self, how, device, out):
        pass

    def run(self, tasks):
        for task in tasks:
            if task.name in self.failing:
                yield Ended(task, "the reason")
                continue
            task.write_order("cpu")
            try:
                run_job(task.folder)
                yield Ended(task)
            except UrdError as error:
                yield Ended(task, str(error))


HERE = Execution("here")


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(InThisProcess, "failing", ())
    monkeypatch.setitem(EXECUTORS, "here", InThisProcess)


@pytest.fixture(scope="module")
def config(weights_file):
    return FitConfig(
        variant="memory",
        backbone=TINY,
        weights=str(weights_file),
        image_size=(64, 64),
        device="cpu",
    )


@pytest.fixture(scope="module")
def master(config, tmp_path_factory):
    """Two categories and their models: one in MVTec layout, and a plain one two folders below."""
    folder, rng = tmp_path_factory.mktemp("all"), np.random.default_rng(0)
    for place, count in (("nut/train/good", 12), ("nut/test/good", 2), ("line 2/bolt #1", 10)):
        for index in range(count):
            save(picture(rng), folder / "products" / place / f"{index:03}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXECUTORS, "here", InThisProcess)
        outcome = fit_all(folder / "products", folder / "models", config, HERE)
    assert (sorted(outcome.ran), outcome.failed) == (["line 2/bolt #1", "nut"], {})
    return folder


@pytest.fixture
def root(master, tmp_path):
    return shutil.copytree(master / "products", tmp_path / "products")


@pytest.fixture
def out(tmp_path):
    """Empty at first."""
    return tmp_path / "models"


@pytest.fixture
def trained(master, out):
    """The same folder with the models in it."""
    return shutil.copytree(master / "models", out)


def listed(out):
    return json.loads((out / "models.json").read_text())


def test_categories_are_folders_with_a_layout_or_with_images(root, shown, capsys):
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    shutil.copy(root / "nut/train/good/000.png", root / "overview.png")
    assert categories_below(root) == ["line 2/bolt #1", "nut"]
    said = capsys.readouterr().err
    assert "skipped 1 images directly in" in said
    assert f"skipped folders without images: {root / 'empty'}" in said


def test_a_folder_that_has_no_categories_is_refused(root, tmp_path):
    (tmp_path / "none").mkdir()
    for folder, message in (
        (root / "nut", "is one category, not a folder of categories: use urd fit"),
        (root / "line 2" / "bolt #1", "no categories below .*use urd fit"),
        (tmp_path / "none", "no categories below"),
        (tmp_path / "absent", "no folder at"),
    ):
        with pytest.raises(UsageError, match=message):
            categories_below(folder)


def test_each_category_gets_the_model_of_urd_fit(root, trained, config, tmp_path):
    Detector.fit(root / "nut", tmp_path / "alone", config=config)
    assert_same_weights(trained / "runs" / "nut", tmp_path / "alone")
    assert (trained / "runs" / "line 2" / "bolt #1" / "report.html").exists()
    assert list((trained / "unfinished").iterdir()) == []
    bolt, nut = listed(trained)["models"]
    assert (nut["category"], nut["train_images"], nut["holdout_images"]) == ("nut", 6, 6)
    assert (nut["run"], bolt["report"]) == ("runs/nut", "runs/line 2/bolt #1/report.html")
    held = nut["held_out"]
    assert held["ok"] + held["to_review"] + held["rejected"] == nut["holdout_images"]
    limits = Detector.load(trained / "runs" / "nut", "cpu").thresholds()
    assert (held["review"], held["reject"]) == (limits.review.threshold, limits.reject.threshold)
    page = (trained / "models.html").read_text()
    assert 'href="runs/line%202/bolt%20%231/report.html"' in page
    assert "6 images are too few" in page


def test_only_what_has_changed_is_trained_again(root, trained, config):
    assert missing_categories(root, trained, config) == []
    again = fit_all(root, trained, config, HERE)
    assert (again.ran, len(again.kept)) == ([], 2)
    (root / "nut/test/good/000.png").unlink()  # no training reads it
    assert missing_categories(root, trained, config) == []
    other = dataclasses.replace(config, seed=1)
    assert len(missing_categories(root, trained, other)) == 2
    shutil.rmtree(trained / "runs" / "line 2")
    assert missing_categories(root, trained, config) == ["line 2/bolt #1"]
    (root / "nut/train/good/000.png").unlink()
    shutil.rmtree(root / "line 2")
    third = fit_all(root, trained, config, HERE)
    assert third.ran == ["nut"]
    nut = listed(trained)["models"][1]
    assert nut["train_images"] + nut["holdout_images"] == 11


def test_a_failed_category_keeps_its_older_model_and_stops_no_other(root, trained, config):
    before = (trained / "runs/nut/model.safetensors").read_bytes()
    for image in (root / "nut/train/good").iterdir():
        image.write_bytes(b"no image")
    outcome = fit_all(root, trained, config, HERE)
    assert outcome.kept == ["line 2/bolt #1"] and list(outcome.failed) == ["nut"]
    assert (trained / "runs/nut/model.safetensors").read_bytes() == before
    (failed,) = listed(trained)["failed"]
    page = (trained / "models.html").read_text()
    assert failed["category"] == "nut" and html.escape(failed["reason"], quote=False) in page
    assert "of earlier images or settings" in page


def test_a_category_that_cannot_be_read_is_listed(root, trained, config):
    shutil.copytree(root / "line 2" / "bolt #1", root / "line 2" / "bolt #1" / "bad")
    outcome = fit_all(root, trained, config, HERE)
    assert outcome.kept == ["nut"]
    assert "there are images in folders below it" in outcome.failed["line 2/bolt #1"]
    assert outcome.failed["line 2/bolt #1"] == listed(trained)["failed"][0]["reason"]


def test_a_category_that_is_gone_stays_in_the_list(root, trained, config):
    shutil.rmtree(root / "nut")
    fit_all(root, trained, config, HERE)
    assert listed(trained)["gone"] == ["nut"]
    assert (trained / "runs/nut/model.safetensors").exists()


def test_what_waits_is_in_the_list(root, out, config):
    outcome = fit_all(root, out, config, Execution("slurm"))
    assert outcome.waiting == listed(out)["waiting"] == ["line 2/bolt #1", "nut"]
    assert (out / "array.sbatch").exists()
    assert ">waiting<" in (out / "models.html").read_text()


@pytest.mark.parametrize("moved", [False, True])
def test_a_result_that_nobody_took_is_taken(root, trained, config, monkeypatch, moved):
    """Its job ended when its call was gone, or the call was killed when it had moved the run."""
    content = listed(trained)
    nut = content["models"].pop()
    (trained / "models.json").write_text(json.dumps(content))
    folder = trained / "unfinished" / f"nut-{nut['digest']}"
    folder.mkdir()
    result = {key: value for key, value in nut.items() if key not in ("run", "report")}
    (folder / "result.json").write_text(json.dumps(result))
    if not moved:
        (trained / "runs" / "nut").rename(folder / "run")
    monkeypatch.setattr(InThisProcess, "failing", ("nut", "line 2/bolt #1"))
    outcome = fit_all(root, trained, config, HERE)
    assert (outcome.ran, outcome.kept, outcome.failed) == (["nut"], ["line 2/bolt #1"], {})
    assert listed(trained)["models"][1] == nut
    assert (trained / "runs/nut/model.safetensors").exists() and not folder.exists()


def test_what_is_no_run_is_not_replaced(root, trained, config):
    shutil.rmtree(trained / "runs" / "nut")
    (trained / "runs" / "nut").mkdir()
    (trained / "runs" / "nut" / "notes.txt").write_text("mine")
    outcome = fit_all(root, trained, config, HERE)
    assert "holds files but no run of urd" in outcome.failed["nut"]
    assert (trained / "runs" / "nut" / "notes.txt").read_text() == "mine"


def test_a_damaged_list_is_one_line(root, out, config):
    out.mkdir()
    for content in ("[", "{}", '{"root": "x", "models": [{}]}'):
        (out / "models.json").write_text(content)
        with pytest.raises(UrdError, match="is not a file of urd fit-all") as error:
            fit_all(root, out, config, HERE)
        assert "\n" not in str(error.value)


def test_the_verb(urd, root, trained, weights_file, tmp_path):
    options = [
        *("--variant", "memory", "--backbone", TINY, "--weights", weights_file),
        *("--image-size", 64, "--device", "cpu"),
    ]
    code, said, _ = urd("fit-all", root, "--dry-run")
    assert (code, said.splitlines()) == (0, ["line 2/bolt #1", "nut"])
    code, said, _ = urd("fit-all", root, "--out", trained, "--dry-run", *options)
    assert (code, said) == (0, "")
    code, _, said = urd("fit-all", root, *options)
    assert code == 2 and "give --out" in said
    code, _, said = urd("fit-all", root / "nut", "--out", tmp_path / "x", *options)
    assert code == 2 and "use urd fit" in said and not (tmp_path / "x").exists()
    shutil.copytree(root / "line 2" / "bolt #1", root / "line 2" / "bolt #1" / "bad")
    code, said, errors = urd("fit-all", root, "--out", trained, *options)
    assert code == 1
    assert "0 models trained, 1 already there, 1 failed; see" in said
    assert "failed line 2/bolt #1: " in errors


def test_trainings_are_processes_of_the_local_executor(root, out, config):
    assert isinstance(Execution().executor("cpu", out), LocalExecutor)
    shutil.rmtree(root / "line 2")
    outcome = fit_all(root, out, config, Execution())
    assert (outcome.ran, outcome.failed) == (["nut"], {})
    assert (out / "runs/nut/model.safetensors").exists()
