"""The loop: determinism, what a run leaves, what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
import yaml
from conftest import assert_same_weights, networks_of, weights_of
from safetensors.torch import load_file

from urd import Detector
from urd.backbones.builtin import BUILTIN
from urd.config import FitConfig
from urd.errors import UsageError
from urd.networks.variants import VARIANTS
from urd.training import clean_features, loop
from urd.training.batches import batch_indices
from urd.training.clean_features import CleanFeatures
from urd.training.holdout import holdout_count
from urd.training.step import evaluating_teacher


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_saves_and_predicts(data, tiny_config, tmp_path, variant):
    config = dataclasses.replace(tiny_config, variant=variant)
    detector = Detector.fit(data, tmp_path / "run", config=config)
    again = Detector.load(tmp_path / "run")
    image = data / "test" / "square" / "000.png"
    assert again.predict(image).score == detector.predict(image).score
    if variant == "memory":
        return
    moved = weights_of(tmp_path / "run")["student.bottleneck.shrink_2.0.weight"]
    fresh = networks_of(config).model.student.bottleneck.shrink_2[0].weight
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
    networks = networks_of(config)
    expert, teacher = copy.deepcopy(networks.model.teacher), networks.model.teacher
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *config.image_size, generator=random)
    with torch.no_grad():
        for found, wanted in zip(networks.expert(images), expert.eval()(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
        teacher.train()(images)  # moves the statistics of its norms
        for parameter in teacher.parameters():
            parameter.mul_(1.1)
        teacher.eval()
        for found, wanted in zip(
            evaluating_teacher(networks)(images), teacher(images), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_test_images_are_never_read_in_training(data, tiny_config, tmp_path):
    for path in (data / "test").rglob("*.png"):
        path.write_bytes(b"never read")
    for path in (data / "ground_truth").rglob("*.png"):
        path.unlink()
    Detector.fit(data, tmp_path / "run", config=tiny_config)
    assert not (tmp_path / "run" / "skipped.json").exists()


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


def test_training_leaves_the_callers_random_numbers_alone(data, tiny_config):
    state = torch.get_rng_state()
    Detector.fit(data, config=tiny_config)
    assert torch.equal(torch.get_rng_state(), state)


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
    assert detector.header.data.holdout_images == 0
    assert detector.header.validation == {}
    assert "validation" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_every_image_is_seen_once_per_epoch():
    seen = torch.cat([batch_indices(12, 4, seed=0, iteration=i) for i in range(6)])
    assert seen[:12].sort().values.tolist() == list(range(12))
    assert seen[12:].sort().values.tolist() == list(range(12))
    assert not torch.equal(seen[:12], seen[12:])
    assert batch_indices(3, 8, seed=0, iteration=0).shape == (8,)


@pytest.mark.parametrize(("schedule", "shares"), [("constant", [1, 2]), ("cosine", [1, 1])])
def test_a_fit_takes_the_rates_of_its_iterations(data, tiny_config, monkeypatch, schedule, shares):
    config = dataclasses.replace(
        tiny_config, backbone=BUILTIN, weights="auto", iterations=2, schedule=schedule
    )
    rates = []

    def recording(networks, *rest):
        rates.append(networks.student_optimizer.param_groups[0]["lr"] / config.student_lr)
        return real(networks, *rest)

    real = loop.train_iteration
    monkeypatch.setattr(loop, "train_iteration", recording)
    Detector.fit(data, config=config)
    assert rates == pytest.approx([share / config.warm_up for share in shares])


def test_overwrite_leaves_a_folder_alone_that_holds_no_run(data, tiny_config, tmp_path):
    mine = tmp_path / "theirs" / "checkpoint" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("x")
    with pytest.raises(UsageError, match="no run of urd"):
        Detector.fit(data, tmp_path / "theirs", config=tiny_config, overwrite=True)
    assert mine.read_text() == "x"
