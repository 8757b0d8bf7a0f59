"""Regions of the map: where they are in the original image, what counts and what does not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from urd.inspection import defects

find_defects = partial(defects.find_defects, spread=0)  # regions as they are, if not said otherwise


def test_a_square_in_a_wide_image_has_its_place_in_that_image():
    anomaly_map = np.zeros((256, 256), np.float32)
    anomaly_map[64:128, 128:160] = 0.8
    anomaly_map[100, 140] = 0.9
    (defect,) = find_defects(anomaly_map, (460, 1130), grow=0.3, seed=0.6, mm_per_pixel=0.1)
    x, y = 1130 / 256, 460 / 256
    assert defect.box == pytest.approx((128 * x, 64 * y, 160 * x, 128 * y))
    assert defect.area == pytest.approx(32 * 64 * x * y)
    assert defect.area_mm2 == pytest.approx(defect.area * 0.01)
    assert defect.centroid == pytest.approx((144 * x, 96 * y))
    assert (defect.peak, defect.mean) == pytest.approx((0.9, 0.8 + 0.1 / 2048))
    xs, ys = zip(*defect.contour, strict=True)
    assert (min(xs), max(xs)) == pytest.approx((128.5 * x, 159.5 * x))
    assert (min(ys), max(ys)) == pytest.approx((64.5 * y, 127.5 * y))


def test_a_region_needs_a_peak_and_an_area():
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[2:6, 2:6] = 0.7  # high, 16 pixels
    anomaly_map[20:40, 20:40] = 0.4  # large, but nowhere high
    anomaly_map[50, 50] = 0.8  # high, one pixel
    found = find_defects(anomaly_map, (64, 64), grow=0.3, seed=0.6)
    assert [d.area for d in found] == [1, 16]  # the highest peak first
    assert len(find_defects(anomaly_map, (64, 64), grow=0.3, seed=0.6, smallest_area=2)) == 1
    assert find_defects(anomaly_map, (64, 64), grow=0.3, seed=0.8) == []
    assert len(find_defects(anomaly_map, (64, 64), grow=0.9, seed=0.3)) == 3  # the lower one counts


def test_corners_connect_and_of_equal_peaks_the_largest_comes_first():
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[[0, 1, 2], [0, 1, 2]] = 1.0
    anomaly_map[5:8, 5:8] = 1.0
    found = find_defects(anomaly_map, (8, 8), grow=0.5, seed=0.5)
    assert [d.area for d in found] == [9, 3]


def test_the_number_stands_at_the_outline_and_not_at_the_corner_of_the_box():
    anomaly_map = np.zeros((32, 32), np.float32)
    for place in range(4, 28):
        anomaly_map[place, 31 - place] = 1.0  # a scratch from the lower left to the upper right
    (defect,) = find_defects(anomaly_map, (64, 64), grow=0.5, seed=0.5)
    assert defect.box == (8, 8, 56, 56)
    assert sum(defect.corner) == pytest.approx(64) and defect.corner in defect.contour


def test_against_scipy_on_noise():
    rng = np.random.default_rng(0)
    anomaly_map = ndimage.gaussian_filter(rng.random((120, 90)), 3).astype(np.float32)
    grow, seed = (float(np.quantile(anomaly_map, q)) for q in (0.8, 0.97))
    labels, count = ndimage.label(anomaly_map > grow, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    peaks = ndimage.maximum(anomaly_map, labels, numbers)
    areas = ndimage.sum_labels(labels > 0, labels, numbers)[peaks > seed]
    means = ndimage.mean(anomaly_map.astype(np.float64), labels, numbers)[peaks > seed]
    found = find_defects(anomaly_map, (240, 180), grow=grow, seed=seed)
    assert sorted(d.area / 4 for d in found) == sorted(areas)
    assert sorted(d.mean for d in found) == pytest.approx(sorted(means))
    assert len(found) > 3


def test_a_strong_defect_ends_near_its_peak_and_does_not_hide_its_neighbour():
    anomaly_map = np.zeros((96, 128), np.float32)
    anomaly_map[30:50, 20:44] = 4.0
    anomaly_map = ndimage.gaussian_filter(anomaly_map, 4)
    faint = np.zeros_like(anomaly_map)
    faint[34:46, 82:92] = 1.2
    anomaly_map += ndimage.gaussian_filter(faint, 2)
    strong, other = find_defects(anomaly_map, (96, 128), grow=0.05, seed=0.5)
    assert strong.box == pytest.approx((20, 30, 44, 50), abs=4)
    assert other.box == pytest.approx((82, 34, 92, 46), abs=2)


def test_a_long_scratch_that_fades_stays_one_defect():
    """Its faint end is far below the peak of the strong one, but the highest of its own place."""
    anomaly_map = np.zeros((64, 200), np.float32)
    anomaly_map[30:34, 20:180] = np.linspace(4, 1, 160)
    anomaly_map = ndimage.gaussian_filter(anomaly_map, 3)
    (scratch,) = find_defects(anomaly_map, (64, 200), grow=0.05, seed=0.5)
    assert scratch.box[0] < 26 and scratch.box[2] > 160
    assert scratch.box[3] - scratch.box[1] < 12


@pytest.mark.parametrize(("width", "height"), [(11, 27), (30, 30), (60, 14), (70, 80)])
def test_what_the_map_spreads_around_a_defect_is_taken_off(width, height):
    """Seen 7 pixels too wide on each side, and blurred, as strong defects are."""
    seen = np.zeros((160, 160), np.float32)
    seen[40 - 7 : 40 + height + 7, 50 - 7 : 50 + width + 7] = 1
    anomaly_map = ndimage.gaussian_filter(seen, 4)
    (defect,) = defects.find_defects(anomaly_map, (160, 160), grow=0.05, seed=0.5)
    assert defect.box == pytest.approx((50, 40, 50 + width, 40 + height), abs=4)
    (wide,) = find_defects(anomaly_map, (160, 160), grow=0.05, seed=0.5)
    assert wide.area > defect.area


def test_a_scratch_stays_whole_and_the_edge_of_the_image_is_no_edge_of_a_defect():
    seen = np.zeros((64, 200), np.float32)
    seen[29:35, 0:150] = 1  # begins at the left edge
    anomaly_map = ndimage.gaussian_filter(seen, 3, mode="nearest")
    (scratch,) = defects.find_defects(anomaly_map, (64, 200), grow=0.05, seed=0.3)
    left, top, right, bottom = scratch.box
    assert left == 0 and 140 < right <= 150
    assert 29 <= top < bottom <= 35


def test_the_edge_of_what_is_inspected_is_no_edge_of_a_defect():
    seen = np.zeros((64, 200), np.float32)
    seen[20:44, 60:150] = 1
    roi = np.zeros((64, 200), bool)
    roi[:, 100:] = True
    anomaly_map = np.where(roi, ndimage.gaussian_filter(seen, 3), 0).astype(np.float32)
    (defect,) = defects.find_defects(anomaly_map, (64, 200), grow=0.05, seed=0.3, roi=roi)
    assert defect.box[0] == 100 and 139 <= defect.box[2] < 150


def test_the_highest_place_of_a_region_is_never_taken_off():
    anomaly_map = np.full((40, 80), 0.3, np.float32)
    anomaly_map[:, :2] = 0
    anomaly_map[20, 2] = 0.5  # above `seed`, but at the rim of the region
    (defect,) = defects.find_defects(anomaly_map, (40, 80), grow=0.1, seed=0.4)
    assert defect.peak == 0.5
