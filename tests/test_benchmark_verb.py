"""`urd benchmark` as a whole: trainings in processes of their own, kills and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from suites import InstantExecutor, processes_in, write_roots, write_suite

from urd.backbones.timm_backbone import TimmBackbone
from urd.metrics import METRICS
from urd.suites.executor import EXECUTORS
from urd.suites.places import Places
from urd.suites.records import RESULTS_NAME
from urd.suites.runner import missing_jobs, run_suite
from urd.suites.suite import read_suite

RUN = """
import sys
from urd import cli
sys.argv = ["urd", "benchmark", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture
def roots(data, tmp_path):
    return write_roots(tmp_path, data)


@pytest.fixture
def places(roots, weights_file):
    return Places({"folder": roots}, {"*": str(weights_file)}, {"device": "cpu"}, resamples=20)


@pytest.fixture
def arguments(roots, weights_file, tmp_path):
    return [
        *(write_suite(tmp_path), "--out", str(tmp_path / "out"), "--root", f"folder={roots}"),
        *("--weights", str(weights_file), "--device", "cpu", "--resamples", "20"),
    ]


def test_the_verb_lists_suites_and_jobs(urd, tmp_path):
    code, said, _ = urd("benchmark", "--list")
    assert code == 0 and "cpu: Five variants" in said
    code, said, _ = urd("benchmark", write_suite(tmp_path), "--dry-run")
    assert code == 0 and said.splitlines()[0] == "folder/whole, rd, seed 0"
    assert len(said.splitlines()) == 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "give SUITE and --out, or --list"),
        (("--out", "o", "--root", "folder"), "'folder' is not of the form NAME=PATH"),
        (("--out", "o", "--max-megapixels", "many"), "max_megapixels cannot be 'many'"),
        (("--out", "o"), "pass --root folder=DIR"),
    ],
)
def test_a_wrong_call_is_one_line(urd, tmp_path, more, message):
    code, _, said = urd("benchmark", write_suite(tmp_path), *more)
    assert code == 2 and message in said and said.count("\n") == 1


def test_missing_weights_are_one_line_and_no_job_starts(urd, roots, tmp_path, monkeypatch):
    monkeypatch.setattr(TimmBackbone, "available", lambda self: False)
    out = tmp_path / "out"
    command = ("benchmark", write_suite(tmp_path), "--out", str(out), "--root", f"folder={roots}")
    for more in ((), ("--dry-run",)):
        code, _, said = urd(*command, *more)
        assert code == 2 and "backbone: builtin" in said and said.count("\n") == 1
    assert not (out / "jobs").exists()


def test_a_reason_is_said_once_with_its_jobs_and_nothing_missing_is_said(
    urd, arguments, tmp_path, monkeypatch
):
    names = [job.name for job in read_suite(arguments[0]).jobs]
    monkeypatch.setitem(EXECUTORS, "local", InstantExecutor)
    monkeypatch.setattr(InstantExecutor, "failing", tuple(names[:2]))
    code, _, said = urd("benchmark", *arguments)
    assert code == 1 and said.count("the reason") == 1
    assert f"failed 2 jobs: the reason\n  {names[0]}\n  {names[1]}\n" in said
    monkeypatch.setattr(InstantExecutor, "failing", (names[1],))
    code, _, said = urd("benchmark", *arguments)
    assert code == 1 and f"failed {names[1]}: the reason\n" in said
    monkeypatch.setattr(InstantExecutor, "failing", ())
    assert urd("benchmark", *arguments)[0] == 0
    code, said, _ = urd("benchmark", *arguments, "--dry-run")
    assert (code, said) == (0, "nothing to do: 4 of 4 done\n")


def test_jobs_without_test_images_fail_and_are_done_when_these_are_there(places, roots, tmp_path):
    suite, out = read_suite(write_suite(tmp_path, vary={"variant": ["urd"]})), tmp_path / "out"
    first = run_suite(suite, out, places)
    assert list(first.failed) == ["folder/partial, urd, seed 0"]
    assert all("no labelled test images" in reason for reason in first.failed.values())
    logs = [path.read_text() for path in out.glob("jobs/*/log.txt")]
    assert logs and not any("Warning" in log for log in logs)
    assert first.ran == ["folder/whole, urd, seed 0"]
    assert {job.name for job in missing_jobs(suite, out, places)} == set(first.failed)
    before = json.loads((out / RESULTS_NAME).read_text())

    for part in ("test", "ground_truth"):
        shutil.copytree(roots / "whole" / part, roots / "partial" / part)
    second = run_suite(suite, out, places)
    assert (second.failed, second.kept) == ({}, first.ran)
    assert second.ran == list(first.failed)
    results = json.loads((out / RESULTS_NAME).read_text())
    assert results[:1] == before
    assert all(set(METRICS) <= set(r) and "image_auroc_low" in r for r in results)
    # What is left is of the failed job, which is another since its data have changed.
    assert {path.name.split("-")[1] for path in (out / "jobs").iterdir()} == {"partial"}


def test_a_suite_that_was_killed_twice_goes_on(arguments, places, roots, tmp_path):
    """In its first job, then in its second; `benchmarks/suite_kills.py` kills at many moments."""
    write_suite(tmp_path, vary={"variant": ["urd"]})
    shutil.copytree(roots / "whole", roots / "partial", dirs_exist_ok=True)
    out = tmp_path / "out"
    for finished in (0, 1):
        process = subprocess.Popen([sys.executable, "-c", RUN, *arguments])
        while process.poll() is None and not has_begun(out, finished):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_no_job_is_left(out)
        assert len(done(out)) == finished
    first = done(out)
    whole = subprocess.run([sys.executable, "-c", RUN, *arguments], check=False)
    assert whole.returncode == 0
    assert done(out)[:1] == first and len(done(out)) == 2

    undisturbed = tmp_path / "undisturbed"
    run_suite(read_suite(arguments[0]), undisturbed, places)
    figures = [{r["digest"]: [r[m] for m in METRICS] for r in done(o)} for o in (out, undisturbed)]
    assert figures[0] == figures[1]


def has_begun(out, finished):
    """Whether so many jobs are done and another one trains."""
    return len(done(out)) == finished and list(out.glob("jobs/*/run/config.yaml"))


def done(out):
    path = out / RESULTS_NAME
    return json.loads(path.read_text()) if path.exists() else []


def assert_no_job_is_left(out):
    """The job's process ends with the suite's, however that one ended."""
    deadline = time.monotonic() + 20
    while processes_in(out / "jobs"):
        assert time.monotonic() < deadline, "a job outlived its suite"
        time.sleep(0.1)


def test_a_suite_that_is_stopped_says_how_to_go_on(arguments, tmp_path):
    command = [sys.executable, "-c", RUN, *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").glob("jobs/*/log.txt")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command to continue" in said
    assert "Traceback" not in said
    assert_no_job_is_left(tmp_path / "out")
