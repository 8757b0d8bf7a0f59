"""The loop: determinism, resumption after a kill, NaN, Ctrl-C, what a run leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import picture, save
from safetensors.torch import load_file, save_file

from urd import Detector, fitting
from urd.config import FitConfig
from urd.errors import UrdError, UsageError
from urd.material import holdout_count
from urd.networks import VARIANTS
from urd.training import clean_features, loop
from urd.training.checkpoint import NotFinite
from urd.training.clean_features import CleanFeatures
from urd.training.loop import batch_indices
from urd.training.step import still


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    assert [n for n in first if not torch.equal(first[n], second[n])] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_saves_and_predicts(data, tiny_config, tmp_path, variant):
    config = dataclasses.replace(tiny_config, variant=variant)
    detector = Detector.fit(data, tmp_path / "run", config=config)
    again = Detector.load(tmp_path / "run")
    image = data / "test" / "square" / "000.png"
    assert again.predict(image).score == detector.predict(image).score
    moved = weights_of(tmp_path / "run")["student.bottleneck.shrink_2.0.weight"]
    fresh = (
        fitting.build_networks(fitting._expert(config, None), config, torch.device("cpu"))
        .model.student.bottleneck.shrink_2[0]
        .weight
    )
    assert not torch.equal(moved, fresh.detach())


def test_same_seed_gives_the_same_weights_and_another_seed_others(data, tiny_config, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        Detector.fit(data, tmp_path / name, config=dataclasses.replace(tiny_config, seed=seed))
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "a", tmp_path / "c")


def test_a_frozen_teacher_is_the_encoder_and_a_taught_one_is_not(data, tiny_config, tmp_path):
    expert = load_file(tiny_config.weights)
    for variant in ("rd", "urd"):
        config = dataclasses.replace(tiny_config, variant=variant)
        Detector.fit(data, tmp_path / variant, config=config)
        kept = weights_of(tmp_path / variant)
        same = all(torch.equal(kept[f"teacher.body.{n}"], t) for n, t in expert.items())
        assert same == (variant == "rd")


def test_the_faster_networks_of_a_step_compute_what_expert_and_teacher_do(tiny_config):
    config = dataclasses.replace(tiny_config, precision="float32")
    expert = fitting._expert(config, None)
    networks = loop.build_networks(expert, config, torch.device("cpu"))
    teacher = networks.model.teacher
    random = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *config.image_size, generator=random)
    with torch.no_grad():
        for found, wanted in zip(networks.expert(images), expert.eval()(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
        teacher.train()(images)  # moves the statistics of its norms
        for parameter in teacher.parameters():
            parameter.mul_(1.1)
        teacher.eval()
        for found, wanted in zip(still(networks)(images), teacher(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_test_images_are_never_read_in_training(data, tiny_config, tmp_path):
    for path in (data / "test").rglob("*.png"):
        path.write_bytes(b"never read")
    for path in (data / "ground_truth").rglob("*.png"):
        path.unlink()
    assert Detector.fit(data, tmp_path / "run", config=tiny_config).failures == []


KILL_AT = """
import os, signal, sys
from pathlib import Path
from urd import Detector
from urd.config import FitConfig
from urd.training import {module}
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
        "checkpoint",
        "save_file",
        3,
        "Path(args[1]).write_bytes(b'half a file')",
    ),
    "while the model is written": ("checkpoint", "save_file", 7, "pass"),
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
    config = dataclasses.replace(tiny_config, iterations=60)
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
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(networks, images, settings, iteration, *others)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_iteration", interrupted)
        with pytest.raises(KeyboardInterrupt, match="after iteration 3 of 6"):
            Detector.fit(data, tmp_path / "cut", config=config)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    Detector.fit(data, tmp_path / "cut", resume=True)
    Detector.fit(data, tmp_path / "whole", config=config)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_kept_expert_features_do_not_change_the_weights(data, tiny_config, tmp_path, monkeypatch):
    """Computed once for each image, or in every iteration: bit for bit the same training."""
    calls = []
    original = CleanFeatures.__call__

    def counting(self, index, clean):
        hit = self.levels is not None and bool(self.known[index].all())
        calls.append((self.fits, hit))
        return original(self, index, clean)

    monkeypatch.setattr(CleanFeatures, "__call__", counting)
    config = dataclasses.replace(tiny_config, iterations=8)
    Detector.fit(data, tmp_path / "kept", config=config)
    assert any(hit for _, hit in calls) and not all(hit for _, hit in calls)
    calls.clear()
    monkeypatch.setattr(clean_features, "_LIMIT", 0)
    Detector.fit(data, tmp_path / "computed", config=config)
    assert not any(hit for _, hit in calls) and not calls[-1][0]
    assert_same_weights(tmp_path / "kept", tmp_path / "computed")


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


