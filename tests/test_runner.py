"""Running a suite: what is done, what is done again, and what is kept."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from filelock import FileLock
from suites import InstantExecutor, identity, measured, write_roots, write_suite

from urd.errors import UrdError, UsageError
from urd.suites.executor import EXECUTORS, Execution
from urd.suites.places import Places
from urd.suites.records import RESULTS_NAME
from urd.suites.runner import missing_jobs, run_suite
from urd.suites.suite import read_suite


@pytest.fixture
def roots(data, tmp_path):
    return write_roots(tmp_path, data)


@pytest.fixture
def suite(tmp_path):
    return read_suite(write_suite(tmp_path))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def places(roots, weights_file, monkeypatch):
    monkeypatch.setattr(InstantExecutor, "failing", ())
    monkeypatch.setitem(EXECUTORS, "instant", InstantExecutor)
    instant = Execution("instant")
    return Places({"folder": roots}, {"*": str(weights_file)}, execution=instant)


def test_what_is_missing_is_done_once(suite, places, out):
    names = [job.name for job in suite.jobs]
    assert [job.name for job in missing_jobs(suite, out, places)] == names
    first = run_suite(suite, out, places)
    assert (first.ran, first.kept, first.failed) == (names, [], {})
    assert missing_jobs(suite, out, places) == []
    before = (out / RESULTS_NAME).read_text()
    second = run_suite(suite, out, places)
    assert (second.ran, second.kept, second.failed) == ([], names, {})
    assert (out / RESULTS_NAME).read_text() == before
    assert [r["settings"]["iterations"] for r in json.loads(before)] == [3, 3, 2, 2]
    assert "4 of 4 jobs done" in (out / "tiny.md").read_text()
    assert (out / "tiny.tex").exists()
    assert len(list(csv.DictReader(io.StringIO((out / "tiny.csv").read_text())))) == 4


def test_a_failed_job_stops_nothing_and_is_the_only_one_done_again(suite, places, out, monkeypatch):
    failing = suite.jobs[1].name
    monkeypatch.setattr(InstantExecutor, "failing", (failing,))
    first = run_suite(suite, out, places)
    assert first.failed == {failing: "the reason"}
    assert len(first.ran) == 3
    assert "3 of 4 jobs done" in (out / "tiny.md").read_text()
    assert [job.name for job in missing_jobs(suite, out, places)] == [failing]
    monkeypatch.setattr(InstantExecutor, "failing", ())
    second = run_suite(suite, out, places)
    assert (second.ran, second.failed) == ([failing], {})
    assert second.kept == first.ran


def test_a_result_of_another_suite_is_kept(suite, places, out, tmp_path):
    run_suite(suite, out, places)
    other = read_suite(write_suite(tmp_path, seeds=[0, 1]))
    outcome = run_suite(other, out, places)
    assert (len(outcome.kept), len(outcome.ran)) == (4, 4)
    again = run_suite(suite, out, places)
    assert (len(again.kept), again.ran) == (4, [])
    assert len(json.loads((out / RESULTS_NAME).read_text())) == 8


def test_changed_images_are_other_jobs(suite, places, roots, out):
    run_suite(suite, out, places)
    (roots / "partial/train/good/000.png").unlink()
    missing = missing_jobs(suite, out, places)
    assert {job.category for job in missing} == {"partial"} and len(missing) == 2


def test_run_folders_end_unless_they_are_to_be_kept(suite, places, out):
    run_suite(suite, out, dataclasses.replace(places, keep_models=True))
    assert len(list((out / "jobs").iterdir())) == 4
    run_suite(suite, out, places)  # as after a kill between a result and the end of its folder
    assert list((out / "jobs").iterdir()) == []


def test_a_result_that_nobody_took_is_taken(suite, places, out):
    """Its process ended when that of the suite was gone."""
    run_suite(suite, out, dataclasses.replace(places, keep_models=True))
    (out / RESULTS_NAME).unlink()
    assert missing_jobs(suite, out, places) == []
    assert len(run_suite(suite, out, places).kept) == 4


def test_a_damaged_result_fails_its_job(suite, places, out, monkeypatch):
    def run(self, tasks):
        for ended in whole(self, tasks):
            (ended.task.folder / "result.json").write_text("{")
            yield ended

    whole = InstantExecutor.run
    monkeypatch.setattr(InstantExecutor, "run", run)
    outcome = run_suite(suite, out, places)
    assert len(outcome.failed) == 4
    assert all("is not a results file" in reason for reason in outcome.failed.values())


def test_an_executor_is_closed_when_the_suite_is_stopped(suite, places, out, monkeypatch):
    closed = []

    def run(self, tasks):
        try:
            yield from whole(self, tasks[:1])
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    whole = InstantExecutor.run
    monkeypatch.setattr(InstantExecutor, "run", run)
    with pytest.raises(KeyboardInterrupt):
        run_suite(suite, out, places)
    assert closed
    assert len(missing_jobs(suite, out, places)) == 3


def test_two_suites_do_not_work_in_one_folder(suite, places, out):
    place = out / ".writer.urd-part"
    place.mkdir(parents=True)
    with (
        FileLock(place / "lock"),
        pytest.raises(UrdError, match="another call of urd is writing to"),
    ):
        run_suite(suite, out, places)


def test_a_damaged_results_file_is_one_line(suite, places, out):
    out.mkdir()
    for content in ("[", "[{}]", '[{"digest": "a"}]', "3"):
        (out / RESULTS_NAME).write_text(content)
        with pytest.raises(UrdError, match="is not a results file of a suite") as error:
            run_suite(suite, out, places)
        assert "\n" not in str(error.value)


def test_a_result_under_the_digest_of_another_job_is_refused(suite, places, out):
    run_suite(suite, out, places)
    digest = json.loads((out / RESULTS_NAME).read_text())[0]["digest"]
    other = {**identity(suite.jobs[-1], digest), **measured()}
    (out / RESULTS_NAME).write_text(json.dumps([other]))
    with pytest.raises(UrdError, match="a result names the digest of another job"):
        missing_jobs(suite, out, places)


def test_nothing_is_made_where_data_is_missing(out, tmp_path):
    with pytest.raises(UsageError, match="pass --root mvtec_ad=DIR"):
        run_suite(read_suite("ablation"), out, Places({}))
    roots = dict.fromkeys(("mvtec_ad", "mpdd", "btad", "visa"), tmp_path)
    with pytest.raises(UsageError, match=r"nothing at .*bottle\. MVTec AD .*4\.9 GB"):
        run_suite(read_suite("paper"), out, Places(roots))
    assert not out.exists()
