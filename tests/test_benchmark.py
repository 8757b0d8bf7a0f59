"""Suites: what they name, what is done again and what is not, and what the tables say."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import TINY
from filelock import FileLock

from urd.backbones import builtin
from urd.backbones.builtin import BUILTIN
from urd.errors import UrdError, UsageError
from urd.metrics import METRICS
from urd.suites import tables
from urd.suites.job import run_job
from urd.suites.runner import RESULTS_NAME, Places, _devices, _Fingerprints, missing_jobs, run_suite
from urd.suites.suite import read_suite, shipped_suites
from urd.suites.tables import make_tables, tidy_csv


@pytest.fixture
def roots(data, tmp_path):
    """Two categories, of which one has no test images at first."""
    shutil.copytree(data, tmp_path / "root" / "whole")
    shutil.copytree(data / "train", tmp_path / "root" / "partial" / "train")
    return tmp_path / "root"


@pytest.fixture
def suite_file(tmp_path):
    content = {
        "title": "Tiny",
        "data": {"folder": ["whole", "partial"]},
        "settings": {
            "backbone": TINY,
            "iterations": 3,
            "batch_size": 4,
            "image_size": 64,
            "holdout": 0.0,
            "precision": "float32",
        },
        "settings_for": {"folder/partial": {"iterations": 2}},
        "vary": {"variant": ["rd", "urd"]},
        "seeds": [0],
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def places(roots, weights_file):
    return Places({"folder": roots}, {"*": str(weights_file)}, device="cpu", resamples=20)


def test_shipped_suites_name_what_they_say():
    counts = {name: len(read_suite(name).jobs) for name in shipped_suites()}
    assert counts == {
        "ablation": 15 * 5 * 3,
        "backbone-weights": 15 * 2 * 3,
        "cpu": 2 * 5 * 3,
        "encoders": 2 * 2 * 3 * 3,
        "mask-resize": 15 * 2 * 3,
        "paper": (15 + 6 + 3 + 12) * 2 * 3,
    }
    jobs = {(job.data, job.category, job.label): job for job in read_suite("paper").jobs}
    assert jobs["mvtec_ad", "cable", "urd"].settings["iterations"] == 10_000
    assert jobs["mvtec_ad", "bottle", "urd"].settings["iterations"] == 5000
    assert jobs["visa", "candle", "rd"].settings["iterations"] == 10_000
    assert jobs["mvtec_ad", "wood", "urd"].settings["foreground"] == "none"
    assert jobs["mvtec_ad", "screw", "urd"].settings["foreground"] == "auto"


def test_a_job_is_its_settings_and_files_and_not_where_they_lie(suite_file):
    first, second = read_suite(str(suite_file)).jobs[:2]
    inputs = {"weights": "a", "textures": "b"}
    assert first.digest(inputs) != second.digest(inputs)
    assert first.digest(inputs) != first.digest({**inputs, "weights": "c"})
    assert not {"device", "weights", "textures"} & set(first.settings)


def test_choices_with_names_and_an_untrained_encoder(suite_file, places, monkeypatch):
    content = yaml.safe_load(suite_file.read_text())
    content["vary"] = {"encoder": {"drawn": {"weights": "none"}, "shipped": {"backbone": BUILTIN}}}
    suite_file.write_text(yaml.safe_dump(content))
    suite = read_suite(str(suite_file))
    drawn, shipped = suite.jobs[:2]
    assert (drawn.label, shipped.label) == ("drawn", "shipped")
    assert places.weights_of(drawn) == "none"
    assert places.weights_of(shipped) == "auto"  # that file is of another backbone
    by_default = dataclasses.replace(places, weights={})
    digests = set()
    for release, offset in (("a", 1.0), ("b", 1.0), ("b", 2.0)):  # each makes another job
        monkeypatch.setattr(builtin, "SHA256", release)
        monkeypatch.setattr("urd.suites.runner.OFFSET", offset)
        digests.add(shipped.digest(_Fingerprints(suite, by_default).of(shipped)))
    monkeypatch.setattr("urd.suites.runner.NORMS", "others")  # which teachers are made with
    rd = dataclasses.replace(shipped, settings={**shipped.settings, "variant": "rd"})
    of_rd = _Fingerprints(suite, by_default).of(rd)
    digests.add(shipped.digest(_Fingerprints(suite, by_default).of(shipped)))
    monkeypatch.setattr("urd.suites.runner.WARM_UP_ITERATIONS", 50)
    digests.add(shipped.digest(_Fingerprints(suite, by_default).of(shipped)))
    assert len(digests) == 5
    assert "others" not in of_rd["weights"]


def test_a_preset_in_a_suite_never_falls_back(suite_file):
    suite_file.write_text("title: x\ndata: {btad: all}\nsettings: {preset: fast}\n")
    assert read_suite(str(suite_file)).jobs[0].settings["backbone"] == "resnet18.tv_in1k"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"data": {"mvtec": "all"}}, "unknown data 'mvtec'"),
        ({"data": {"mvtec_ad": ["nut"]}}, "no category 'nut'"),
        ({"data": {}, "settings_for": {}}, "the key 'data' is missing"),
        ({"settings": {"iteration": 3}}, "unknown option 'iteration'"),
        ({"settings": {"device": "cpu"}}, "belongs to a machine"),
        ({"settings": {"preset": "slow"}}, "unknown preset 'slow'"),
        ({"settings_for": {"folder/nut": {}}}, "settings_for 'folder/nut'"),
        ({"vary": {"variant": ["rdx"]}}, "choose from rd"),
        ({"published": [{"name": "A", "data": "visa"}]}, "data that the suite has not"),
        ({"published": [{"name": "A", "data": "folder"}]}, "without source"),
        ({"title": "x", "data": 3}, "is not a suite"),
        ({"title": None}, "the key 'title' is missing"),
        ({"seeds": [0, 0]}, "names something twice"),
        ({"seeds": [1.7]}, "whole numbers"),
        ({"seeds": [True]}, "whole numbers"),
        ({"seeds": [float("inf")]}, "whole numbers"),
        ({"vary": {"seed": [1, 2]}}, "seeds are given as"),
        ({"settings": {"seed": 7}}, "seeds are given as"),
        ({"vary": {"preset": ["paper", "fast"]}}, "vary those that you mean"),
        ({"vary": {"backbone": "abc"}}, "vary backbone is a list"),
        ({"vary": {"backbone": ["a,b"]}}, "a job has one backbone"),
        ({"vary": {"encoder": {"mine": {"weights": "w.pth"}}}}, "belongs to a machine"),
        ({"vary": {"encoder": {"mine": {"encoder": 1}}}}, "unknown option 'encoder'"),
        ({"vary": {"encoder": {"mine": 1}}}, "is not a suite"),
        ({"data": {"folder": "whole"}, "settings_for": {}}, "data folder is a list"),
        ({"published": [{"name": "A", "source": "b", "data": "folder", "x": 1}]}, "with 'x'"),
    ],
)
def test_what_is_no_suite_says_why(suite_file, change, message):
    content = {**yaml.safe_load(suite_file.read_text()), **change}
    suite_file.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=message) as error:
        read_suite(str(suite_file))
    assert "\n" not in str(error.value)


def test_categories_that_yaml_reads_as_numbers(suite_file):
    suite_file.write_text("title: x\ndata: {btad: [01, 02]}\n")
    assert [job.category for job in read_suite(str(suite_file)).jobs] == ["01", "02"]


def test_a_weight_file_is_of_one_backbone(tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    places = Places({"mvtec_ad": tmp_path}, {"*": str(weights)})
    with pytest.raises(UsageError, match=r"one weight file for .*racm_in1k.*TAG=FILE"):
        run_suite(read_suite("backbone-weights"), tmp_path / "out", places)
    files = {
        (job.settings["backbone"], places.weights_of(job)) for job in read_suite("encoders").jobs
    }
    shipped = {("builtin", "none"), ("builtin", "auto")}
    assert files == shipped | {("resnet18.tv_in1k", str(weights))}


def test_places_that_the_suite_has_no_use_for(suite_file, places, tmp_path):
    suite = read_suite(str(suite_file))
    for change, message in (
        ({"roots": {**places.roots, "typo": tmp_path}}, "--root typo"),
        ({"weights": {"resnet18": places.weights["*"]}}, "no backbone resnet18"),
        ({"weights": {"*": "absent.pth"}}, r"no weight file at absent\.pth"),
        ({"textures": "absent"}, "no texture folder at absent"),
    ):
        with pytest.raises(UsageError, match=message):
            run_suite(suite, tmp_path / "out", dataclasses.replace(places, **change))
    assert not (tmp_path / "out").exists()


def test_other_images_are_other_jobs(suite_file, places, roots, tmp_path):
    """Digests hold what the images are, and not where they lie."""
    suite, moved = read_suite(str(suite_file)), tmp_path / "moved"
    shutil.copytree(roots, moved / "root")
    there = dataclasses.replace(places, roots={"folder": moved / "root"})
    before, after = (_Fingerprints(suite, p).of(suite.jobs[0]) for p in (places, there))
    assert before == after
    image = moved / "root/whole/train/good/000.png"
    image.write_bytes((moved / "root/whole/train/good/001.png").read_bytes())
    changed = _Fingerprints(suite, there)
    assert changed.of(suite.jobs[0])["images"] != before["images"]
    assert changed.of(suite.jobs[2]) == _Fingerprints(suite, places).of(suite.jobs[2])


def test_two_suites_do_not_work_in_one_folder(suite_file, places, tmp_path):
    place = tmp_path / "out" / ".writer.urd-part"
    place.mkdir(parents=True)
    with (
        FileLock(place / "lock"),
        pytest.raises(UrdError, match="another call of urd is writing to"),
    ):
        run_suite(read_suite(str(suite_file)), tmp_path / "out", places)


def test_a_damaged_results_file_is_one_line(suite_file, places, tmp_path):
    (tmp_path / "out").mkdir()
    for content in ("[", "[{}]", '[{"digest": "a"}]', "3"):
        (tmp_path / "out" / RESULTS_NAME).write_text(content)
        with pytest.raises(UrdError, match="is not a results file of a suite"):
            run_suite(read_suite(str(suite_file)), tmp_path / "out", places)


def test_what_a_stopped_job_left_behind_never_blocks_it(data, tiny_config, tmp_path):
    """Its checkpoint is cut in half: it begins anew."""
    options = {**tiny_config.to_dict(), "holdout": 0.0}
    order = {"data_path": str(data), "options": options, "resamples": 0, "identity": {}}
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(options))
    (tmp_path / "run" / "checkpoint" / "state.safetensors").write_bytes(b"half")
    (tmp_path / "job.json").write_text(json.dumps(order))
    assert run_job(tmp_path)["n_good"] == 4


def test_unknown_suites_and_missing_roots(suite_file, tmp_path):
    with pytest.raises(UsageError, match="no suite 'x': give a YAML file or one of ablation"):
        read_suite("x")
    suite_file.write_text(": [")
    with pytest.raises(UsageError, match="as YAML"):
        read_suite(str(suite_file))
    with pytest.raises(UsageError, match=r"pass --root mvtec_ad=DIR .*https://www\.mvtec\.com"):
        run_suite(read_suite("ablation"), tmp_path / "out", Places({}))
    roots = dict.fromkeys(("mvtec_ad", "mpdd", "btad", "visa"), tmp_path)
    with pytest.raises(UsageError, match=r"nothing at .*bottle\. MVTec AD .*4\.9 GB"):
        run_suite(read_suite("paper"), tmp_path / "out", Places(roots))
    assert not (tmp_path / "out").exists()


def test_a_failed_job_stops_nothing_and_is_the_only_one_done_again(
    suite_file, places, roots, tmp_path
):
    suite, out = read_suite(str(suite_file)), tmp_path / "out"
    first = run_suite(suite, out, places)
    assert sorted(first.failed) == ["folder/partial, rd, seed 0", "folder/partial, urd, seed 0"]
    assert all("no labelled test images" in reason for reason in first.failed.values())
    logs = [path.read_text() for path in out.glob("jobs/*/log.txt")]
    assert logs and not any("Warning" in log for log in logs)
    assert first.ran == ["folder/whole, rd, seed 0", "folder/whole, urd, seed 0"]
    assert {job.name for job in missing_jobs(suite, out, places)} == set(first.failed)
    before = (out / RESULTS_NAME).read_text()
    assert "2 of 4 jobs done" in (out / "tiny.md").read_text()

    shutil.copytree(roots / "whole" / "test", roots / "partial" / "test")
    shutil.copytree(roots / "whole" / "ground_truth", roots / "partial" / "ground_truth")
    second = run_suite(suite, out, places)
    assert second.failed == {}
    assert second.kept == first.ran
    assert sorted(second.ran) == sorted(first.failed)
    results = json.loads((out / RESULTS_NAME).read_text())
    assert results[:2] == json.loads(before)
    assert [r["settings"]["iterations"] for r in results] == [3, 3, 2, 2]
    assert all(set(METRICS) <= set(r) and "image_auroc_low" in r for r in results)
    # What is left is of the failed jobs, which are others since their data have changed.
    assert {path.name.split("-")[1] for path in (out / "jobs").iterdir()} == {"partial"}
    assert "4 of 4 jobs done" in (out / "tiny.md").read_text()
    assert (out / "tiny.tex").exists()
    assert len(list(csv.DictReader(io.StringIO((out / "tiny.csv").read_text())))) == 4

    third = run_suite(suite, out, places)
    assert (third.ran, third.failed, len(third.kept)) == ([], {}, 4)
    assert missing_jobs(suite, out, places) == []


RUN = """
import sys
from urd import cli
sys.argv = ["urd", "benchmark", *sys.argv[1:]]
cli.main()
"""


def test_a_suite_that_was_killed_twice_goes_on(suite_file, places, roots, tmp_path):
    shutil.copytree(roots / "whole", roots / "partial", dirs_exist_ok=True)
    out = tmp_path / "out"
    arguments = [str(suite_file), "--out", str(out), "--root", f"folder={roots}", "--device", "cpu"]
    arguments += ["--weights", places.weights["*"], "--resamples", "20"]
    finished = []
    for wanted in (1, 2):
        process = subprocess.Popen([sys.executable, "-c", RUN, *arguments])
        while process.poll() is None and len(done(out)) < wanted:
            time.sleep(0.05)
        time.sleep(2)  # into the next job
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_no_job_is_left(out)
        finished.append(done(out))
    assert wanted <= len(finished[1]) < 4
    whole = subprocess.run([sys.executable, "-c", RUN, *arguments], check=False)
    assert whole.returncode == 0
    assert done(out)[: len(finished[1])] == finished[1]
    assert len(done(out)) == 4

    undisturbed = tmp_path / "undisturbed"
    run_suite(read_suite(str(suite_file)), undisturbed, places)
    figures = [{r["digest"]: [r[m] for m in METRICS] for r in done(o)} for o in (out, undisturbed)]
    assert figures[0] == figures[1]


def done(out):
    path = out / RESULTS_NAME
    return json.loads(path.read_text()) if path.exists() else []


def assert_no_job_is_left(out):
    """The job's process ends with the suite's, however that one ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        if not any("-m urd.suites" in x and str(out) in x for x in listing.stdout.split("\n")):
            return
        time.sleep(0.1)
    raise AssertionError("a job outlived its suite")


