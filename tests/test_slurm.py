"""Suites on SLURM: the script, the calls of sbatch and squeue, and the results of a later call.

`sbatch` and `squeue` here are small programs that run the tasks of the array, or say what waits.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from filelock import FileLock
from suites import identity, write_roots, write_suite

from urd.errors import UrdError, UsageError
from urd.suites.records import JobOrder
from urd.suites.slurm_executor import SlurmExecutor
from urd.suites.suite import read_suite
from urd.suites.tasks import Task

SBATCH = """#!/bin/sh
cp "$1" "$STUB/submitted"
[ -e "$STUB/refuse" ] && { echo "sbatch: error: Invalid partition" >&2; exit 1; }
echo "Submitted batch job 42"
"""
SQUEUE = """#!/bin/sh
echo "$@" > "$STUB/asked"
cat "$STUB/queue" 2>/dev/null
exit 0
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with the programs, and what they are to answer."""
    folder = tmp_path / "stub"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("STUB", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out of 100 %"


@pytest.fixture
def tasks(tmp_path, out):
    suite = read_suite(write_suite(tmp_path, seeds=[0, 1, 2]))
    return [
        Task(
            job.name,
            out / "jobs" / f"it's {index}",
            JobOrder(data_path="x", options={"a": 1}, resamples=0, identity=identity(job)),
        )
        for index, job in enumerate(suite.jobs[:3])
    ]


def run_array(script, index):
    """One task of the array, as SLURM runs it."""
    environment = {"SLURM_ARRAY_TASK_ID": str(index), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
    )


def options_of(script):
    lines = script.read_text().splitlines()
    return [x.removeprefix("#SBATCH ") for x in lines if x.startswith("#SBATCH")]


def test_the_script_has_one_task_per_job_and_all_options(out, tasks):
    executor = SlurmExecutor(out, "auto", 2, options="--time=2:00:00 --gres gpu:1 -p 'a part'")
    assert list(executor.run(tasks)) == []
    script = out / "array.sbatch"
    options = options_of(script)
    assert "--array=0-2%2" in options and "--requeue" in options
    assert options[-3:] == ["--time=2:00:00", "--gres gpu:1", "-p 'a part'"]
    assert any(x.startswith("--output=") and "100 %%" in x for x in options)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    order = json.loads((tasks[0].folder / "job.json").read_text())
    assert order["options"] == {"a": 1, "device": "auto"}


def test_each_task_of_the_array_runs_its_own_job(out, tasks):
    list(SlurmExecutor(out, "cpu", 0).run(tasks))
    assert run_array(out / "array.sbatch", 1).returncode != 0
    assert "is not an order of a suite" in (tasks[1].folder / "log.txt").read_text()
    assert not (tasks[0].folder / "log.txt").exists()
    (tasks[2].folder / "job.json").unlink()  # as after a call that took its result
    late = run_array(out / "array.sbatch", 2)
    assert late.returncode == 0 and "nothing to do" in late.stdout


def test_submitting_calls_sbatch_unless_the_suite_is_in_the_queue(out, tasks, slurm, shown, capsys):
    executor = SlurmExecutor(out, "cpu", 0, submit=True)
    (slurm / "queue").write_text("42_1 PENDING\n42_0 RUNNING\n")
    list(executor.run(tasks))
    assert "Still in the queue: 42_1 PENDING, 42_0 RUNNING" in capsys.readouterr().err
    assert not (slurm / "submitted").exists()
    assert f"--name={executor.name}" in (slurm / "asked").read_text()
    (slurm / "queue").unlink()
    list(executor.run(tasks))
    assert "Submitted batch job 42" in capsys.readouterr().err
    assert (slurm / "submitted").read_text() == (out / "array.sbatch").read_text()
    assert f"--job-name={executor.name}" in options_of(out / "array.sbatch")


def test_another_folder_is_another_array(tmp_path):
    names = {SlurmExecutor(tmp_path / x, "cpu", 0).name for x in ("a", "b")}
    assert len(names) == 2


def test_what_slurm_refuses_is_one_line(out, tasks, slurm, monkeypatch):
    (slurm / "refuse").touch()
    with pytest.raises(UrdError, match="sbatch failed: sbatch: error: Invalid partition"):
        list(SlurmExecutor(out, "cpu", 0, submit=True).run(tasks))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UrdError, match="squeue is not installed here: --submit needs"):
        list(SlurmExecutor(out, "cpu", 0, submit=True).run(tasks))


def test_options_that_cannot_be_used_are_refused(out):
    for options, message in (
        ("2:00:00", "takes options of sbatch, such as --time=2:00:00, not 2:00:00"),
        ("--time='2", "No closing quotation"),
        ("--time=2\n#SBATCH --x", "must be one line"),
        ("--array=0-5", "cannot set the array"),
        ("-a 0-5", "cannot set the array"),
    ):
        with pytest.raises(UsageError, match=message):
            SlurmExecutor(out, "cpu", 0, options=options)


def test_a_job_that_runs_is_not_ordered_again_and_one_that_ended_is_told(out, tasks, shown, capsys):
    (tasks[1].folder).mkdir(parents=True)
    (tasks[1].folder / "log.txt").write_text("much\nurd: the reason\n")
    place = tasks[0].folder / ".writer.urd-part"
    place.mkdir(parents=True)
    with FileLock(place / "lock"):
        list(SlurmExecutor(out, "cpu", 0).run(tasks))
    said = capsys.readouterr().err
    assert f"{tasks[0].name} is running." in said
    assert f"{tasks[1].name} ended without a result; the last line of its log: the reason" in said
    assert "--array=0-1" in options_of(out / "array.sbatch")


def test_the_verb_prints_the_script_and_takes_the_results_later(
    urd, data, tmp_path, weights_file, monkeypatch
):
    roots, out = write_roots(tmp_path, data), tmp_path / "out"
    settings = {"data": {"folder": ["whole"]}, "settings_for": {}, "vary": {"variant": ["memory"]}}
    command = [
        *("benchmark", write_suite(tmp_path, **settings), "--out", out, "--on", "slurm"),
        *("--root", f"folder={roots}", "--weights", weights_file, "--device", "cpu"),
        *("--resamples", 20, "--jobs", 3, "--sbatch", "--time=1:00:00"),
    ]
    code, said, _ = urd(*command)
    assert code == 0
    assert "#SBATCH --array=0-0%3" in said and "#SBATCH --time=1:00:00" in said
    assert f"Now run: sbatch {out / 'array.sbatch'}" in said
    assert "0 jobs done, 0 already done, 1 waiting, 0 failed" in said
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    task = run_array(out / "array.sbatch", 0)
    assert task.returncode == 0, task.stderr
    code, said, _ = urd(*command)
    assert code == 0 and "0 jobs done, 1 already done, 0 failed" in said
    assert "#SBATCH" not in said
    (result,) = json.loads((out / "results.json").read_text())
    assert result["n_good"] == 4
    assert list((out / "jobs").iterdir()) == []


def test_the_process_of_a_task_is_this_python(out, tasks):
    list(SlurmExecutor(out, "cpu", 0).run(tasks))
    assert f"exec {sys.executable} -m urd.suites" in (out / "array.sbatch").read_text()
