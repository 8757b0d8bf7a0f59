"""What a suite asks of a cluster, and what a node does with one job; without Ray itself."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from urd.errors import UsageError
from urd.suites import ray_executor
from urd.suites.ray_executor import Need, RayExecutor, need_of_a_job
from urd.suites.ray_job import SEEN_NAME, Left, RayOrder, do_job

JOB = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1])
(folder / "run").mkdir(exist_ok=True)
(folder / "run" / "model").write_bytes(b"m" * 1000)
(folder / "result.json").write_text(os.environ["OMP_NUM_THREADS"] + os.getcwd())
print("said")
"""


def test_a_job_needs_a_gpu_with_its_share_of_cores_or_cores():
    cpus, gpus = [{"CPU": 4.0}, {"CPU": 16.0}], [{"CPU": 64.0}, {"CPU": 32.0, "GPU": 4.0}]
    for (nodes, device, parallel, threads), expected in (
        ((cpus, "auto", 0, None), Need(8, 0)),
        ((cpus[:1], "auto", 0, None), Need(4, 0)),
        ((cpus, "cpu", 10, None), Need(2, 0)),
        ((cpus, "auto", 1, None), Need(16, 0)),
        ((cpus, "auto", 100, None), Need(1, 0)),
        ((cpus, "auto", 0, 3), Need(3, 0)),
        ((cpus, "cuda", 0, None), Need(8, 1)),
        ((gpus, "auto", 0, None), Need(8, 1)),
        ((gpus, "auto", 2, 1), Need(1, 1)),
        ((gpus, "cpu", 0, None), Need(8, 0)),
        (([{"CPU": 4.0, "GPU": 8.0}], "auto", 0, None), Need(1, 1)),
        (([], "auto", 0, None), Need(1, 0)),
    ):
        assert need_of_a_job(nodes, device, parallel, threads) == expected
    assert str(Need(4, 1)) == "4 CPUs and 1 GPUs"


def test_what_ray_cannot_do_is_said_at_once(monkeypatch):
    with pytest.raises(UsageError, match="Ray chooses the GPU; use auto, cuda or cpu"):
        RayExecutor("ray", "cuda:1", 0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"ray is not installed; run: .*\[ray\]"):
        RayExecutor("ray", "auto", 0)


def test_threads_of_the_environment_are_those_of_a_job(monkeypatch):
    for text, expected in (("2", 2), ("4,2", 4), ("0", 1), ("many", None), ("", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert ray_executor._threads_of_environment() == expected


@pytest.fixture
def order(tmp_path):
    def with_job(then: str = "", **changes: object) -> RayOrder:
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        fields = {
            "folder": str(folder),
            "token": "a",
            "order": json.dumps({"a": 1}),
            "threads": 3,
            "working_folder": str(tmp_path),
            "keep_run": True,
            "command": (sys.executable, "-c", JOB + then),
        }
        return RayOrder(**{**fields, **changes})

    return with_job


def test_a_node_that_sees_the_folder_works_in_it(order, tmp_path):
    (tmp_path / "folder" / SEEN_NAME).parent.mkdir()
    (tmp_path / "folder" / SEEN_NAME).write_text("a")
    node, left = do_job(order())
    assert node and left == Left(None, {})
    assert (tmp_path / "folder" / "result.json").read_text() == f"3{tmp_path}"


@pytest.mark.parametrize("keep_run", [True, False])
def test_a_node_that_does_not_see_it_sends_all_back(order, tmp_path, keep_run):
    then = "assert (folder / 'job.json').read_text() == '{\"a\": 1}'"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / SEEN_NAME).write_text("of another machine")
    _, left = do_job(order(then, keep_run=keep_run))
    assert left.error is None
    names = ["log.txt", *(["run/model"] if keep_run else []), "result.json"]
    assert list(left.files) == names  # the result is written last
    assert left.files["log.txt"] == b"said\n"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == [SEEN_NAME]


def test_a_job_that_fails_on_a_node_sends_its_reason_and_log(order):
    _, left = do_job(order("sys.exit('urd: the reason')"))
    assert left.error.startswith("the reason (exit code 1; ")
    assert "run/model" not in left.files and b"the reason" in left.files["log.txt"]


def test_a_node_with_another_version_does_nothing(order, tmp_path):
    _, left = do_job(order(version="9"))
    assert "the driver 9" in left.error and list((tmp_path / "folder").iterdir()) == []


def test_a_cancelled_task_stops_its_job(order, tmp_path, monkeypatch):
    """Ray raises KeyboardInterrupt in the task; the job may still write a checkpoint."""
    then = """
import signal
signal.signal(signal.SIGTERM, lambda *_: [(folder / "checkpoint").touch(), sys.exit(1)])
(folder / "pid").write_text(str(os.getpid()))
time.sleep(600)
"""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / SEEN_NAME).write_text("a")
    sleep = time.sleep

    def interrupt(seconds):
        sleep(seconds)
        if (tmp_path / "folder" / "pid").exists() and (tmp_path / "folder" / "pid").read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr("urd.suites.ray_job.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(do_job(order(then)))
    assert (tmp_path / "folder" / "checkpoint").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "folder" / "pid").read_text()), 0)
