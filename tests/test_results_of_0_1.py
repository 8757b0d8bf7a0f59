"""Results of version 0.1 stay in their file, and are never taken for those of today's method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_version_0_1 import write

from urd.suites.executor import EXECUTORS, Execution
from urd.suites.places import Places
from urd.suites.records import RESULTS_NAME
from urd.suites.runner import missing_jobs, run_suite
from urd.suites.suite import read_suite
from urd.suites.tasks import Ended

FIXTURES = Path(__file__).parent / "fixtures" / "version_0_1"


class NoExecutor:
    """Every job fails."""

    def __init__(self, how, device, out):
        pass

    def run(self, tasks):
        yield from (Ended(task, "not run in this test") for task in tasks)


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
    return Places({"folder": tmp_path / "root"}, execution=Execution("none"))


def test_results_of_an_older_method_are_kept_but_the_jobs_are_done_again(places, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(FIXTURES / RESULTS_NAME, out)
    suite = read_suite(str(FIXTURES / "suite.yaml"))
    assert missing_jobs(suite, out, places) == suite.jobs
    outcome = run_suite(suite, out, places)
    assert (outcome.kept, len(outcome.failed)) == ([], len(suite.jobs))
    old = json.loads((FIXTURES / RESULTS_NAME).read_text())
    assert json.loads((out / RESULTS_NAME).read_text()) == old
    assert "0 of 2 jobs done" in (out / "suite.md").read_text()