def test_a_suite_that_is_stopped_says_how_to_go_on(suite_file, places, roots, tmp_path):
    arguments = [str(suite_file), "--out", str(tmp_path / "o"), "--root", f"folder={roots}"]
    arguments += ["--weights", places.weights["*"], "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "o").glob("jobs/*/log.txt")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said


def result(job, **metrics):
    return {
        "digest": job.digest({}),
        "data": job.data,
        "category": job.category,
        "settings": job.settings,
        "protocol": "of a test, 10 % & more",
        "machine": {"cpu": "a processor", "gpu": None},
        "fit_seconds": 1.0,
        "encoder": {"pretrained": False},
        "textures": "procedural",
        "precision": "float32" if job.seed else "bfloat16",
        **metrics,
    }


@pytest.fixture
def tabled(suite_file):
    content = yaml.safe_load(suite_file.read_text())
    content["seeds"] = [0, 1, 2]
    content["published"] = [
        {"name": "Other", "source": "2020", "data": "folder", "image_auroc": 98.76}
    ]
    suite_file.write_text(yaml.safe_dump(content))
    suite = read_suite(str(suite_file))
    labels = {job.digest({}): job.label for job in suite.jobs}
    return suite, labels


def test_tables_hold_means_over_categories_and_spread_over_seeds(tabled, monkeypatch):
    suite, labels = tabled
    values = {("whole", 0): 0.9, ("whole", 1): 0.92, ("whole", 2): 0.97}
    values |= {("partial", 0): 0.7, ("partial", 1): 0.8, ("partial", 2): 0.6}
    limits = {"image_auroc_low": 0.5, "image_auroc_high": 0.99}
    results = [
        result(job, image_auroc=values[job.category, job.seed], **limits)
        for job in suite.jobs
        if job.label == "rd"
    ]
    summary, of_first, of_second, intervals = make_tables(suite, results, labels)
    rows = {row[0]: row for row in summary.rows}
    per_seed = [100 * (values["whole", s] + values["partial", s]) / 2 for s in (0, 1, 2)]
    expected = f"{statistics.mean(per_seed):.1f} ± {statistics.stdev(per_seed):.1f}"
    assert rows["rd"][:3] == ["rd", "6", expected]
    assert rows["urd"] == ["urd", "0", *["-"] * 6]
    assert rows["Other (published: 2020)"][2] == "98.8"
    assert of_first.rows[0][:3] == ["rd", "3", "93.0 ± 3.6"]
    assert (of_second.title, of_second.rows[0][2]) == ("folder/partial", "70.0 ± 10.0")
    assert len(of_first.rows) == 2  # what others published is of the whole data set
    monkeypatch.setattr(tables, "_FEW", 1)
    by_category = make_tables(suite, results, labels)[1]
    assert by_category.rows[0] == ["whole", "3", "93.0 ± 3.6", "-"]
    assert intervals.rows[0][:3] == ["whole", "rd", "50.0 to 99.0"]
    for table in (summary, by_category, intervals):
        assert "6 of 12 jobs done" in table.caption
        assert "of a test" in table.caption
        assert "Trained in bfloat16 and float32" in table.caption
        lines = table.markdown().splitlines()
        assert {line.count("|") for line in lines[4:]} == {len(table.header) + 1}
        assert f"backbone {TINY}" in table.caption
        assert "10 \\% \\& more" in table.latex()
        assert table.latex().count(r"\\") == len(table.rows) + 1


def test_a_mean_over_categories_needs_every_category(tabled):
    suite, labels = tabled
    results = [result(job, image_auroc=0.9) for job in suite.jobs if job.category == "whole"]
    summary, *_ = make_tables(suite, results, labels)
    assert summary.rows[0][2] == "-"


def test_csv_has_a_row_per_job(tabled):
    suite, labels = tabled
    results = [result(job, image_auroc=0.9, aupro=None) for job in suite.jobs[:3]]
    rows = list(csv.DictReader(io.StringIO(tidy_csv(results, labels))))
    assert [row["label"] for row in rows] == ["rd", "urd", "rd"]
    assert [row["variant"] for row in rows] == ["rd", "urd", "rd"]
    assert [row["category"] for row in rows] == ["whole", "whole", "partial"]
    assert {(row["image_auroc"], row["aupro"], row["seed"]) for row in rows} == {("0.9", "", "0")}


def test_more_jobs_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _devices(Places({}, parallel=1)) == ["cuda:0"]
    assert _devices(Places({})) == ["cuda:0", "cuda:1"]
    with pytest.raises(UsageError, match="2 GPUs"):
        _devices(Places({}, parallel=3))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert _devices(Places({}, device="cuda:1")) == ["cuda:1"]
    assert _devices(Places({}, device="cpu")) == ["cpu"] * 8