def test_a_run_leaves_what_the_design_says(data, tiny_config, tmp_path):
    run = tmp_path / "run"
    Detector.fit(data, run, config=tiny_config)
    assert sorted(p.name for p in run.iterdir()) == [
        "config.yaml",
        "metrics.jsonl",
        "model.safetensors",
    ]
    assert FitConfig.from_mapping(yaml.safe_load((run / "config.yaml").read_text())) == tiny_config
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"teacher", "student"} == set(lines[0]["loss"])
    assert lines[0]["images_per_second"] > 0
    assert 0 <= lines[-1]["validation"]["synthetic_image_auroc"] <= 1


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


def test_training_leaves_the_callers_random_numbers_alone(data, tiny_config):
    state = torch.get_rng_state()
    Detector.fit(data, config=tiny_config)
    assert torch.equal(torch.get_rng_state(), state)


def test_resume_refuses_other_settings_and_other_images(data, tiny_config, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fitting.SyntheticValidation, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=tiny_config)
    with pytest.raises(UsageError, match="seed"):
        Detector.fit(data, run, resume=True, seed=5)
    save(picture(np.random.default_rng(9)), data / "train" / "good" / "new.png")
    with pytest.raises(UsageError, match="other images"):
        Detector.fit(data, run, resume=True)
    with pytest.raises(UsageError, match="nothing to resume"):
        Detector.fit(data, tmp_path / "nothing", resume=True)


def test_an_existing_run_is_refused_unless_told(data, tiny_config, tmp_path):
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    with pytest.raises(UsageError, match=r"--resume.*--overwrite"):
        Detector.fit(data, tmp_path / "run", config=tiny_config)
    Detector.fit(data, tmp_path / "run", config=tiny_config, overwrite=True)


@pytest.mark.parametrize(
    ("images", "share", "held_out"),
    [(320, 0.1, 32), (40, 0.1, 8), (10, 0.1, 5), (2, 0.1, 1), (100, 0.0, 0), (100, 0.3, 30)],
)
def test_holdout_count(images, share, held_out):
    assert holdout_count(images, share) == held_out


def test_without_holdout_there_is_no_validation(data, tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, holdout=0.0)
    detector = Detector.fit(data, tmp_path / "run", config=config)
    assert detector.header.data["holdout_images"] == 0
    assert detector.header.validation == {}
    assert "validation" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_every_image_is_seen_once_per_epoch():
    seen = torch.cat([batch_indices(12, 4, seed=0, iteration=i) for i in range(6)])
    assert seen[:12].sort().values.tolist() == list(range(12))
    assert seen[12:].sort().values.tolist() == list(range(12))
    assert not torch.equal(seen[:12], seen[12:])
    assert batch_indices(3, 8, seed=0, iteration=0).shape == (8,)


def test_a_corrupt_checkpoint_is_one_line(data, tiny_config, tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "checkpoint").mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))
    (run / "checkpoint" / "state.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UrdError, match="not a readable checkpoint"):
        Detector.fit(data, run, resume=True)


def test_cosine_schedule_falls_from_the_full_rate_to_nearly_nothing(tiny_config):
    config = dataclasses.replace(tiny_config, schedule="cosine", iterations=100)
    networks = loop.build_networks(fitting._expert(config, None), config, torch.device("cpu"))
    rates = []
    for iteration in (0, 50, 99):
        loop.set_learning_rates(networks, config, iteration)
        rates.append(networks.student_optimizer.param_groups[0]["lr"] / config.student_lr)
        teacher = networks.teacher_optimizer.param_groups[0]["lr"] / config.teacher_lr
        assert teacher == pytest.approx(rates[-1])
    assert rates == pytest.approx([1, 0.5, 0.000247], abs=1e-5)


def test_overwrite_leaves_a_folder_alone_that_holds_no_run(data, tiny_config, tmp_path):
    mine = tmp_path / "theirs" / "checkpoint" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("x")
    with pytest.raises(UsageError, match="no run of urd"):
        Detector.fit(data, tmp_path / "theirs", config=tiny_config, overwrite=True)
    assert mine.read_text() == "x"


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
        patch.setattr(fitting.SyntheticValidation, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=tiny_config)
    others = {name: value + 1 for name, value in load_file(tiny_config.weights).items()}
    save_file(others, moved)
    with pytest.raises(UsageError, match="other weights"):
        Detector.fit(data, run, resume=True, weights=str(moved))
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
        patch.setattr(fitting.SyntheticValidation, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            Detector.fit(data, run, config=dataclasses.replace(config, holdout=0.0))
    save(picture(rng), textures / "0.png")
    with pytest.raises(UsageError, match="other textures"):
        Detector.fit(data, run, resume=True)
