"""The built-in backbone: the shipped file, what is said of it, and its whitened levels."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_weights
from safetensors import safe_open
from safetensors.torch import load_file

from urd import Detector
from urd.backbones import builtin
from urd.backbones.builtin import BUILTIN
from urd.backbones.norms import restate_norms
from urd.backbones.registry import backbone_of
from urd.backbones.weights import fingerprint
from urd.backbones.whitening import OFFSET, looked_at, whiten
from urd.demo.dataset import render_dataset
from urd.networks.cosine import local_distance
from urd.synthesis.textures import procedural_textures

SMALL = {"backbone": BUILTIN, "image_size": (64, 64), "batch_size": 2, "holdout": 0.0}
CARD = Path(__file__).resolve().parents[1] / "pretraining" / "MODEL_CARD.md"


def test_small_finite_and_in_half_precision():
    tensors = load_file(builtin.FILE)
    assert builtin.FILE.stat().st_size < 6 * 2**20
    assert sum(p.numel() for p in backbone_of(BUILTIN).build().parameters()) < 3e6
    assert all(t.dtype == torch.float16 for t in tensors.values() if t.dim() == 4)
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_loading_is_deterministic_and_asks_no_generator():
    first, second = (
        backbone_of(BUILTIN, "auto").load(torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_model_card_tells_the_file_and_its_recipe():
    card = CARD.read_text()
    assert builtin.SHA256 in card
    assert f"{builtin.FILE.stat().st_size / 1e6:.1f} MB" in card
    with safe_open(builtin.FILE, framework="pt") as file:
        recipe = json.loads(file.metadata()["urd_pretraining"])
    assert f"{recipe['steps']:,} steps of {recipe['batch_size']} images" in card
    assert f"{recipe['images']:,} images" in card


def test_the_recipe_of_the_file_is_the_default_of_the_command():
    training = pytest.importorskip("pretraining.training")
    with safe_open(builtin.FILE, framework="pt") as file:
        recipe = json.loads(file.metadata()["urd_pretraining"])
    assert training.Recipe(**recipe) == training.Recipe()


@pytest.fixture(scope="module")
def images():
    return procedural_textures(8, (128, 128), torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def denim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("builtin")
    return render_dataset(folder, "denim", train=4, test_good=1, per_defect=0, seed=0)


@pytest.fixture
def encoder():
    return backbone_of(BUILTIN, "auto").load(torch.Generator()).eval()


def test_whitened_levels_are_uncorrelated_within_an_image(encoder, images):
    """On the images it was measured on, and before the last ReLU; a plain one's levels are not."""
    before = [_correlation(level) for level in _unrectified(encoder, images)]
    whiten(encoder, images, shrinkage=1e-6)
    levels = _unrectified(encoder, images)
    for level, correlated in zip(levels, before, strict=True):
        assert _correlation(level) < 0.5 * correlated
        values = level.transpose(0, 1).flatten(1)
        assert torch.allclose(values.mean(1), torch.full((len(values),), OFFSET), atol=0.02)
        assert torch.allclose(values.std(1), torch.ones(len(values)), atol=0.05)


def _unrectified(encoder, images):
    """The levels without the ReLU after their whitening, at the places that it was measured at."""
    found = []
    hooks = [h.register_forward_hook(lambda m, i, o: found.append(o)) for h in encoder.heads]
    with torch.inference_mode():
        encoder(images.float() / 255)
    for hook in hooks:
        hook.remove()
    return [f[:, :, ::step, ::step] for f, step in zip(found, (4, 2, 1), strict=True)]


def _correlation(level):
    """Mean size of the correlation of two channels, over the places of all images."""
    centred = level - level.mean((2, 3), keepdim=True)
    centred = centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    matrix = torch.corrcoef(centred.transpose(0, 1).flatten(1)).nan_to_num()
    return float((matrix - torch.diag(matrix.diagonal())).abs().mean())


