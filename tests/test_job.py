"""One job of a suite: what it leaves, and what it refuses."""

from __future__ import annotations

import pytest
import yaml
from filelock import FileLock
from suites import identity, write_suite

from urd import method_version
from urd.errors import UrdError
from urd.method_version import METHOD_VERSION
from urd.metrics import METRICS
from urd.suites.job import run_job
from urd.suites.records import JOB_NAME, JobOrder, read_result
from urd.suites.suite import read_suite
from urd.system.files import write_json


@pytest.fixture
def options(tiny_config):
    return {**tiny_config.to_dict(), "holdout": 0.0}


@pytest.fixture
def folder(data, tmp_path, options):
    """A job that was ordered."""
    job = read_suite(write_suite(tmp_path)).jobs[0]
    order = JobOrder(data_path=str(data), options=options, resamples=20, identity=identity(job))
    write_json(tmp_path / "job" / JOB_NAME, order.model_dump())
    return tmp_path / "job"


def done(folder):
    run_job(folder)
    return read_result(folder / "result.json")


def test_a_result_says_what_was_ordered_and_what_was_measured(folder, data):
    result = done(folder)
    assert (result.data, result.category) == ("folder", "whole")
    assert result.method_version == METHOD_VERSION
    assert set(METRICS) <= set(result.measured) and "image_auroc_low" in result.measured
    assert (result.measured["n_good"], result.measured["n_defective"]) == (4, 4)
    assert result.fit_seconds is not None and result.evaluate_seconds is not None
    assert result.training["train_images"] == 12
    assert result.encoder.pretrained
    assert result.machine.cpu


def test_what_a_stopped_job_left_behind_never_blocks_it(folder, options):
    """Its checkpoint is cut in half: it begins anew."""
    (folder / "run" / "checkpoint").mkdir(parents=True)
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(options))
    (folder / "run" / "checkpoint" / "state.safetensors").write_bytes(b"half")
    result = done(folder)
    assert result.measured["n_good"] == 4
    assert result.fit_seconds is not None  # all of it was done now


def test_there_are_no_figures_of_a_part_of_the_test_set(folder, data):
    (data / "test" / "good" / "text.png").write_bytes(b"text")
    with pytest.raises(UrdError, match=r"1 test images cannot be judged.*text\.png"):
        run_job(folder)
    assert not (folder / "result.json").exists()


def test_a_job_with_a_result_is_not_done_again(folder):
    done(folder)
    before = (folder / "result.json").stat().st_mtime_ns
    run_job(folder)
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_two_processes_never_do_the_same_job(folder):
    place = folder / ".writer.urd-part"
    place.mkdir()
    with FileLock(place / "lock"), pytest.raises(UrdError, match="another call of urd is writing"):
        run_job(folder, wait=0.1)
    assert not (folder / "run").exists() and not (folder / "result.json").exists()


def test_an_order_of_another_version_is_refused(folder, monkeypatch):
    monkeypatch.setattr(method_version, "METHOD_VERSION", METHOD_VERSION + 1)
    with pytest.raises(UrdError, match="ordered by another version of urd"):
        run_job(folder)
