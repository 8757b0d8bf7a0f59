"""The renderer, the views, the objectives and the loop that make the built-in backbone."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import urd
from pretraining import training
from pretraining.drawn_set import DrawnSet
from pretraining.objectives import OBJECTIVES, Batch, _same_places
from pretraining.probe import Whitening, probe_drawn
from pretraining.render import PARAMETERS, SIZE, render_scene
from pretraining.render.families import FAMILIES
from pretraining.training import Recipe, train, write_weights
from pretraining.views import cut, damage, make_views, photographed, placements
from urd.backbones.registry import backbone_of
from urd.data import read_layout, read_masks, read_rgb
from urd.errors import UsageError
from urd.synthesis.drawn_defects import _KINDS, draw_defect

ROOT = Path(__file__).resolve().parents[1]
TINY = Recipe(images=8, steps=4, batch_size=4, side=32)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(0, index) for index in range(8)]


@pytest.fixture(scope="module")
def arrays(scenes):
    images = np.stack([scene.image for scene in scenes])
    return images, np.array([list(scene.parameters.values()) for scene in scenes])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scale", [5.0, 70.0])
def test_each_family_gives_finite_fields_that_are_not_flat(name, scale):
    surface = FAMILIES[name](np.random.default_rng(1), 96, scale)
    for field in (surface.height, surface.tone, surface.gloss):
        assert field.shape == (96, 96)
        assert field.dtype == np.float32
        assert np.isfinite(field).all()
    assert surface.tone.min() >= 0 and surface.tone.max() <= 1
    assert surface.height.std() > 0


def test_a_scene_depends_on_its_two_numbers_only(scenes):
    again = render_scene(0, 3)
    assert np.array_equal(again.image, scenes[3].image)
    assert again.parameters == scenes[3].parameters
    assert not np.array_equal(render_scene(1, 3).image, scenes[3].image)


def test_parameters_lie_in_their_ranges(scenes):
    for scene in scenes:
        assert scene.image.shape == (SIZE, SIZE, 3)
        assert list(scene.parameters) == list(PARAMETERS)
        assert all(0 <= scene.parameters[name] < count for name, count in PARAMETERS.items())


def test_same_places_of_two_views_show_the_same_spot():
    """On an image whose values are its coordinates, both views must read the same values."""
    axis = (np.arange(SIZE) + 0.5) / SIZE * 255
    across, down = np.meshgrid(axis, axis)
    ramp = np.stack([across, down, across], axis=2).astype(np.uint8)
    places = placements(24, np.random.default_rng(0))
    views = torch.from_numpy(cut(np.stack([ramp] * 24), places, 64)).permute(0, 3, 1, 2) / 255
    here, there, seen = _same_places(torch.from_numpy(places), 5)
    first, second = (
        torch.nn.functional.grid_sample(view, where, padding_mode="border", align_corners=False)[
            :, :2
        ]
        .flatten(2)
        .transpose(1, 2)
        .flatten(0, 1)[seen]
        for view, where in zip(views.chunk(2), (here, there), strict=True)
    )
    assert 20 < int(seen.sum()) < len(seen)
    assert torch.allclose(first, second, atol=0.02)


def test_a_view_coarser_than_its_image_is_averaged_first():
    """Stripes of one pixel are grey from afar, and stay stripes from near."""
    stripes = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    stripes[:, :, ::2] = 255
    whole = np.float32([[[1, 0, 0], [0, 1, 0]]])
    afar, near = cut(stripes, whole, 64), cut(stripes, 0.25 * whole, 64)
    assert (np.abs(afar[0, 4:-4, 4:-4].astype(int) - 127) <= 1).all()
    assert near.std() > 60


def test_damage_lies_where_it_is_said_to():
    random = np.random.default_rng(0)
    view, other = random.integers(0, 256, (2, 64, 64, 3), np.uint8)
    for _ in range(20):
        wrong, where = damage(view, other, random)
        far = cv2.dilate(where, np.ones((15, 15))) == 0
        assert np.array_equal(wrong[far], view[far])
        assert 0.005 < where.mean() < 0.13
        changed = np.abs(wrong.astype(int) - view).mean(axis=2)
        assert changed[where > 0].mean() > 5


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_drawn_defects_change_the_image_where_they_are_marked(kind, scenes, monkeypatch):
    monkeypatch.setattr("urd.synthesis.drawn_defects._KINDS", (kind,))
    image, other = scenes[0].image, scenes[1].image
    for seed in range(5):
        changed, marked = draw_defect(image, other, np.random.default_rng(seed))
        difference = np.abs(changed.astype(int) - image).mean(axis=2)
        far = cv2.dilate(marked.astype(np.uint8), np.ones((13, 13))) == 0
        assert 0 < marked.mean() < 0.05
        assert difference[marked].mean() >= 6
        assert not difference[far].any()


def test_drawn_defects_lie_on_the_part(scenes):
    image, other = scenes[0].image, scenes[1].image
    part = np.zeros(image.shape[:2], bool)
    part[100:200, 60:140] = True
    for seed in range(10):
        _, marked = draw_defect(image, other, np.random.default_rng(seed), part)
        assert (marked & part).sum() >= 0.6 * marked.sum() > 0


def test_nearest_neighbours_find_what_was_not_remembered(scenes):
    image = scenes[0].image
    marked = np.zeros(image.shape[:2], bool)
    marked[96:160, 96:160] = True
    changed = np.where(marked[..., None], scenes[1].image, image)
    drawn = DrawnSet(np.stack([image] * 2), image[None], [(changed, marked)])
    means = []
    for offset in (1.0, 1.5):
        encoder = backbone_of("builtin", "auto").load(torch.Generator()).eval()
        metrics = probe_drawn(encoder, drawn, whitening=Whitening(offset, 0.01))
        assert metrics["image_auroc"] == 1 and metrics["pixel_auroc"] > 0.9
        means.append(float(encoder.heads[0].bias.detach().mean()))
    assert means[1] - means[0] == pytest.approx(0.5, abs=1e-3)


def test_a_drawn_set_can_be_trained_on(arrays, tmp_path):
    image, mask = draw_defect(arrays[0][0], arrays[0][1], np.random.default_rng(0))
    DrawnSet(arrays[0][:3], arrays[0][3:5], [(image, mask)]).write(tmp_path)
    data = read_layout(tmp_path)
    assert len(data.train) == 3
    assert [sample.defect for sample in data.test] == ["drawn", "good", "good"]
    assert np.array_equal(read_masks(data.test[0].masks), mask)
    assert np.array_equal(read_rgb(data.test[0].path), image)


def test_a_checkpoint_of_another_recipe_is_kept(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    train(replace(TINY, steps=1), *arrays, tmp_path, torch.device("cpu"))
    with pytest.raises(SystemExit, match=r"other steps, lr: .* another --work"):
        train(replace(TINY, lr=1.0), *arrays, tmp_path, torch.device("cpu"))


def test_drawn_sets_need_enough_good_images():
    with pytest.raises(UsageError, match=r"60 good images .* more than 160"):
        DrawnSet.on(SimpleNamespace(train=[None] * 60), (64, 64), 0)


def test_views_depend_on_the_generator_that_is_passed(arrays):
    a, b, c = (
        make_views(arrays[0], 2, 32, np.random.default_rng(seed), True) for seed in (5, 5, 6)
    )
    assert a.pixels.shape == (16, 3, 32, 32) and a.damage.shape == (16, 1, 32, 32)
    assert torch.equal(a.pixels, b.pixels) and torch.equal(a.damage, b.damage)
    assert not torch.equal(a.pixels, c.pixels)
    whole = make_views(arrays[0], 2, 32, np.random.default_rng(5), False)
    assert not whole.damage.any()


def test_a_photograph_keeps_its_view_in_range():
    views = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = photographed(views, np.random.default_rng(0))
    assert torch.isfinite(seen).all() and -0.1 < float(seen.min()) < float(seen.max()) < 1.1
    assert not torch.allclose(seen, views, atol=0.05)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_teaches_every_level_it_asks(name):
    objective = OBJECTIVES[name]((8, 16, 32), 10)
    count = 6 * objective.views
    levels = [
        torch.randn(count, c, 64 // s, 64 // s, requires_grad=True)
        for c, s in zip((8, 16, 32), (4, 8, 16), strict=True)
    ]
    random = torch.Generator().manual_seed(0)
    truth = torch.stack([torch.randint(n, (6,), generator=random) for n in PARAMETERS.values()], 1)
    places = torch.from_numpy(placements(count, np.random.default_rng(0)))
    marked = (torch.rand(count, 1, 64, 64, generator=random) < 0.1).float()
    loss = objective(levels, Batch(torch.arange(6), truth, places, marked))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(level.grad.abs().sum() > 0 for level in levels)
    assert all(p.grad is not None for p in objective.parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_stopped_training_goes_on_to_the_same_weights(name, arrays, tmp_path, monkeypatch):
    recipe = replace(TINY, objective=name)
    device = torch.device("cpu")
    whole = train(recipe, *arrays, tmp_path / "whole", device)
    monkeypatch.setattr("pretraining.training._CHECKPOINT_SECONDS", 0.0)

    real = training.learning_rate

    def stop(recipe, step):
        if step == 2:
            raise KeyboardInterrupt
        return real(recipe, step)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training, "learning_rate", stop)
        train(recipe, *arrays, tmp_path / "cut", device)
    resumed = train(recipe, *arrays, tmp_path / "cut", device)
    for name_, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name_]), name_


def test_the_weight_file_is_small_and_holds_nothing_else(arrays, tmp_path):
    encoder = train(replace(TINY, steps=1), *arrays, tmp_path, torch.device("cpu"))
    write_weights(tmp_path / "w.safetensors", encoder, TINY)
    assert (tmp_path / "w.safetensors").stat().st_size <= 6 * 2**20
    assert sum(p.numel() for p in encoder.parameters()) <= 3_000_000
    assert set(load_file(tmp_path / "w.safetensors")) <= set(encoder.weights())


def test_demo_and_pretraining_do_not_know_each_other():
    demo = Path(urd.__file__).parent / "demo"
    for folder, forbidden in ((ROOT / "pretraining", "urd.demo"), (demo, "pretraining")):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                assert not any(f"{name}.".startswith(f"{forbidden}.") for name in names), path
