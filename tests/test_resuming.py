"""What a run survives: a kill, Ctrl-C, NaN, damage, and what it refuses to go on with."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import assert_same_weights, picture, save
from safetensors.torch import load_file, save_file

from urd import Detector
from urd.errors import UrdError, UsageError
from urd.training import loop
from urd.training.checkpoint import NotFinite
from urd.training.validation import SyntheticValidation

KILL_AT = """
import os, signal, sys
from pathlib import Path
from urd import Detector
from urd.config import FitConfig
from urd.system import tensor_file
from urd.training import loop
count = 0
original = {module}.{function}
def killing(*args, **kwargs):
    global count
    count += 1
    if count == {at}:
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
{module}.{function} = killing
Detector.fit(sys.argv[1], sys.argv[2], config=FitConfig.from_mapping(eval(sys.argv[3])))
"""


MOMENTS = {
    "in the first iteration": ("loop", "train_iteration", 1, "pass"),
    "between iterations": ("loop", "train_iteration", 4, "pass"),
    "before a checkpoint is written": ("loop", "save_checkpoint", 3, "pass"),
    "while a checkpoint is written": (
        "tensor_file",
        "save_file",
        3,
        "Path(args[1]).write_bytes(b'half a file')",
    ),
    "while the model is written": ("tensor_file", "save_file", 7, "pass"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_training_resumes_to_the_same_weights(data, tiny_config, tmp_path, moment):
    module, function, at, before = MOMENTS[moment]
    config = dataclasses.replace(tiny_config, iterations=6)
    Detector.fit(data, tmp_path / "whole", config=config)
    script = KILL_AT.format(module=module, function=function, at=at, before=before)
    killed = subprocess.run(
        [sys.executable, "-c", script, data, tmp_path / "cut", repr(config.to_dict())], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    Detector.fit(data, tmp_path / "cut", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    curves = [(tmp_path / n / "metrics.jsonl").read_text().splitlines() for n in ("whole", "cut")]
    losses = [[json.loads(x).get("validation") for x in curve] for curve in curves]
    assert losses[0] == losses[1]


def test_a_kill_from_outside_at_any_time(data, tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, iterations=30)
    command = [sys.executable, "-m", "urd", "fit", data, "--out", tmp_path / "cut"]
    for name, value in config.to_dict().items():
        text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
        command += [f"--{name.replace('_', '-')}", text]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    state = tmp_path / "cut" / "checkpoint" / "state.safetensors"
    while not state.exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.wait()
    Detector.fit(data, tmp_path / "cut", resume=True)
    Detector.fit(data, tmp_path / "whole", config=config)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_ctrl_c_saves_and_resume_goes_on(data, tiny_config, tmp_path, monkeypatch):
    config = dataclasses.replace(tiny_config, iterations=6, checkpoint_seconds=1e6)
    original = loop.train_iteration

    def interrupted(networks, images, settings, iteration, *others):
        if iteration == 2:  # what Python calls at Ctrl-C; test_cli.py sends a real one
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        return original(networks, images, settings, iteration, *others)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_iteration", interrupted)
        with pytest.raises(KeyboardInterrupt, match="after iteration 3 of 6"):
            Detector.fit(data, tmp_path / "cut", config=config)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    Detector.fit(data, tmp_path / "cut", resume=True)
    Detector.fit(data, tmp_path / "whole", config=config)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_nan_stops_and_keeps_the_last_good_checkpoint(
    data, tiny_config, tmp_path, monkeypatch, what
):
    original = loop.train_iteration

    def broken(networks, images, settings, iteration, *others):
        losses = original(networks, images, settings, iteration, *others)
        if iteration == 2 and what == "weights":
            next(networks.model.student.parameters()).data.fill_(float("nan"))
        if iteration == 2 and what == "loss":
            losses["student"] = losses["student"] * float("nan")
        return losses

    config = dataclasses.replace(tiny_config, iterations=10)
    if what == "loss":  # kept until the losses are looked at, ten iterations later at the latest
        config = dataclasses.replace(config, checkpoint_seconds=1e6)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_iteration", broken)
        with pytest.raises(NotFinite, match="NaN or Inf"):
            Detector.fit(data, tmp_path / "run", config=config)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    resumed = Detector.fit(data, tmp_path / "run", resume=True)
    assert all(torch.isfinite(t).all() for t in resumed.model.state_dict().values())


def test_resuming_a_finished_run_changes_nothing(data, tiny_config, tmp_path):
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    Detector.fit(data, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    (tmp_path / "run" / "checkpoint").mkdir()
    (tmp_path / "run" / "checkpoint" / ".DS_Store").write_text("not ours")
    kept = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    Detector.fit(data, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == kept


def test_resume_refuses_other_settings_and_other_images(data, tiny_config, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticValidation, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=tiny_config)
    with pytest.raises(UsageError, match="seed"):
        Detector.fit(data, run, resume=True, seed=5)
    save(picture(np.random.default_rng(9)), data / "train" / "good" / "new.png")
    with pytest.raises(UsageError, match="other images"):
        Detector.fit(data, run, resume=True)
    with pytest.raises(UsageError, match="nothing to resume"):
        Detector.fit(data, tmp_path / "nothing", resume=True)


def test_a_corrupt_checkpoint_is_one_line(data, tiny_config, tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "checkpoint").mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))
    (run / "checkpoint" / "state.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UrdError, match="not a readable checkpoint"):
        Detector.fit(data, run, resume=True)


def test_the_old_model_stays_until_the_new_one_is_done(data, tiny_config, tmp_path, monkeypatch):
    run = tmp_path / "run"
    Detector.fit(data, run, config=tiny_config)
    (run / "evaluation.json").write_text("{}")
    before = (run / "model.safetensors").read_bytes()

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    other = dataclasses.replace(tiny_config, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_iteration", fail)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=other, overwrite=True)
    assert (run / "model.safetensors").read_bytes() == before
    assert Detector.fit(data, run, resume=True).config.seed == 1
    assert (run / "model.safetensors").read_bytes() != before
    assert not (run / "evaluation.json").exists()


def test_weights_may_lie_elsewhere_on_resume_but_must_be_the_same(
    data, tiny_config, tmp_path, monkeypatch
):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    run, moved = tmp_path / "run", tmp_path / "moved.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticValidation, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=tiny_config)
    others = {name: value + 1 for name, value in load_file(tiny_config.weights).items()}
    save_file(others, moved)
    with pytest.raises(UsageError, match="other weights"):
        Detector.fit(data, run, resume=True, weights=str(moved))
    for wrong, message in (("none", "other weights"), ("typo.safetensors", "no weight file at")):
        with pytest.raises(UsageError, match=message):
            Detector.fit(data, run, resume=True, weights=wrong)
    moved.write_bytes(Path(tiny_config.weights).read_bytes())
    Detector.fit(data, run, resume=True, weights=str(moved))
    Detector.fit(data, tmp_path / "whole", config=tiny_config)
    assert_same_weights(run, tmp_path / "whole")


def test_resume_refuses_other_textures(data, tiny_config, tmp_path, monkeypatch):
    textures, run = tmp_path / "textures", tmp_path / "run"
    rng = np.random.default_rng(0)
    for index in range(4):
        save(picture(rng), textures / f"{index}.png")

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    config = dataclasses.replace(tiny_config, textures=str(textures))
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticValidation, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=dataclasses.replace(config, holdout=0.0))
    save(picture(rng), textures / "0.png")
    with pytest.raises(UsageError, match="other textures"):
        Detector.fit(data, run, resume=True)
