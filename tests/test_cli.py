"""The command as a user meets it: outputs, exit codes, one-line errors, instant help."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import typing

import click
import numpy as np
import pytest
import yaml
from conftest import TINY, picture
from PIL import Image

from urd.cli.options import config_options
from urd.config import FitConfig
from urd.training import loop


@pytest.fixture
def fit_options(weights_file):
    return ["--backbone", TINY, "--weights", weights_file, "--iterations", 3, "--batch-size", 4]


@pytest.fixture
def run_folder(urd, data, tmp_path, fit_options):
    code, _, err = urd("fit", data, "--out", tmp_path / "run", "--image-size", 64, *fit_options)
    assert code == 0, err
    return tmp_path / "run"


def one_line(err):
    lines = [line for line in err.splitlines() if line.startswith("urd: ")]
    return len(lines) == 1 and "Traceback" not in err


def test_fit_evaluate_predict(urd, data, run_folder, tmp_path):
    code, out, _ = urd("evaluate", run_folder, data, "--json", tmp_path / "e.json")
    assert code == 0
    assert "4 good, 4 defective" in " ".join(out.split())
    assert "iteration 3 (last)" in " ".join(out.split())
    written = json.loads((tmp_path / "e.json").read_text())
    assert written == json.loads((run_folder / "evaluation.json").read_text())

    broken = data / "test" / "good" / "broken.png"
    broken.write_bytes(b"no")
    code, out, err = urd("predict", run_folder, data / "test", "--out", tmp_path / "p")
    assert code == 1
    assert "8 images judged, 1 not" in out
    assert "broken.png: not an image" in err
    rows = [json.loads(x) for x in (tmp_path / "p" / "predictions.jsonl").read_text().splitlines()]
    with (tmp_path / "p" / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [r["path"] for r in table] == [r["path"] for r in rows]
    assert len(rows) == 9
    pictures = {row["overlay"] for row in rows if row["error"] is None}
    assert len(pictures) == 8
    assert all((tmp_path / "p" / name).is_file() for name in pictures)


def test_calibrate_and_judge(urd, data, run_folder, tmp_path):
    good, model = data / "test" / "good", run_folder / "model.safetensors"
    code, out, err = urd("calibrate", run_folder, good, "--json", tmp_path / "t.json")
    assert code == 0, err
    assert "4 images are too few for 1 %" in " ".join(out.split())
    assert "99 are enough: give urd calibrate a folder of 99 good images" in " ".join(out.split())
    limits = json.loads((tmp_path / "t.json").read_text())
    assert limits["reject"]["n"] == 4
    before = model.read_bytes()
    code, _, err = urd("calibrate", run_folder, data, "--false-reject", 0.3)
    assert (code, one_line(err)) == (2, True)
    for shares in (("--false-reject", 0), ("--false-reject", 0.1, "--review", 0.05)):
        code, _, err = urd("calibrate", run_folder, good, *shares)
        assert (code, one_line(err)) == (2, True)
    assert model.read_bytes() == before

    broken = good / "broken.png"
    broken.write_bytes(b"no")
    code, _, err = urd("calibrate", run_folder, good, "--out", tmp_path / "other.safetensors")
    assert code == 1
    assert "skipped" in err and (tmp_path / "other.safetensors").exists()
    broken.unlink()

    code, out, err = urd("predict", run_folder, good, "--out", tmp_path / "p")
    assert code == 0, err  # the largest of these very scores is the threshold
    assert "4 OK, 0 REVIEW, 0 NG" in out
    options = ["--out", tmp_path / "q", "--false-reject", 0.5, "--fail-on-ng"]
    options += ["--overlays", "rejects"]
    code, out, err = urd("predict", run_folder, good, *options, "--mm-per-pixel", 0.5)
    assert code == 3, err
    rows = [json.loads(x) for x in (tmp_path / "q" / "predictions.jsonl").read_text().splitlines()]
    assert {bool(row["overlay"]) for row in rows} == {True, False}
    assert all(bool(row["overlay"]) == (row["verdict"] != "OK") for row in rows)
    assert {row["verdict"] for row in rows} == {"OK", "NG"}
    for row in rows:
        assert (row["calibrated"] > 0.5) == (row["verdict"] != "OK") == bool(row["defects"])
        assert row["n_defects"] == len(row["defects"])
        for defect in row["defects"]:
            left, top, right, bottom = defect["box"]
            assert 0 <= left < right <= row["width"] and 0 <= top < bottom <= row["height"]
            assert defect["area_mm2"] == pytest.approx(defect["area"] / 4)
    with (tmp_path / "q" / "predictions.csv").open(newline="") as file:
        assert [r["verdict"] for r in csv.DictReader(file)] == [row["verdict"] for row in rows]


def test_predict_takes_a_list_on_standard_input(urd, data, run_folder, tmp_path, monkeypatch):
    listed = sorted((data / "test" / "good").glob("*.png"))[:2]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{path}\n" for path in listed)))
    code, _, err = urd("predict", run_folder, "-", "--out", tmp_path / "p")
    assert code == 0, err
    rows = [json.loads(x) for x in (tmp_path / "p" / "predictions.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in listed]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    code, _, err = urd("predict", run_folder, "-", "--out", tmp_path / "q")
    assert (code, one_line(err)) == (2, True)


def test_without_held_out_images_there_is_no_verdict(urd, data, tmp_path, fit_options):
    run, options = tmp_path / "run", ["--image-size", 64, "--holdout", 0, *fit_options]
    code, out, err = urd("fit", data, "--out", run, *options)
    assert code == 0, err
    assert "Not calibrated" in out
    good = data / "test" / "good"
    code, out, _ = urd("predict", run, good, "--out", tmp_path / "p")
    assert code == 0 and "OK" not in out
    row = json.loads((tmp_path / "p" / "predictions.jsonl").read_text().splitlines()[0])
    assert row["verdict"] is None and row["n_defects"] is None and row["score"] > 0
    code, _, err = urd("predict", run, good, "--out", tmp_path / "q", "--fail-on-ng")
    assert (code, one_line(err)) == (2, True)
    assert not (tmp_path / "q").exists()


def test_predict_writes_maps_that_metrics_reads(urd, data, run_folder, tmp_path):
    out = tmp_path / "p"
    code, _, err = urd("predict", run_folder, data / "test", "--out", out, "--maps")
    assert code == 0, err
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [row["map"] for row in rows][:5] == [
        *(f"maps/good/{index:03}.tiff" for index in range(4)),
        "maps/square/000.tiff",
    ]
    options = ["--maps", out / "maps", "--masks", data / "ground_truth"]
    code, text, _ = urd("metrics", *options, "--json", tmp_path / "m.json", "--resamples", 50)
    assert code == 0
    assert "4 good, 4 defective" in " ".join(text.split())
    assert "95 % interval" in text
    found = json.loads((tmp_path / "m.json").read_text())
    urd("evaluate", run_folder, data, "--json", tmp_path / "e.json", "--resamples", 0)
    expected = json.loads((tmp_path / "e.json").read_text())
    assert found["pixel_auroc"] == pytest.approx(expected["pixel_auroc"], abs=0.02)
    assert (found["n_good"], found["n_defective"]) == (4, 4)
    assert found["image_auroc_low"] <= found["image_auroc"] <= found["image_auroc_high"]
    assert "image_auroc_low" not in expected

    code, _, err = urd("metrics", "--maps", out / "maps", "--masks", tmp_path / "absent")
    assert (code, one_line(err)) == (2, True)
    (out / "maps/good/001.tiff").write_bytes(b"no")
    code, _, err = urd("metrics", *options)
    assert (code, one_line(err)) == (1, True)


def test_predict_globs_files_and_missing_ones(urd, data, run_folder, tmp_path):
    good = data / "test" / "good"
    code, out, _ = urd("predict", run_folder, f"{good}/*.png", "--out", tmp_path / "a")
    assert (code, out.startswith("4 images judged, 0 not")) == (0, True)
    missing = good / "nope.png"
    code, _, err = urd("predict", run_folder, missing, good / "000.png", "--out", tmp_path / "b")
    assert code == 1
    assert "nope.png: no such file" in err
    for words in ([missing], ["nex", missing]):  # nothing at all: before the run is even read
        code, _, err = urd("predict", tmp_path / "no run", *words, "--out", tmp_path / "d")
        assert (code, one_line(err), "nope.png" in err) == (2, True, True)
        assert not (tmp_path / "d").exists()
    code, _, err = urd("predict", run_folder, good, "--out", tmp_path / "a")
    assert code == 2
    assert one_line(err)
    code, _, err = urd("predict", run_folder, f"{good}/*.jpg", "--out", tmp_path / "c")
    assert code == 2
    assert not (tmp_path / "c").exists()


def test_check(urd, data, tmp_path):
    code, out, _ = urd("check", data, "--json", tmp_path / "c.json")
    assert code == 0
    assert "no problems found" in out
    assert json.loads((tmp_path / "c.json").read_text())["ok"] is True
    (data / "train" / "good" / "000.png").write_bytes(b"")
    code, out, _ = urd("check", data)
    assert code == 1
    assert "1 files that cannot be used" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit", "/nope", "--out", "{tmp}/x"], 2, "no folder at /nope"),
        (["fit", "{data}"], 2, "Missing option '--out'"),
        (["fit", "{data}", "--out", "{tmp}/x", "--varient", "urd"], 2, "No such option"),
        (["fit", "{data}", "--out", "{tmp}/x", "--variant", "rd++"], 2, "is not one of"),
        (["fit", "{data}", "--out", "{tmp}/x", "--iterations", "many"], 2, "iterations cannot"),
        (["fit", "{data}", "--out", "{tmp}/x", "--backbone", "nope"], 2, "unknown backbone"),
        (["fit", "{data}", "--out", "{data}"], 2, "exists and is not empty"),
        (["fit", "{data}", "--out", "{tmp}/x", "--config", "{tmp}/no.yaml"], 2, "cannot read"),
        (["fit", "{data}", "--out", "{tmp}/x", "--resume"], 2, "nothing to resume"),
        (["evaluate", "{tmp}/nope", "{data}"], 2, "no model file at"),
        (["predict", "{tmp}/nope", "{data}", "--out", "{tmp}/x"], 2, "no "),
        (["check", "{tmp}/nope"], 2, "no folder at"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_wrong_requests_are_one_line(urd, data, tmp_path, arguments, code, message):
    got, _, err = urd(*(a.format(data=data, tmp=tmp_path) for a in arguments))
    assert got == code
    assert message in err
    assert one_line(err)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("content", ["seed: 2024-99-99", "seed: " + "[" * 100_000, "{", "\0"])
def test_config_file_that_is_no_yaml_is_one_line(urd, data, tmp_path, content):
    (tmp_path / "c.yaml").write_text(content)
    code, _, err = urd("fit", data, "--out", tmp_path / "x", "--config", tmp_path / "c.yaml")
    assert code == 2 and "as YAML" in err
    assert one_line(err)


def test_config_file_with_an_unknown_option_is_refused(urd, data, tmp_path):
    (tmp_path / "c.yaml").write_text("iteration: 7\n")
    code, _, err = urd("fit", data, "--out", tmp_path / "x", "--config", tmp_path / "c.yaml")
    assert code == 2
    assert "unknown option 'iteration' in" in err


def test_run_configuration_reproduces_the_run(urd, data, run_folder, tmp_path):
    code, _, _ = urd("fit", data, "--out", tmp_path / "b", "--config", run_folder / "config.yaml")
    assert code == 0
    names = [tmp_path / "b" / "model.safetensors", run_folder / "model.safetensors"]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())["iterations"] == 3


def test_every_field_is_a_flag_with_help():
    command = click.Command("x", params=[], callback=config_options(lambda: None))
    flags = {p.name: p for p in command.callback.__click_params__}
    assert set(flags) == set(typing.get_type_hints(FitConfig))
    assert all(len(p.help) > 20 for p in flags.values())


@pytest.mark.parametrize("arguments", [[], ["fit", "--help"], ["predict", "--help"], ["check"]])
def test_help_imports_no_torch(arguments):
    code = (
        "import sys; from urd.cli import cli\n"
        "try: cli.main(sys.argv[1:], standalone_mode=False)\n"
        "except Exception: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert done.returncode == 0


def test_metrics_needs_no_torch(tmp_path):
    for kind in ("good", "bad"):
        (tmp_path / "maps" / kind).mkdir(parents=True)
        np.save(tmp_path / "maps" / kind / "0.npy", np.random.default_rng(0).random((9, 9)))
    (tmp_path / "gt" / "bad").mkdir(parents=True)
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "gt" / "bad" / "0.png")
    arguments = ["metrics", "--maps", str(tmp_path / "maps"), "--masks", str(tmp_path / "gt")]
    code = (
        "import sys; from urd import cli; sys.argv = ['urd', *sys.argv[1:]]\n"
        "try: cli.main()\nexcept SystemExit as stop: assert not stop.code, stop.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *arguments]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_check_needs_no_torch(data):
    code = (
        "import sys; from urd.cli import cli\n"
        "cli.main(['check', sys.argv[1]], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, data], check=False).returncode == 0


def test_resume_and_overwrite_together_are_refused(urd, data, run_folder):
    code, _, err = urd("fit", data, "--out", run_folder, "--resume", "--overwrite")
    assert code == 2
    assert "not both" in err


def test_a_finished_run_says_so(urd, data, run_folder, tmp_path):
    code, out, _ = urd("fit", data, "--out", run_folder, "--resume")
    assert code == 0
    assert "nothing was trained" in out
    assert urd("fit", tmp_path / "nope", "--out", run_folder, "--resume")[0] == 2


def test_ctrl_c_says_how_to_go_on(urd, data, tmp_path, fit_options, monkeypatch):
    original = loop.train_iteration

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(loop, "train_iteration", interrupted)
    code, _, err = urd("fit", data, "--out", tmp_path / "x", "--image-size", 64, *fit_options)
    assert code == 130
    assert "urd: stopped after iteration 1 of 3; --resume continues" in err


def test_a_call_that_is_cut_leaves_no_older_table(urd, data, run_folder, tmp_path, monkeypatch):
    words = ["predict", run_folder, data / "test" / "good", "--out", tmp_path / "p"]
    assert urd(*words)[0] == 0
    assert (tmp_path / "p" / "predictions.csv").exists()

    def cut(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("urd.detector.Detector.predict_many", cut)
    assert urd(*words, "--overwrite")[0] != 0
    assert not (tmp_path / "p" / "predictions.csv").exists()


def test_names_of_any_bytes_and_any_length(urd, run_folder, tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"names\xff")
    folder.mkdir()
    content = io.BytesIO()
    Image.fromarray(picture(np.random.default_rng(0))).save(content, "PNG")
    for name in (b"\xff.png", b"n" * 250 + b".png", "\u00e9\u4e2d.png".encode()):
        (folder / os.fsdecode(name)).write_bytes(content.getvalue())
    code, out, err = urd("predict", run_folder, folder, "--out", tmp_path / "p", "--maps")
    assert (code, err) == (0, "")
    assert len((tmp_path / "p" / "predictions.csv").read_text().splitlines()) == 4
    listed = io.BytesIO(b"\n".join(os.fsencode(path) for path in sorted(folder.iterdir())))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(listed, encoding="utf-8"))
    code, out, err = urd("predict", run_folder, "-", "--out", tmp_path / "q")
    assert (code, err) == (0, "")
    assert out.startswith("3 images judged")
    assert len(list((tmp_path / "p" / "overlays").iterdir())) == 3
    assert urd("check", folder)[0] == 1  # they are copies of each other


def test_predict_does_not_score_its_own_pictures(urd, data, run_folder, monkeypatch):
    good = data / "test" / "good"
    (good / ".hidden.png").write_bytes(b"")
    (good / ".cache").mkdir()
    (good / ".cache" / "thumbnail.png").write_bytes(b"")
    masks = good / "deeper" / "ground_truth"
    masks.mkdir(parents=True)
    (masks / "000_mask.png").write_bytes(b"")
    monkeypatch.chdir(good)
    for out_folder in (good / "res", good / "res", "res", "../good/res"):
        code, out, _ = urd("predict", run_folder, good, "--out", out_folder, "--overwrite")
        assert (code, out.startswith("4 images")) == (0, True)
    (good / "folder.png").mkdir()
    assert urd("predict", run_folder, f"{good}/fold*", "--out", good / "other")[0] == 2


def test_no_verb_prints_the_help(urd):
    code, out, _ = urd()
    assert code == 2
    assert out.startswith("Usage: urd")