def test_level_3_is_whitened_as_by_numpy(encoder, images):
    with torch.inference_mode():
        x = encoder.features(images.float() / 255)[2].double().flatten(2).numpy()
    centred = x - x.mean(2, keepdims=True)
    centred /= np.sqrt((centred**2).mean((1, 2), keepdims=True))
    covariance = np.mean([np.cov(image, bias=True) for image in centred], axis=0)
    spread = np.cov(x.transpose(1, 0, 2).reshape(x.shape[1], -1), bias=True)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors / np.sqrt(values.clip(0) + 0.01 * values[-1]) @ vectors.T
    root /= np.sqrt(np.diag(root @ spread @ root.T))[:, None]
    whiten(encoder, images, shrinkage=0.01)
    assert np.allclose(encoder.heads[2].weight[:, :, 0, 0].detach(), root, atol=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_blank_and_few_images_give_finite_levels(encoder, count):
    blank = torch.full((count, 3, 64, 64), 128, dtype=torch.uint8)
    whiten(encoder, blank)
    assert all(torch.isfinite(level).all() for level in encoder(torch.randn(1, 3, 64, 64)))


@pytest.mark.parametrize("variant", ["rd", "urd"])
def test_training_whitens_by_the_good_images_unless_untrained(denim, tmp_path, variant):
    options = {**SMALL, "variant": variant, "iterations": 1, "precision": "float32"}
    detector = Detector.fit(denim, tmp_path / "run", **options)
    by_name = detector.header.encoder.sha256
    assert by_name == fingerprint(backbone_of(BUILTIN, "auto").load(torch.Generator()))
    heads = detector.engine.model.teacher.heads
    again = Detector.load(tmp_path / "run").engine.model.teacher.heads
    untrained = Detector.fit(denim, tmp_path / "none", weights="none", **options)
    for level, head in enumerate(heads):
        eye = torch.eye(len(head.weight))
        drawn = untrained.engine.model.teacher.heads[level].weight[:, :, 0, 0]
        assert (drawn - eye).abs().max() < 0.01  # but for a step of training
        assert (head.weight[:, :, 0, 0] - eye).abs().max() > 0.1
        assert torch.equal(again[level].weight, head.weight)


def test_restated_norms_are_of_the_images_and_change_no_level(encoder, images):
    """In evaluation mode; in training mode levels are now near those, and were far before."""
    whiten(encoder, images)
    (pixels,) = looked_at(images, torch.device("cpu"))
    with torch.inference_mode():
        expected = encoder(pixels)
        far = _distance(copy.deepcopy(encoder).train()(pixels), expected)
        restate_norms(encoder, pixels.split(3))
        found = encoder(pixels)
        inner = encoder.body.layer1[0]
        seen = inner.conv1(
            encoder.body.maxpool(encoder.body.act1(_stem(encoder, encoder.network_input(pixels))))
        )
        near = _distance(encoder.train()(pixels), expected)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert torch.allclose(inner.bn1.running_mean, seen.mean((0, 2, 3)), atol=1e-4)
    variance = seen.double().numpy().var((0, 2, 3))
    assert np.allclose(inner.bn1.running_var, variance, rtol=1e-3)
    assert near < 1e-5 < 0.01 < far


@pytest.mark.parametrize("training", [True, False])
def test_preparing_leaves_the_mode_and_no_hook(encoder, images, training):
    encoder.train(training)
    before = encoder.body.bn1.running_mean.clone()
    whiten(encoder, images)
    assert torch.equal(encoder.body.bn1.running_mean, before)
    (pixels,) = looked_at(images, torch.device("cpu"))
    restate_norms(encoder, [pixels])
    assert all(module.training == training for module in encoder.modules())
    assert not any(module._forward_pre_hooks for module in encoder.modules())
    with pytest.raises(ValueError, match="at least one batch"):
        restate_norms(encoder, [])


def _stem(encoder, pixels):
    return encoder.body.bn1(encoder.body.conv1(pixels))


def _distance(found, expected):
    return max(float(local_distance(a, b).mean()) for a, b in zip(found, expected, strict=True))


def test_norms_are_restated_where_a_teacher_learns(denim, tmp_path):
    options = {**SMALL, "iterations": 1, "precision": "float32"}
    shipped = backbone_of(BUILTIN, "auto").load(torch.Generator()).body.bn1
    rd, urd, untrained = (
        Detector.fit(denim, None, **options, **others).engine.model.teacher.body.bn1
        for others in ({"variant": "rd"}, {"variant": "urd"}, {"weights": "none"})
    )
    assert torch.equal(rd.weight, shipped.weight)
    assert (urd.weight - shipped.weight).abs().max() > 0.01
    assert (untrained.weight - 1).abs().max() < 0.001  # but for a step of training


def test_a_resumed_training_keeps_its_levels(denim, tmp_path, monkeypatch, stopped_at):
    options = {**SMALL, "variant": "urd", "iterations": 2, "checkpoint_seconds": 0.0}
    Detector.fit(denim, tmp_path / "whole", **options)
    with stopped_at(1):
        Detector.fit(denim, tmp_path / "cut", **options)
    for prepares in ("whiten", "restate_norms"):
        monkeypatch.setattr(f"urd.backbones.builtin.{prepares}", None)  # a call would fail
    Detector.fit(denim, tmp_path / "cut", resume=True, **options)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
