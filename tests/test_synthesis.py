"""Perlin masks, textures, foreground and blending."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import SHARED

from urd.config import FitConfig
from urd.data import decode_all, search
from urd.synthesis.corruption import corrupt, draw_corruption
from urd.synthesis.foreground import foreground_masks, looks_like_object
from urd.synthesis.perlin import draw_perlin, perlin_noise
from urd.synthesis.textures import procedural_textures, split_textures
from urd.training.batches import draw_for_iteration
from urd.training.training_data import TrainingImages

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_by_its_definition_at_single_points():
    """Gradient noise computed one point at a time, with the lattice's own gradients."""
    draw = draw_perlin(3, seeded())
    height, width = 24, 40
    noise = perlin_noise(draw, height, width)
    for image, row, column in ((0, 0, 0), (1, 13, 7), (2, 23, 39), (0, 5, 31)):
        angle = draw.rotation[image].item()
        y, x = row + 0.5 - height / 2, column + 0.5 - width / 2
        turned = (
            (np.cos(angle) * y - np.sin(angle) * x) / height + 0.5,
            (np.sin(angle) * y + np.cos(angle) * x) / width + 0.5,
        )
        v, u = (turned[i] * draw.frequency[image, i].item() for i in (0, 1))
        cell_v, cell_u = int(np.floor(v)), int(np.floor(u))
        total = 0.0
        for dv in (0, 1):
            for du in (0, 1):
                g = draw.gradients[image, (cell_v + dv) % 64, (cell_u + du) % 64].item()
                oy, ox = v - cell_v - dv, u - cell_u - du
                weight = _fade(1 - abs(oy)) * _fade(1 - abs(ox))
                total += weight * (np.cos(g) * ox + np.sin(g) * oy)
        assert noise[image, row, column].item() == pytest.approx(total * 2**0.5, abs=1e-4)


def _fade(t):
    return 6 * t**5 - 15 * t**4 + 10 * t**3


def test_about_one_draw_in_twenty_is_empty():
    """The method states 4 %; the rotated grid that fills the corners gives about 5 %."""
    empty = [
        ~(perlin_noise(draw_perlin(100, seeded(s)), 128, 128) > 0.5).flatten(1).any(1)
        for s in range(8)
    ]
    assert 0.02 < torch.cat(empty).float().mean() < 0.08


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 32)])
def test_masks_are_never_empty_and_stay_on_the_foreground(size):
    foreground = torch.zeros(40, *size, dtype=torch.bool)
    foreground[:, 8:20, 8:20] = True
    draw = draw_corruption(foreground, size, 40, 7, seeded(), CPU)
    assert draw.mask.shape == (40, 1, *size)
    assert set(draw.mask.unique().tolist()) == {0.0, 1.0}
    assert draw.mask.flatten(1).any(1).all()
    assert not (draw.mask[:, 0].bool() & ~foreground).any()
    assert draw.texture_index.max() < 7
    assert draw.blend.min() >= 0
    assert draw.blend.max() < 0.8


def test_an_empty_foreground_is_everywhere_and_a_tiny_one_is_kept_to():
    foreground = torch.zeros(3, 64, 64, dtype=torch.bool)
    foreground[1, 5, 9] = foreground[2, :, :32] = True
    draw = draw_corruption(foreground, (64, 64), 3, 1, seeded(), CPU)
    mask = draw.mask[:, 0].bool()
    assert mask.flatten(1).any(1).all()
    assert mask[1].nonzero().tolist() == [[5, 9]]
    assert not mask[2, :, 32:].any()
    free = draw_corruption(foreground[:1] | True, (64, 64), 1, 1, seeded(), CPU).mask
    alone = draw_corruption(foreground[:1], (64, 64), 1, 1, seeded(), CPU).mask
    assert torch.equal(free, alone)


def test_blending_is_the_equation():
    draw = draw_corruption(None, (32, 32), 4, 3, seeded(), CPU)
    x, a = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    m, b = draw.mask.double(), draw.blend.double()
    expected = x * (1 - m) + (1 - b) * a * m + b * x * m
    torch.testing.assert_close(corrupt(x, a, draw).double(), expected, atol=1e-6, rtol=0)
    outside = draw.mask.expand_as(x) == 0
    assert torch.equal(corrupt(x, a, draw)[outside], x[outside])


def test_same_seed_same_draw_and_another_seed_another():
    masks = [draw_corruption(None, (64, 64), 8, 3, seeded(s), CPU).mask for s in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_draws_the_same(workers):
    images = torch.zeros(8, 3, 64, 64, dtype=torch.uint8)
    data = TrainingImages(images, images, None)
    config = FitConfig(batch_size=4, image_size=(64, 64))

    def draw(iteration):
        return draw_for_iteration(data, torch.arange(4), config, iteration).mask

    with ThreadPoolExecutor(workers) as pool:
        parallel = list(pool.map(draw, range(6)))
    assert all(torch.equal(a, draw(i)) for i, a in enumerate(parallel))


def test_drawing_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    draw_corruption(None, (64, 64), 4, 3, seeded(), CPU)
    procedural_textures(8, (32, 32), seeded())
    assert torch.equal(before, torch.random.get_rng_state())


def test_procedural_textures_differ_and_repeat():
    textures = procedural_textures(16, (48, 64), seeded())
    assert textures.shape == (16, 3, 48, 64)
    assert textures.dtype == torch.uint8
    assert torch.equal(textures, procedural_textures(16, (48, 64), seeded()))
    assert len({t.numpy().tobytes() for t in textures}) == 16
    assert textures.float().flatten(1).std(1).min() > 3


def test_textures_kept_for_validation_are_not_trained_on():
    textures = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 3, 2, 2)
    train, kept = split_textures(textures, seeded())
    assert len(kept) == 4
    assert not set(train[:, 0, 0, 0].tolist()) & set(kept[:, 0, 0, 0].tolist())


def _disc(bright: bool) -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    disc = ((y - 30) ** 2 + (x - 34) ** 2) < 15**2
    grey = np.where(disc == bright, 200, 60) + np.random.default_rng(0).normal(0, 4, (64, 64))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, 2), disc


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("method", ["otsu", "grabcut", "auto"])
def test_the_object_is_found_whether_brighter_or_darker(bright, method):
    image, disc = _disc(bright)
    masks, used = foreground_masks([image, image], method)
    found = masks[0].numpy()
    assert (found & disc).sum() / (found | disc).sum() > 0.85
    assert used == ("otsu" if method == "auto" else method)


def test_auto_paints_everywhere_on_a_texture():
    texture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert not looks_like_object([texture])
    assert foreground_masks([texture], "auto") == (None, "none")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared with real images")
@pytest.mark.parametrize(("name", "expected"), [("screw", "otsu"), ("bsd_pitting", "none")])
def test_auto_on_real_photographs(name, expected):
    paths = search(SHARED / "data" / name / "train" / "good").images[::40]
    images, *_ = decode_all(paths, (256, 256))
    assert foreground_masks(list(images), "auto")[1] == expected
