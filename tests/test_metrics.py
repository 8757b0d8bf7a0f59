"""Every metric against brute force over all distinct thresholds, and against scikit-learn."""

from __future__ import annotations

import itertools
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from measured import kinds, random_case
from scipy.ndimage import label
from sklearn import metrics as sk

from urd.errors import UsageError
from urd.metrics import (
    METRICS,
    aupro,
    aupro_200_thresholds,
    auroc,
    average_precision,
    evaluate,
    evaluate_maps,
    f1_max,
    images,
    label_components,
    measure,
)
from urd.metrics.protocol import in_memory


def test_arrays_that_do_not_fit_say_so():
    maps, masks = np.zeros((2, 8, 8)), np.zeros((2, 8, 8), bool)
    defects = ["good", "dent"]
    for changed, message in (
        ((maps, [0.0], defects, masks), "are 2, 1, 2, 2 in number"),
        ((maps, [0.0, 1.0], defects, masks[:1]), "are 2, 2, 2, 1 in number"),
        (
            (maps[..., None], [0.0, 1.0], defects, masks),
            r"map of image 0 has the shape \(8, 8, 1\)",
        ),
        ((maps, [0.0, 1.0], defects, masks[..., None]), r"mask of image 0 has the shape \(8, 8, 1"),
        (
            (maps, [0.0, 1.0], defects, masks[:, :4]),
            r"image 0 is 8x8 \(width x height\), its mask",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate_maps(*changed)
    for measure_of in (auroc, average_precision, f1_max):
        with pytest.raises(UsageError, match=r"shape \(8, 8\); give two flat arrays"):
            measure_of(maps[0].ravel(), maps[1])
    assert auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1  # negatives, then positives
    assert auroc(np.array([0, 1]), np.array([1, 1])) == 0.75


def test_labels_in_place_of_scores_are_refused():
    labels, scores = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.3, 0.4])
    for first in (labels, labels > 0):  # scikit-learn's order
        with pytest.raises(UsageError, match="the first array holds labels"):
            auroc(first, scores)
        with pytest.raises(UsageError, match="the second array holds labels"):
            auroc(scores, first)
    maps, masks = np.zeros((2, 8, 8)), np.zeros((2, 8, 8), bool)
    with pytest.raises(UsageError, match="True is no name"):
        evaluate_maps(maps, [0.0, 1.0], [True, False], masks)
    with pytest.raises(UsageError, match="then one score per image"):
        evaluate_maps(maps, masks, ["good", "dent"], [0.0, 1.0])


def components_of(mask):
    labels, count = label(mask, structure=np.ones((3, 3)))
    return [labels == i for i in range(1, count + 1)]


def brute_aupro(maps, masks, limit):
    """PRO and FPR at every distinct score, trapezoids, the last one cut at the limit."""
    maps = [m.astype(np.float64) for m in maps]
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    rois = [m[r] for m, k in zip(maps, masks, strict=True) for r in components_of(k)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        pro = np.mean([np.mean(roi >= threshold) for roi in rois])
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", [1, 500, 1 << 24])
def test_evaluate_maps_agrees_with_the_references(dtype, chunk, monkeypatch):
    monkeypatch.setattr(images, "CHUNK_PIXELS", chunk)
    maps, masks = random_case(5, 50, dtype)
    scores = np.array([m.max() for m in maps])
    defective = [mask.any() for mask in masks]
    found = evaluate_maps(maps, scores, kinds(defective), masks)
    flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate(masks).ravel()
    expected = {
        "image_auroc": sk.roc_auc_score(defective, scores),
        "image_ap": sk.average_precision_score(defective, scores),
        "image_f1max": brute_f1(np.array(defective), scores),
        "pixel_auroc": sk.roc_auc_score(truth, flat),
        "pixel_ap": sk.average_precision_score(truth, flat),
        "pixel_f1max": brute_f1(truth, flat),
        "aupro": brute_aupro(maps, masks, 0.3),
        "aupro_0.05": brute_aupro(maps, masks, 0.05),
        "aupro_0.01": brute_aupro(maps, masks, 0.01),
        "aupro_per_image": np.mean(
            [brute_200(m, k) for m, k in zip(maps, masks, strict=True) if k.any()]
        ),
    }
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert (found["n_good"], found["n_defective"], found["n_vanished_masks"]) == (1, 3, 0)


def brute_200(anomaly_map, mask):
    """200 thresholds over the map's range, each applied to the whole map."""
    m = anomaly_map.astype(np.float64)
    points = []
    for step in range(200):
        above = m > m.min() + (m.max() - m.min()) * step / 200
        points.append(
            (above[~mask].mean(), np.mean([above[r].mean() for r in components_of(mask)]))
        )
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


def curves_of(maps, masks, scores=None, roi=None):
    scores = np.zeros(len(maps)) if scores is None else scores
    defects = kinds(mask.any() for mask in masks)
    return measure(in_memory(maps, scores, defects, masks, rois=roi)).curves()


def test_the_drawn_roc_passes_through_exact_points():
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 40, 3000) / 8
    labels = rng.random(3000) < 0.3
    maps, masks = [np.zeros((1, 2))] * 3000, [np.array([[label, False]]) for label in labels]
    x, y = curves_of(maps, masks, scores)["roc"]
    exact_x, exact_y, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(y, np.interp(x, exact_x, exact_y), atol=1e-12)
    assert np.trapezoid(y, x) == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert curves_of(maps[:5], [np.zeros((1, 2), bool)] * 5) == {}


