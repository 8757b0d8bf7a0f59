"""Suites on a Ray cluster of this machine: results, failures, lost workers, and no orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

from urd.suites import ray_executor
from urd.suites.ray_executor import RayExecutor
from urd.suites.records import JobOrder
from urd.suites.tasks import Task

# What stands for a job: it notes each start, then does what the test says.
JOB = """
import os, pathlib, signal, sys, threading, time
folder = pathlib.Path(sys.argv[-1])
with (folder / "starts").open("a") as file:
    file.write(os.environ["OMP_NUM_THREADS"] + "\\n")
def wait_for_the_end():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=wait_for_the_end, daemon=True).start()
"""
DONE = """
(folder / "result.json").write_text("{}")
"""


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of one core each, whose jobs need not wait for other work on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield from _cluster()


def _cluster():
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    for _ in range(2):
        found.add_node(num_cpus=1)
    yield found
    found.shutdown()


@pytest.fixture
def tasks(tmp_path):
    return [
        Task(
            f"job {index}",
            tmp_path / "jobs" / str(index),
            JobOrder(data_path="x", options={"a": 1}, resamples=0, identity=identity(index)),
        )
        for index in range(3)
    ]


def identity(index):
    return {
        "digest": f"digest{index}",
        "data": "folder",
        "category": "part",
        "settings": {"seed": index},
        "textures": "procedural",
        "method_version": 1,
    }


@pytest.fixture
def executor(cluster, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def with_job(then: str, device: str = "cpu") -> RayExecutor:
        command = (sys.executable, "-c", JOB + then)
        return RayExecutor(f"ray:{cluster.address}", device, 0, command)

    return with_job


def wait_for(condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def starts(task):
    path = task.folder / "starts"
    return path.read_text().split() if path.exists() else []


def job_of(task):
    """The process of a job; `None` if there is none."""
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[-1] == str(task.folder):
            return process
    return None


def test_jobs_are_processes_on_nodes_and_a_failed_one_is_not_tried_again(executor, tasks):
    then = "sys.exit('urd: the reason') if folder.name == '1' else None" + DONE
    errors = {end.task.folder.name: end.error for end in executor(then).run(tasks)}
    assert errors["0"] is errors["2"] is None
    assert errors["1"].startswith("the reason (exit code 1; ")
    assert [starts(task) for task in tasks] == [["1"]] * 3
    order = json.loads((tasks[0].folder / "job.json").read_text())
    assert order["options"] == {"a": 1, "device": "cpu"}


def test_results_of_nodes_without_the_folder_come_through_ray(executor, tasks, monkeypatch):
    monkeypatch.setattr(ray_executor, "write_text", lambda path, text: None)
    then = "print('said')" + DONE
    assert [end.error for end in executor(then).run(tasks[:1])] == [None]
    assert (tasks[0].folder / "result.json").read_text() == "{}"
    assert (tasks[0].folder / "log.txt").read_text() == "said\n"
    assert not starts(tasks[0])  # that file lies on the node


def test_a_lost_job_is_done_again_and_not_for_ever(executor, tasks, monkeypatch, shown, capsys):
    """The job ends the process of Ray above it: always, or only at its first start."""
    monkeypatch.setattr(ray_executor, "_MOST_LOST", 1)
    then = """
first = len((folder / "starts").read_text().split()) == 1
if first or folder.name == "1":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
"""
    errors = {end.task.folder.name: end.error for end in executor(then + DONE).run(tasks[:2])}
    assert errors["0"] is None
    assert "Ray lost it 2 times" in errors["1"]
    assert [len(starts(task)) for task in tasks] == [2, 2, 0]
    assert "it is started again (1 of 1)" in capsys.readouterr().err


def test_closing_lets_running_jobs_write_a_checkpoint(executor, tasks):
    then = """
def stop(*_):
    (folder / "checkpoint").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
(folder / "ready").touch()
while folder.name != "0" or not (folder.parent / "1" / "ready").exists():
    time.sleep(0.02)
"""
    ends = executor(then).run(tasks[:2])
    assert next(ends).task.folder.name == "0"
    ends.close()
    assert (tasks[1].folder / "checkpoint").exists()
    assert job_of(tasks[1]) is None


def test_jobs_that_fit_nowhere_say_what_they_wait_for(executor, tasks, monkeypatch, shown, capsys):
    monkeypatch.setattr(ray_executor, "_PATIENCE", 0.5)
    said = []

    def warn(text):
        said.append(text)
        raise KeyboardInterrupt  # the user has read it

    monkeypatch.setattr(ray_executor, "warn", warn)
    with pytest.raises(KeyboardInterrupt):
        list(executor(DONE, device="cuda").run(tasks[:1]))
    assert "waits for a node with 1 CPUs and 1 GPUs. The cluster has 3 CPUs" in said[0]


DRIVER = """
import sys
from pathlib import Path
from urd.suites.ray_executor import RayExecutor
from urd.suites.records import read_order
from urd.suites.tasks import Task
where, order, folder, job = sys.argv[1:]
task = Task("a", Path(folder), read_order(Path(order)))
list(RayExecutor(where, "cpu", 0, (sys.executable, "-c", job)).run([task]))
"""


@pytest.mark.parametrize("where", ["cluster", "this machine"])
def test_no_job_outlives_a_killed_driver(cluster, tasks, tmp_path, where):
    (tmp_path / "order.json").write_text(tasks[0].order.model_dump_json())
    on = f"ray:{cluster.address}" if where == "cluster" else "ray"
    then = 'print("begun", flush=True)\ntime.sleep(600)'
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, on, tmp_path / "order.json", tasks[0].folder, JOB + then],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_for(lambda: starts(tasks[0]))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: job_of(tasks[0]) is None)
    assert len(starts(tasks[0])) == 1
