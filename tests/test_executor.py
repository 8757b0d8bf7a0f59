"""The local executor: devices, failures, and children that never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from suites import identity, processes_in, write_suite

from urd.errors import UsageError
from urd.suites.executor import EXECUTORS, Execution
from urd.suites.local_executor import LocalExecutor, devices_at_once
from urd.suites.records import JobOrder, read_order
from urd.suites.suite import read_suite
from urd.suites.tasks import Task

# What stands for a job: it writes its process number, then does what the test says.
JOB = """
import os, pathlib, sys, threading, time
folder = pathlib.Path(sys.argv[-1])
(folder / "threads").write_text(os.environ["OMP_NUM_THREADS"])
(folder / "pid").write_text(str(os.getpid()))
"""


@pytest.fixture
def tasks(tmp_path):
    """Three jobs."""
    suite = read_suite(write_suite(tmp_path, seeds=[0, 1, 2], data={"folder": ["partial"]}))
    return [
        Task(
            job.name,
            tmp_path / str(job.seed),
            JobOrder(data_path="x", options={"a": 1}, resamples=0, identity=identity(job)),
        )
        for job in suite.jobs[::2]
    ]


def executor(then: str, parallel: int = 1) -> LocalExecutor:
    return LocalExecutor("cpu", parallel, (sys.executable, "-c", JOB + then))


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_each_job_is_a_process_with_its_order_device_and_threads(tasks, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ends = list(executor("", parallel=2).run(tasks))
    assert {end.task.name for end in ends} == {task.name for task in tasks}
    assert [end.error for end in ends] == [None] * 3
    for task in tasks:
        order = read_order(task.folder / "job.json")
        assert order.options == {"a": 1, "device": "cpu"}
        assert order.identity == task.order.identity
        threads = int((task.folder / "threads").read_text())
        assert threads == max(1, (os.cpu_count() or 1) // 2)


def test_a_job_that_fails_says_why_and_stops_no_other(tasks):
    then = "print('urd: the reason', file=sys.stderr); sys.exit(folder.name == '1')"
    errors = {end.task.folder.name: end.error for end in executor(then).run(tasks)}
    assert errors["0"] is errors["2"] is None
    assert errors["1"].startswith("the reason (exit code 1; ") and "log.txt" in errors["1"]


def test_a_job_that_says_nothing_has_failed_too(tasks):
    (end,) = executor("sys.exit(3)").run(tasks[:1])
    assert "no output (exit code 3" in end.error


def test_a_folder_that_cannot_be_made_fails_its_job_alone(tasks):
    tasks[0].folder.write_text("a file")
    errors = [end.error for end in executor("").run(tasks)]
    assert "is a file" in errors[0] and errors[1:] == [None, None]


TWO_AT_ONCE = """
def count(name): return len(list(folder.parent.glob("*/" + name)))
deadline = time.monotonic() + 20
while count("pid") < 2 and time.monotonic() < deadline: time.sleep(0.01)
alone = count("pid") < 2
early = folder.name == "2" and count("done") == 0
(folder / "done").touch()
sys.exit(alone or early)
"""


def test_as_many_jobs_run_at_once_as_there_are_devices(tasks):
    """The first two wait for each other, and the third for the end of one of them."""
    assert [end.error for end in executor(TWO_AT_ONCE, parallel=2).run(tasks)] == [None] * 3


def test_closing_stops_what_runs_and_starts_nothing_more(tasks):
    """The first job ends, so that the generator can be left; the second one would never end."""
    ends = executor("\nwhile folder.name == '1': time.sleep(0.01)", parallel=2).run(tasks)
    next(ends)
    wait_for((tasks[1].folder / "pid").exists)
    pid = int((tasks[1].folder / "pid").read_text())
    ends.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not tasks[2].folder.exists()


PARENT = """
import sys
from pathlib import Path
from urd.suites.local_executor import LocalExecutor
from urd.suites.records import read_order
from urd.suites.tasks import WITH_PARENT, Task
folder = Path(sys.argv[1])
task = Task("a", folder / "job", read_order(folder / "job.json"))
list(LocalExecutor("cpu", 1, (sys.executable, "-c", sys.argv[2], WITH_PARENT)).run([task]))
"""
# The child of a suite as it is, but for the work.
CHILD = """
import sys, time
from pathlib import Path
from urd.suites import __main__ as child
child.run_job = lambda folder: [(folder / "begun").touch(), time.sleep(600)]
child.main()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(tasks, tmp_path, how):
    (tmp_path / "job.json").write_text(tasks[0].order.model_dump_json())
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), CHILD])
    wait_for((tmp_path / "job" / "begun").exists)
    assert len(processes_in(tmp_path / "job")) == 1
    parent.send_signal(how)
    parent.wait()
    wait_for(lambda: not processes_in(tmp_path / "job"))


def test_one_job_per_gpu_or_per_eight_cores():
    for (device, parallel, gpus, cores), expected in {
        ("auto", 0, 2, 64): ["cuda:0", "cuda:1"],
        ("auto", 1, 2, 64): ["cuda:0"],
        ("cuda:1", 0, 2, 64): ["cuda:1"],
        ("cpu", 0, 2, 64): ["cpu"] * 8,
        ("auto", 0, 0, 20): ["auto"] * 2,
        ("auto", 3, 0, 1): ["auto"] * 3,
        ("cpu", 0, 0, 2): ["cpu"],
    }.items():
        assert devices_at_once(device, parallel, gpus=gpus, cores=cores) == expected
    with pytest.raises(UsageError, match="--jobs 3: this machine has 2 GPUs"):
        devices_at_once("auto", 3, gpus=2, cores=64)


def test_executors_are_known_by_their_names(monkeypatch, tmp_path):
    assert Execution("local", 2).executor("cpu", tmp_path).devices == ["cpu", "cpu"]
    for how, message in (
        (Execution("cloud"), "unknown executor 'cloud'; choose from local, ray, slurm"),
        (Execution("local:8"), "--on local:8: only ray takes an address"),
        (Execution("ray:"), "--on ray:: only ray takes an address, as ray:ADDRESS"),
        (Execution(submit=True), "--submit belong to --on slurm"),
        (Execution(sbatch="--time=1"), "--sbatch and --submit belong to --on slurm"),
    ):
        with pytest.raises(UsageError, match=message):
            how.executor("cpu", tmp_path)
    monkeypatch.setitem(EXECUTORS, "cloud", lambda *given: given)
    how = Execution("cloud", 1)
    assert how.executor("cpu", tmp_path) == (how, "cpu", tmp_path)