def test_the_drawn_pro_has_the_area_of_the_metric():
    rng = np.random.default_rng(2)
    maps = [rng.normal(size=(40, 40)) + 2 * (np.arange(40) > 30) for _ in range(5)]
    masks = [np.zeros((40, 40), bool) for _ in maps]
    for k, mask in enumerate(masks[:4]):
        mask[5 * k : 5 * k + 9, 28:36] = True
        mask[1, 1 + k] = True
    x, y = curves_of(maps, masks)["pro"]
    assert len(x) <= 400 and (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, pytest.approx(1))
    assert np.trapezoid(y, x) == pytest.approx(aupro(maps, masks, 1.0), abs=2e-3)
    roi = [np.zeros((40, 40), bool) for _ in maps]
    for place in roi:
        place[:, 20:] = True
    inside = curves_of([m[:, 20:] for m in maps], [m[:, 20:] for m in masks])["pro"]
    np.testing.assert_allclose(curves_of(maps, masks, roi=roi)["pro"], inside)


def test_undefined_metrics_are_none():
    maps = [np.random.default_rng(i).random((8, 8)) for i in range(3)]
    empty = [np.zeros((8, 8), bool)] * 3
    scores = np.array([1.0, 2.0, 3.0])
    only_good = evaluate_maps(maps, scores, ["good"] * 3, empty, resamples=9)
    assert {only_good[name] for name in METRICS} == {None}
    assert not any(name.endswith("_low") for name in only_good)
    only_defective = evaluate_maps(maps, scores, ["bad"] * 3, [m > 0.5 for m in maps], resamples=9)
    assert only_defective["image_auroc"] is None
    assert only_defective["pixel_auroc"] is not None
    assert "image_auroc_low" not in only_defective
    assert "pixel_auroc_low" in only_defective
    without_masks = evaluate_maps(maps, scores, ["good", "bad", "bad"], None, resamples=9)
    assert without_masks["image_auroc"] == 1.0
    assert without_masks["aupro"] is None


def test_a_defective_image_with_vanished_mask_keeps_its_label():
    maps = [np.zeros((8, 8)), np.ones((8, 8))]
    empty = np.zeros((8, 8), bool)
    found = evaluate_maps(maps, np.array([0.0, 1.0]), ["good", "bad"], [empty, empty])
    assert found["image_auroc"] == 1.0
    assert found["pixel_auroc"] is None
    assert found["n_vanished_masks"] == 1
    mask = empty.copy()
    mask[0, 0] = True
    both = [*maps, np.arange(64.0).reshape(8, 8)]
    found = evaluate_maps(both, np.ones(3), ["good", "bad", "dot"], [empty, empty, mask])
    assert (found["aupro:bad"], found["aupro"]) == (None, found["aupro:dot"])


def test_a_constant_map_is_chance():
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:4] = True
    ones = [np.ones((10, 10))] * 2
    found = evaluate_maps(ones, np.ones(2), ["good", "bad"], [mask & False, mask])
    assert found["image_auroc"] == found["pixel_auroc"] == 0.5
    assert found["aupro"] == pytest.approx(0.15)  # the diagonal up to 0.3, divided by 0.3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused(value):
    broken = np.zeros((4, 4))
    broken[1, 2] = value
    maps = [np.zeros((4, 4)), broken]
    with pytest.raises(ValueError, match="the map of image 1 holds NaN or Inf"):
        evaluate_maps(maps, np.zeros(2), ["good", "bad"], None)
    with pytest.raises(ValueError, match=r"the map of b\.tiff holds"):
        evaluate_maps(maps, np.zeros(2), ["good", "bad"], None, names=["a.tiff", "b.tiff"])
    with pytest.raises(ValueError, match="the score of image 0"):
        evaluate_maps(maps[:1], np.array([value]), ["good"], None)


def test_a_float32_sum_that_overflows_is_no_infinity():
    huge = np.full((4, 4), 3e38, np.float32)
    assert evaluate_maps([huge, huge], np.array([0.0, 1.0]), ["good", "bad"], None)


