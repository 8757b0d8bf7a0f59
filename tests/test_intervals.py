"""Bootstrap intervals: each resample is the metric of what it draws, and their width is right."""

from __future__ import annotations

import numpy as np
import pytest
from measured import kinds, random_case

from urd.metrics import bootstrap, evaluate_maps, images


def test_each_resample_is_the_metric_of_the_images_it_draws():
    rng = np.random.default_rng(4)
    maps, masks = random_case(4, 30, np.float32, images=4)
    defects = kinds(k.any() for k in masks)
    scores = rng.random(4).round(1)
    test = [
        images.TestImage(str(i), d, lambda i=i: (maps[i], masks[i]), scores[i])
        for i, d in enumerate(defects)
    ]
    surveys = [images.survey(image, True) for image in test]
    positives = np.concatenate([s.positives for s in surveys])
    pixel = bootstrap.pixel_curves(test, surveys, positives)
    image = bootstrap.image_curves(scores, np.array([d != "good" for d in defects]))
    weights = bootstrap.resample(np.array([d != "good" for d in defects]), 20, rng)
    of_pixels, of_images = (
        bootstrap.ranking_of(pixel, weights),
        bootstrap.ranking_of(image, weights),
    )
    aupros = bootstrap.aupro_of(pixel, weights, 0.3)
    for row, times in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(4), times)
        expected = evaluate_maps(
            [maps[i] for i in drawn], scores[drawn], [defects[i] for i in drawn],
            [masks[i] for i in drawn],
        )  # fmt: skip
        for name in ("auroc", "ap", "f1max"):
            assert of_pixels[name][row] == pytest.approx(expected[f"pixel_{name}"], abs=1e-9)
            assert of_images[name][row] == pytest.approx(expected[f"image_{name}"], abs=1e-9)
        assert aupros[row] == pytest.approx(expected["aupro"], abs=1e-9)


def test_many_distinct_scores_are_thinned_out_without_harm():
    rng = np.random.default_rng(5)
    masks = [rng.random((40, 40)) > 0.97 if i else np.zeros((40, 40), bool) for i in range(5)]
    maps = [rng.normal(0, 1, (40, 40)) + 1.5 * mask for mask in masks]
    test = [
        images.TestImage(str(i), "bad" if i else "good", lambda i=i: (maps[i], masks[i]))
        for i in range(5)
    ]
    surveys = [images.survey(image, True) for image in test]
    positives = np.concatenate([s.positives for s in surveys])
    assert len(positives) > 150
    curves = bootstrap.pixel_curves(test, surveys, positives, count=100)
    assert curves.negatives.shape[1] <= 200
    once = np.ones((1, 5))
    exact = evaluate_maps(maps, np.arange(5.0), kinds([0, 1, 1, 1, 1]), masks)
    thinned = bootstrap.ranking_of(curves, once)
    assert thinned["auroc"][0] == pytest.approx(exact["pixel_auroc"], abs=2e-3)
    assert thinned["ap"][0] == pytest.approx(exact["pixel_ap"], abs=1e-2)
    assert bootstrap.aupro_of(curves, once, 0.3)[0] == pytest.approx(exact["aupro"], abs=5e-3)


def hanley_mcneil(area, count):
    """Standard error of an AUROC of `count` against `count` (Radiology 143, 1982, equation 2)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return np.sqrt((area * (1 - area) + (count - 1) * (q1 + q2 - 2 * area**2)) / count**2)


@pytest.mark.parametrize("count", [25, 250])
def test_intervals_are_as_wide_as_theory_says(count):
    rng = np.random.default_rng(0)
    defects = kinds(i % 2 for i in range(2 * count))
    scores = rng.normal(0, 1, 2 * count) + [1.0 * (d != "good") for d in defects]
    maps = [rng.random((4, 4)) for _ in scores]
    found = evaluate_maps(maps, scores, defects, None, resamples=1000)
    area, low, high = (found[f"image_auroc{end}"] for end in ("", "_low", "_high"))
    assert low < area < high
    assert high - low == pytest.approx(2 * 1.96 * hanley_mcneil(area, count), rel=0.15)


def test_resamples_draw_good_and_defective_images_apart():
    defective = np.array([False] * 3 + [True] * 5)
    weights = bootstrap.resample(defective, 200, np.random.default_rng(0))
    assert (weights[:, ~defective].sum(1) == 3).all()
    assert (weights[:, defective].sum(1) == 5).all()
    assert len(np.unique(weights, axis=0)) > 100


def test_the_same_call_gives_the_same_intervals():
    maps, masks = random_case(6, 40, np.float32)
    maps, masks, defects = maps * 2, masks * 2, kinds([0, 1, 1, 1]) * 2
    results = [evaluate_maps(maps, np.arange(8.0), defects, masks, resamples=50) for _ in range(2)]
    assert results[0] == results[1]
    assert "aupro_per_image_low" in results[0]


def test_a_resample_without_components_does_not_count():
    """One of three defective images lost its mask: 1 resample in 27 has no component at all."""
    rng = np.random.default_rng(7)
    masks = [np.zeros((30, 30), bool) for _ in range(8)]
    maps = [rng.random((30, 30)) for _ in masks]
    for index in (5, 6):
        masks[index][5:9, 5:9] = True
        maps[index][masks[index]] += 0.9
    defects = kinds([0] * 5 + [1] * 3)
    found = evaluate_maps(maps, np.arange(8.0), defects, masks, resamples=2000)
    for name in ("pixel_auroc", "aupro", "aupro_per_image"):
        assert found[f"{name}_low"] > 0.9
    assert found["pixel_ap_low"] > 0.3
    masks[6][:] = False  # now 8 in 27: too many to speak of 95 %
    found = evaluate_maps(maps, np.arange(8.0), defects, masks, resamples=2000)
    assert "aupro_low" not in found
    assert "image_auroc_low" in found


def test_one_image_of_a_class_gives_no_interval():
    maps = [np.random.default_rng(i).random((4, 4)) for i in range(3)]
    found = evaluate_maps(maps, np.arange(3.0), ["good", "good", "bad"], None, resamples=50)
    assert found["image_auroc"] == 1.0
    assert not any(name.endswith("_low") for name in found)
