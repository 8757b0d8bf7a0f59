"""Results of version 0.1: found again, and never taken for those of another job.

`fixtures/version_0_1/` holds a suite, and the results that version 0.1 left of it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from test_version_0_1 import write

from urd import method_version
from urd.suites import version_0_1
from urd.suites.executor import EXECUTORS
from urd.suites.fingerprints import Fingerprints
from urd.suites.places import Places
from urd.suites.records import RESULTS_NAME
from urd.suites.runner import missing_jobs, run_suite
from urd.suites.suite import Suite, read_suite

FIXTURES = Path(__file__).parent / "fixtures" / "version_0_1"


class NoExecutor:
    """Whoever calls it takes a result of version 0.1 for an old one."""

    def __init__(self, device, parallel):
        pass

    def run(self, tasks):
        assert tasks == [], "a job is done again"
        yield from ()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The data of the suite, by whole numbers and as PPM: the same bytes everywhere."""
    part = tmp_path / "root" / "part"
    for index in range(10):
        write(part / f"train/good/{index}.ppm", 7 * index)
    for index in range(3):
        write(part / f"test/good/{index}.ppm", 7 * index + 3)
        write(part / f"test/square/{index}.ppm", 7 * index + 4, square=True)
    monkeypatch.setitem(EXECUTORS, "none", NoExecutor)
    return Places({"folder": tmp_path / "root"}, executor="none")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    shutil.copy(FIXTURES / RESULTS_NAME, tmp_path / "out")
    return tmp_path / "out"


def suite_with(tmp_path, **settings) -> Suite:
    content = yaml.safe_load((FIXTURES / "suite.yaml").read_text())
    content["settings"] |= settings
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    return read_suite(str(tmp_path / "suite.yaml"))


def change_results(out, change):
    results = json.loads((out / RESULTS_NAME).read_text())
    for result in results:
        change(result)
    (out / RESULTS_NAME).write_text(json.dumps(results))


def test_nothing_is_done_again(places, out, tmp_path):
    suite = suite_with(tmp_path)
    assert missing_jobs(suite, out, places) == []
    outcome = run_suite(suite, out, places)
    assert (outcome.ran, outcome.failed, len(outcome.kept)) == ([], {}, 2)


def test_results_are_stored_under_their_new_identity(places, out, tmp_path):
    suite = suite_with(tmp_path)
    run_suite(suite, out, places)
    before = json.loads((FIXTURES / RESULTS_NAME).read_text())
    after = json.loads((out / RESULTS_NAME).read_text())
    renewed = {"digest", "settings", "method_version"}
    for old, new, job in zip(before, after, suite.jobs, strict=True):
        assert {k: v for k, v in new.items() if k not in renewed} == {
            k: v for k, v in old.items() if k not in renewed
        }
        assert (new["method_version"], new["settings"]) == (1, job.settings)
        assert new["digest"] != old["digest"]
    assert "2 of 2 jobs done" in (out / "suite.md").read_text()
    assert missing_jobs(suite, out, places) == []


OTHER = {
    "backbone": "test_resnet2.r160_in1k",
    "student": "full",
    "foreground": "otsu",
    "roi": "region.png",
    "ignore": "region.png",
    "iterations": 3,
    "batch_size": 2,
    "image_size": 64,
    "precision": "bfloat16",
    "holdout": 0.2,
    "validate_every": 1,
    "mask_resize": "direct",
    "student_lr": 0.001,
    "teacher_lr": 0.001,
    "warm_up": 0,
    "schedule": "cosine",
    "white_level": 4095,
    "page": 1,
}


def test_every_setting_is_changed_below(tmp_path):
    (job, *_) = suite_with(tmp_path).jobs
    assert set(OTHER) == set(job.settings) - {"seed", "variant", "weights"}


@pytest.mark.parametrize("name", sorted(OTHER))
def test_a_job_with_another_setting_is_missing(places, out, tmp_path, name):
    assert len(missing_jobs(suite_with(tmp_path, **{name: OTHER[name]}), out, places)) == 2


def test_a_job_of_another_version_of_the_method_is_missing(places, out, tmp_path, monkeypatch):
    suite = suite_with(tmp_path)
    monkeypatch.setattr(method_version, "METHOD_VERSION", 2)
    assert len(missing_jobs(suite, out, places)) == 2
    monkeypatch.undo()
    monkeypatch.setitem(EXECUTORS, "none", NoExecutor)
    run_suite(suite, out, places)  # stored with their version now
    monkeypatch.setattr(method_version, "METHOD_VERSION", 2)
    assert len(missing_jobs(suite, out, places)) == 2


def test_a_job_of_other_images_is_missing(places, out, tmp_path):
    write(tmp_path / "root/part/train/good/0.ppm", 1)
    assert len(missing_jobs(suite_with(tmp_path), out, places)) == 2


def test_settings_that_do_not_agree_with_the_digest_are_not_believed(places, out, tmp_path):
    change_results(out, lambda result: result["settings"].update(batch_size=2))
    assert len(missing_jobs(suite_with(tmp_path), out, places)) == 2
    assert len(missing_jobs(suite_with(tmp_path, batch_size=2), out, places)) == 2


def test_the_size_limit_that_was_a_setting_is_none_any_more(places, out, tmp_path):
    """A suite of version 0.1 could name it; its results stay those of the suite without it."""
    suite = suite_with(tmp_path)
    inputs = inputs_of(suite, places)

    def with_limit(result):
        result["settings"]["max_megapixels"] = 200
        result["digest"] = version_0_1.digest("folder", "part", result["settings"], inputs)

    before = {result["digest"] for result in json.loads((out / RESULTS_NAME).read_text())}
    change_results(out, with_limit)
    after = {result["digest"] for result in json.loads((out / RESULTS_NAME).read_text())}
    assert not before & after
    assert missing_jobs(suite, out, places) == []


def inputs_of(suite, places):
    return Fingerprints(places).of(suite.jobs[0])


def test_settings_that_a_result_lacks_are_the_defaults_of_then(places, out, tmp_path):
    """Version 0.1 stored no option that it got later."""

    def shorten(result):
        for name in ("page", "roi", "ignore", "white_level"):
            del result["settings"][name]

    change_results(out, shorten)
    assert missing_jobs(suite_with(tmp_path), out, places) == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_job_that_was_begun_goes_on_in_its_folder(places, out, tmp_path, version, monkeypatch):
    """Unless it was begun with another method."""
    monkeypatch.setattr(method_version, "METHOD_VERSION", version)
    monkeypatch.setattr(NoExecutor, "run", lambda self, tasks: (task for task in ()))
    suite = suite_with(tmp_path)
    inputs = inputs_of(suite, places)
    job = suite.jobs[0]
    old = version_0_1.digest(job.data, job.category, job.settings, inputs)
    assert old == json.loads((out / RESULTS_NAME).read_text())[0]["digest"]
    begun = out / "jobs" / f"folder-part-rd-seed0-{old[:8]}"
    (begun / "run").mkdir(parents=True)
    run_suite(suite, out, Places(places.roots, keep_models=True, executor="none"))
    (folder,) = (out / "jobs").iterdir()
    assert (folder / "run").is_dir()
    expected = job.digest(inputs) if version == 1 else old
    assert folder.name == f"folder-part-rd-seed0-{expected[:8]}"