def test_maps_and_masks_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"image 0 is 5x4 \(width x height\), its mask 4x4"):
        evaluate_maps([np.zeros((4, 5))], np.zeros(1), ["good"], [np.zeros((4, 4), bool)])
    with pytest.raises(ValueError, match=r"not \(H, W\)"):
        evaluate_maps([np.zeros((4, 5, 3))], np.zeros(1), ["good"], None)


@pytest.mark.parametrize("transform", [np.exp, lambda x: x**3], ids=["exp", "cube"])
def test_a_transform_that_keeps_the_order_changes_nothing(transform):
    rng = np.random.default_rng(3)
    maps, masks = random_case(3, 1000, np.float64)
    maps = [m + rng.normal(0, 0.3, m.shape) for m in maps]
    assert_same_metrics(maps, [transform(m) for m in maps], masks)


def assert_same_metrics(maps, others, masks):
    results = [
        evaluate_maps(m, np.array([x.max() for x in m]), kinds(k.any() for k in masks), masks)
        for m in (maps, others)
    ]
    for name in set(METRICS) - {"aupro_per_image"}:  # its thresholds are evenly spaced
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-9), name


def test_metrics_of_each_type_of_defect_are_those_without_the_other_types():
    rng = np.random.default_rng(1)
    maps = [rng.random((24, 24)).astype(np.float32) for _ in range(6)]
    masks = [np.zeros((24, 24), bool) for _ in maps]
    for index in (2, 3, 4, 5):
        masks[index][index : index + 4, 2:7] = masks[index][20, 20] = True
        maps[index][masks[index]] += 0.1 * index
    names = ["good", "good", "dent", "dent", "stain", "stain"]
    scores = np.array([m.max() for m in maps])
    found = evaluate_maps(maps, scores, names, masks)
    dent = [
        m if name != "stain" else m[~k][None] for m, k, name in zip(maps, masks, names, strict=True)
    ]
    only = [
        k if name != "stain" else np.zeros((1, (~k).sum()), bool)
        for k, name in zip(masks, names, strict=True)
    ]
    assert found["aupro:dent"] == pytest.approx(brute_aupro(dent, only, 0.3), abs=1e-9)
    labels = np.array([name == "dent" for name in names[:4]])
    expected = sk.roc_auc_score(labels, scores[:4])
    assert found["image_auroc:dent"] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.just(3), st.integers(1, 6), st.integers(1, 6)),
        elements=st.integers(-3, 3),
    ),
    st.integers(0, 2**36 - 1),
)
def test_generated_maps_against_brute_force(maps, bits):
    size = maps[0].size
    masks = np.array([bits >> i & 1 for i in range(2 * size)], bool).reshape(2, *maps[0].shape)
    masks = [np.zeros(maps[0].shape, bool), *masks]
    truth, flat = np.concatenate([m.ravel() for m in masks]), maps.ravel()
    found = evaluate_maps(list(maps), maps.max((1, 2)), ["good", "bad", "bad"], masks)
    if not truth.any():
        assert found["pixel_auroc"] is None
        return
    expected = {
        "pixel_auroc": sk.roc_auc_score(truth, flat),
        "pixel_ap": sk.average_precision_score(truth, flat),
        "pixel_f1max": brute_f1(truth, flat),
        "aupro": brute_aupro(maps, masks, 0.3),
        "aupro_0.01": brute_aupro(maps, masks, 0.01),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_masks_of_whole_numbers_are_masks_and_good_images_have_none():
    maps, masks = random_case(5, 50, np.float32)
    defects = kinds(mask.any() for mask in masks)
    whole = [mask.astype(np.uint8) * 255 for mask in masks]
    scores = np.arange(4.0)
    assert evaluate_maps(maps, scores, defects, whole) == evaluate_maps(
        maps, scores, defects, masks
    )
    assert aupro(maps, whole) == aupro(maps, masks)
    with pytest.raises(ValueError, match="image 1 is a good image, but its mask is not empty"):
        evaluate_maps(maps, scores, ["good", "good", "bad", "bad"], masks)


def test_memory_does_not_grow_with_the_set(monkeypatch):
    """Two looks at each image, and never many maps in memory together."""
    monkeypatch.setattr(images, "CHUNK_PIXELS", 5000)
    lock, alive, most, loads = threading.Lock(), [0], [0], [0]

    def count(change):
        with lock:
            alive[0] += change
            most[0] = max(most[0], alive[0])
            loads[0] += change > 0

    def load():
        anomaly_map = np.random.default_rng(loads[0]).random((50, 50))
        count(1)
        weakref.finalize(anomaly_map, count, -1)
        mask = np.zeros((50, 50), bool)
        mask[:4, :4] = True
        return anomaly_map, mask

    evaluate([images.TestImage(str(i), "bad", load) for i in range(200)])
    assert loads[0] == 400
    assert most[0] < 60


def test_components_are_8_connected():
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[5, 5] = True
    assert label_components(mask)[1] == 2
