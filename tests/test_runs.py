"""Run folders: one writer, killed at any write, resumed by the same words, never of two models."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import threading

import numpy as np
import pytest
from conftest import TINY, assert_same_weights, picture, save

from urd import Detector, cli
from urd.errors import NotWritten, UrdError, UsageError
from urd.model.run_folder import RunFolder
from urd.results.report import write_report
from urd.system import files
from urd.system.csv_text import csv_text
from urd.training import loop
from urd.training.resume import settings_to_resume


@pytest.fixture
def words(data, tmp_path, weights_file):
    """A call of `urd fit` with a preset."""
    options = ["--backbone", TINY, "--weights", weights_file, "--iterations", 2, "--batch-size", 4]
    return [
        "fit",
        data,
        "--out",
        tmp_path / "run",
        "--preset",
        "edge",
        "--image-size",
        64,
        *options,
    ]


@pytest.fixture
def held(tmp_path):
    """`tmp_path/run`, into which another writer writes."""
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with files.writing(tmp_path / "run"):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    yield tmp_path / "run"
    leave.set()
    thread.join()


def names(folder):
    return {path.name for path in folder.rglob("*")}


def leave_a_kill(run):
    """What a call that was killed in its first write leaves."""
    for name in (".writer.urd-part", ".0123.urd-part"):
        (run / name).mkdir(parents=True)
    (run / ".writer.urd-part" / "lock").touch()
    (run / ".0123.urd-part" / "config.yaml").write_text("backb")


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_run_that_was_killed_in_its_first_write_begins(data, tiny_config, tmp_path, how):
    run = tmp_path / "run"
    leave_a_kill(run)
    config = dataclasses.replace(tiny_config, iterations=1)
    Detector.fit(data, run, config=config, **how)
    assert names(run) == {"config.yaml", "metrics.jsonl", "model.safetensors"}


def test_the_first_write_makes_the_folder_a_run(data, tiny_config, tmp_path, monkeypatch):
    run = tmp_path / "run"
    seen = []
    replace = files.Path.replace

    def cut(self, target):
        replace(self, target)
        seen.append(target.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=tiny_config)
    assert seen == ["config.yaml"]
    Detector.fit(data, run, resume=True)
    Detector.fit(data, tmp_path / "whole", config=tiny_config)
    assert_same_weights(run, tmp_path / "whole")


def test_nothing_of_an_older_model_stands_beside_the_new_one(
    data, tiny_config, tmp_path, monkeypatch
):
    """Killed right after the model is in its place, the first thing that is looked for."""
    run = tmp_path / "run"
    Detector.fit(data, run, config=tiny_config)
    for name in ("evaluation.json", "evaluation_details.json", "report.html"):
        (run / name).write_text("{}")
    monkeypatch.setattr(RunFolder, "remove_checkpoint", lambda run: 1 / 0)
    other = dataclasses.replace(tiny_config, seed=1)
    with pytest.raises(ZeroDivisionError):
        Detector.fit(data, run, config=other, overwrite=True)
    assert names(run) >= {"model.safetensors", "checkpoint"}
    assert not names(run) & {"evaluation.json", "evaluation_details.json", "report.html"}
    monkeypatch.undo()
    Detector.fit(data, run, resume=True)
    Detector.fit(data, tmp_path / "whole", config=other)
    assert_same_weights(run, tmp_path / "whole")


def test_a_second_writer_is_refused(urd, data, tiny_config, tmp_path, held, words):
    with pytest.raises(NotWritten, match="another call of urd is writing to"):
        Detector.fit(data, held, config=tiny_config)
    model = tmp_path / "model"
    for call in (
        words,
        [*words, "--resume"],
        ["predict", model, data, "--out", held],
        ["calibrate", held, data / "train" / "good"],
        ["evaluate", held, data],
        ["report", held],
        ["demo", "--out", held],
    ):
        code, _, err = urd(*call)
        assert code == 1, call
        assert err.count("\n") == 1 and f"another call of urd is writing to {held}" in err
    assert names(held) == {".writer.urd-part", "lock"}


def test_the_same_words_resume(urd, words, data, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_iteration", stop)
        assert urd(*words)[0] == 130
    assert urd(*words, "--resume", "--seed", 5)[0] == 2
    code, _, err = urd(*words[:4], "--resume", "--batch-size", 4)
    assert code == 0, err
    code, out, _ = urd(*words, "--resume")
    assert (code, "nothing was trained" in out) == (0, True)
    (tmp_path / "c.yaml").write_text("batch_size: 4\nstudent: slim\n")
    assert urd(*words[:4], "--resume", "--config", tmp_path / "c.yaml")[0] == 0
    code, _, err = urd(*words[:4], "--resume", "--batch-size", 3)
    assert code == 2
    assert "batch_size 3: the run was started with 4" in err
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    save(picture(np.random.default_rng(9)), data / "train" / "good" / "000.png")
    code, _, err = urd(*words, "--resume")
    assert code == 2
    assert "--resume on other images" in err
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_of_several_backbones_the_run_keeps_its_own(data, tiny_config, tmp_path):
    run = tmp_path / "run"
    Detector.fit(data, run, config=dataclasses.replace(tiny_config, iterations=1))
    given = {"backbone": f"resnet18.tv_in1k,{TINY}", "weights": tiny_config.weights}
    assert settings_to_resume(run, given).tag == TINY
    with pytest.raises(UsageError, match="backbone"):
        Detector.fit(data, run, resume=True, backbone="resnet18.tv_in1k", weights="none")


def test_a_finished_run_refuses_other_weights(data, tiny_config, tmp_path):
    from safetensors.torch import load_file, save_file

    run, other = tmp_path / "run", tmp_path / "other.safetensors"
    Detector.fit(data, run, config=dataclasses.replace(tiny_config, iterations=1))
    save_file({name: value + 1 for name, value in load_file(tiny_config.weights).items()}, other)
    with pytest.raises(UsageError, match="other weights"):
        Detector.fit(data, run, resume=True, weights=str(other))


def test_an_evaluation_is_of_its_model(data, tiny_config, tmp_path):
    run = tmp_path / "run"
    detector = Detector.fit(data, run, config=dataclasses.replace(tiny_config, iterations=1))
    detector.evaluation(data, resamples=0).write(run)
    assert "AUROC" in write_report(run, device="cpu").read_text()
    (run / "evaluation.json").rename(run / "kept")
    assert "data" not in write_report(run, device="cpu").read_text().split("<h1>")[1][:40]
    (run / "kept").rename(run / "evaluation.json")
    other = dataclasses.replace(tiny_config, iterations=1, seed=1)
    Detector.fit(data, config=other).save(run / "model.safetensors")
    with pytest.raises(UrdError, match="comes from another model"):
        write_report(run, device="cpu")


def test_a_killed_predict_leaves_nothing_that_looks_whole(urd, words, data, tmp_path, monkeypatch):
    assert urd(*words)[0] == 0
    out = tmp_path / "p"
    predict = ["predict", tmp_path / "run", data / "test" / "square", "--out", out]
    assert urd(*predict)[0] == 0
    first = names(out)
    assert first >= {"predictions.jsonl", "predictions.csv", "000.png"}
    monkeypatch.setattr(cli.sys, "argv", [])
    with monkeypatch.context() as patch:

        def cut(columns, rows):
            raise KeyboardInterrupt

        patch.setattr("urd.results.prediction_files.csv_text", cut)
        others = ["predict", tmp_path / "run", data / "test" / "good" / "003.png", "--out", out]
        assert urd(*others, "--overwrite")[0] == 130
    assert names(out) == {"predictions.partial.jsonl", "overlays", "003.png"}
    listing = (out / "predictions.partial.jsonl").read_text().splitlines()
    (out / "predictions.partial.jsonl").write_text(listing[0] + '\n{"path": "')  # cut by the kill
    code, _, err = urd(*predict)
    assert code == 2 and "--overwrite" in err
    assert urd(*predict, "--overwrite")[0] == 0
    assert names(out) == first
    rows = (out / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(row)["verdict"] for row in rows] != []
    assert len(rows) == 4


def test_a_full_disk_in_the_rows(tmp_path):
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with files.growing(tmp_path / "rows") as add_line, pytest.raises(NotWritten) as failed:
            for _ in range(50):
                add_line("a row")
        with pytest.raises(NotWritten, match="nothing was replaced"):
            files.write_text(tmp_path / "text", "x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(failed.value).startswith(f"cannot write {tmp_path / 'rows'}: ")
    assert names(tmp_path) == {"rows"}


def test_no_cell_is_a_formula():
    signs = ["=1+1.png", "+1.png", "-1.png", "@SUM(A1).png", "\t=1.png", "\r=1.png", " =1.png"]
    rows = [{"path": sign, "error": sign, "score": -0.5, "defects": []} for sign in signs]
    read = list(csv.DictReader(io.StringIO(csv_text(("path", "score", "error"), rows), newline="")))
    assert [row["path"] for row in read] == [f"./{sign}" for sign in signs]
    assert [row["error"] for row in read] == [f"'{sign}" for sign in signs]
    assert {row["score"] for row in read} == {"-0.5"}
    plain = csv_text(("path",), [{"path": "a/=b.png"}, {"path": "/=c.png"}])
    assert plain.split() == ["path", "a/=b.png", "/=c.png"]


def test_paths_of_formulas_stay_paths(urd, words, data, tmp_path, monkeypatch):
    assert urd(*words)[0] == 0
    monkeypatch.chdir(tmp_path)
    save(picture(np.random.default_rng(0)), tmp_path / "=1+1.png")
    assert urd("predict", "run", "=1+1.png", "--out", "p")[0] == 0
    with (tmp_path / "p" / "predictions.csv").open(newline="") as table:
        (row,) = csv.DictReader(table)
    assert row["path"] == "./=1+1.png" and (tmp_path / row["path"]).is_file()
    assert json.loads((tmp_path / "p" / "predictions.jsonl").read_text())["path"] == "=1+1.png"


def test_fit_says_what_few_images_mean_and_what_comes_next(urd, words, data, tmp_path):
    code, out, _ = urd(*words)
    said = " ".join(out.split())
    assert code == 0
    assert "6 images are too few for 1 % (NG) and 5 % (REVIEW)" in said
    assert "99 are enough: give urd calibrate a folder of 99 good images" in said
    assert "6 images are very few to train on" in said
    assert "6 held-out images are too few: do not rely on the figures" in said
    run = tmp_path / "run"
    for command in (f"urd calibrate {run} GOOD", f"urd evaluate {run} {data}", f"urd report {run}"):
        assert command in said
    _, out, _ = urd("predict", run, data / "test" / "good", "--out", tmp_path / "p")
    assert "6 images are too few for" in out


def test_an_export_takes_its_place_at_once_and_removes_what_a_killed_one_left(
    data, tiny_config, tmp_path, monkeypatch
):
    pytest.importorskip("onnxscript")
    from urd.export.files import Export, export

    detector = Detector.fit(data, config=dataclasses.replace(tiny_config, iterations=1))
    out = tmp_path / "exported" / "m.onnx"
    leave_a_kill(out.parent)
    images = sorted((data / "test" / "good").iterdir())
    export(detector, out, Export("onnx"), images, [])
    assert names(out.parent) == {"m.onnx", "m.onnx.parity.json"}

    replace = files.Path.replace

    def cut(self, target):
        if target.parent != out.parent:
            return replace(self, target)
        assert not out.exists(), "while the report changes, no file goes with it"
        raise KeyboardInterrupt

    monkeypatch.setattr(files.Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        export(detector, out, Export("onnx"), images, [])
    assert names(out.parent) == {"m.onnx.parity.json"}
