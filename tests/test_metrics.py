"""Every metric against brute force over all distinct thresholds, and against scikit-learn."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from sklearn import metrics as sk

from urd.metrics import (
    METRICS,
    aupro,
    aupro_200_thresholds,
    auroc,
    average_precision,
    evaluate_maps,
    f1_max,
    label_regions,
)


def regions_of(mask):
    labels, count = label(mask, structure=np.ones((3, 3)))
    return [labels == i for i in range(1, count + 1)]


def brute_aupro(maps, masks, limit):
    """PRO and FPR at every distinct score, trapezoids, the last one cut at the limit."""
    maps = [m.astype(np.float64) for m in maps]
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    regions = [m[r] for m, k in zip(maps, masks, strict=True) for r in regions_of(k)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        pro = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((np.mean(good >= threshold), pro))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def brute_f1(labels, scores):
    best = 0.0
    for threshold in np.unique(scores):
        found = scores >= threshold
        tp = np.sum(found & labels)
        best = max(best, 2 * tp / (found.sum() + labels.sum()))
    return best


def random_case(seed, levels, dtype, size=17, images=4):
    """Maps with many or few ties, and masks with regions at the border and of one pixel."""
    rng = np.random.default_rng(seed)
    maps = [rng.integers(0, levels, (size, size)).astype(dtype) / levels for _ in range(images)]
    masks = [np.zeros((size, size), bool) for _ in range(images)]
    masks[1][0:3, 0:4] = masks[1][3, 4] = True  # touches by a corner: one region
    masks[1][10, 10] = True
    masks[2][size - 2 :, 5:9] = True
    masks[3] |= rng.random((size, size)) > 0.8
    for m, k in zip(maps, masks, strict=True):
        m[k] += rng.integers(0, 3, k.sum()).astype(dtype) / levels
    return maps, masks


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [1, 3, 20, 100000])
@pytest.mark.parametrize("limit", [1.0, 0.3, 0.05])
def test_aupro_by_brute_force(dtype, levels, limit):
    maps, masks = random_case(levels, levels, dtype)
    assert aupro(maps, masks, limit) == pytest.approx(brute_aupro(maps, masks, limit), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=40),
    st.sampled_from([np.float32, np.float64]),
)
def test_ranking_metrics_are_scikit_learns(pairs, dtype):
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score for _, score in pairs], dtype) / 3
    if labels.all() or not labels.any():
        return
    negatives, positives = scores[~labels], scores[labels]
    assert auroc(negatives, positives) == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-9)
    expected = sk.average_precision_score(labels, scores)
    assert average_precision(negatives, positives) == pytest.approx(expected, abs=1e-9)
    assert f1_max(negatives, positives) == pytest.approx(brute_f1(labels, scores), abs=1e-9)


def test_evaluate_maps_agrees_with_the_references():
    maps, masks = random_case(5, 50, np.float32)
    scores = np.array([m.max() for m in maps])
    defective = [mask.any() for mask in masks]
    found = evaluate_maps(maps, scores, defective, masks)
    flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate(masks).ravel()
    expected = {
        "image_auroc": sk.roc_auc_score(defective, scores),
        "image_ap": sk.average_precision_score(defective, scores),
        "image_f1max": brute_f1(np.array(defective), scores),
        "pixel_auroc": sk.roc_auc_score(truth, flat),
        "pixel_ap": sk.average_precision_score(truth, flat),
        "pixel_f1max": brute_f1(truth, flat),
        "aupro": brute_aupro(maps, masks, 0.3),
        "aupro_per_image": np.mean(
            [brute_200(m, k) for m, k in zip(maps, masks, strict=True) if k.any()]
        ),
    }
    assert set(found) == set(METRICS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def brute_200(anomaly_map, mask):
    """200 thresholds over the map's range, each applied to the whole map."""
    m = anomaly_map.astype(np.float64)
    points = []
    for step in range(200):
        above = m > m.min() + (m.max() - m.min()) * step / 200
        points.append((above[~mask].mean(), np.mean([above[r].mean() for r in regions_of(mask)])))
    points = [p for p in points if p[0] < 0.3][::-1]
    largest = points[-1][0]
    return sum((b[0] - a[0]) / largest * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))


def test_200_thresholds_by_brute_force():
    rng = np.random.default_rng(0)
    m = rng.random((32, 32))
    mask = np.zeros((32, 32), bool)
    mask[3:9, 4:9] = mask[20, 20] = True
    m[mask] += 0.4
    assert aupro_200_thresholds(m, mask) == pytest.approx(brute_200(m, mask), abs=1e-9)


def test_undefined_metrics_are_none():
    maps = [np.random.default_rng(i).random((8, 8)) for i in range(3)]
    empty = [np.zeros((8, 8), bool)] * 3
    scores = np.array([1.0, 2.0, 3.0])
    only_good = evaluate_maps(maps, scores, [False] * 3, empty)
    assert set(only_good.values()) == {None}
    only_defective = evaluate_maps(maps, scores, [True] * 3, [m > 0.5 for m in maps])
    assert only_defective["image_auroc"] is None
    assert only_defective["pixel_auroc"] is not None
    without_masks = evaluate_maps(maps, scores, [False, True, True], None)
    assert without_masks["image_auroc"] == 1.0
    assert without_masks["aupro"] is None


def test_a_defective_image_with_vanished_mask_keeps_its_label():
    maps = [np.zeros((8, 8)), np.ones((8, 8))]
    found = evaluate_maps(maps, np.array([0.0, 1.0]), [False, True], [np.zeros((8, 8), bool)] * 2)
    assert found["image_auroc"] == 1.0
    assert found["pixel_auroc"] is None


def test_a_constant_map_is_chance():
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:4] = True
    found = evaluate_maps([np.ones((10, 10))] * 2, np.ones(2), [False, True], [mask & False, mask])
    assert found["image_auroc"] == found["pixel_auroc"] == 0.5
    assert found["aupro"] == pytest.approx(0.15)  # the diagonal up to 0.3, divided by 0.3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused(value):
    broken = np.zeros((4, 4))
    broken[1, 2] = value
    with pytest.raises(ValueError, match="image 1"):
        evaluate_maps([np.zeros((4, 4)), broken], np.zeros(2), [False, True], None)


def test_regions_are_8_connected():
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[5, 5] = True
    assert label_regions(mask)[1] == 2


def test_metrics_import_without_torch():
    code = "import sys, urd.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
