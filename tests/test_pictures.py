"""Pictures: where there is no anomaly the image stays, and a colour means the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from urd.inspection.defects import Defect
from urd.inspection.legend import LEAST_WIDTH, Scale, draw_legend, sizes
from urd.inspection.pictures import (
    MAX_SIDE,
    blend,
    heat_picture,
    outlines,
    overlay,
    reduced,
    save_picture,
)

HEAT = (1.0, 3.0)
SCALE = Scale(*HEAT)


@pytest.fixture
def image():
    return picture(np.random.default_rng(0), 64)


def test_below_the_range_the_image_stays_and_above_it_is_red(image):
    anomaly = np.zeros((16, 16), np.float32)
    anomaly[8:, 8:] = 5.0
    mixed = blend(image, anomaly, HEAT).astype(int)
    assert np.abs(mixed[:24, :24] - image[:24, :24]).max() <= 1
    corner = mixed[48:, 48:] - image[48:, 48:]
    assert corner[..., 0].mean() > corner[..., 2].mean()  # towards the red end


def test_more_anomaly_is_more_colour(image):
    grey = np.full_like(image, 128)
    changes = [
        np.abs(blend(grey, np.full((8, 8), value, np.float32), HEAT).astype(int) - 128).sum()
        for value in (1.0, 1.2, 1.5)
    ]
    assert changes[0] < changes[1] < changes[2]


def square(left, top, side, area_mm2=None):
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    box = (left, top, left + side, top + side)
    return Defect(box, corners, float(side**2), area_mm2, 1.0, 1.0, (left, top))


def test_outlines_are_drawn_in_pixels_of_the_original():
    image = Image.fromarray(picture(np.random.default_rng(0), 512))
    still = np.zeros((8, 8), np.float32)
    defect = square(64.0, 64.0, 256.0)
    full = np.asarray(heat_picture(image, still, SCALE, [defect]))
    assert (full[64, 200] > 200).all()  # the white line
    half = image.resize((256, 256))
    small = np.asarray(heat_picture(half, still, SCALE, [defect], width=512))
    assert np.abs(small[32, 100].astype(int) - np.asarray(half)[32, 100]).sum() > 60


def test_each_defect_has_its_number_beside_it_and_inside_of_the_picture():
    image = Image.new("RGB", (400, 400), (120, 120, 120))
    still = np.zeros((8, 8), np.float32)
    for left, top in ((200.0, 200.0), (0.0, 0.0), (390.0, 390.0)):
        alone = np.asarray(heat_picture(image, still, SCALE, [square(left, top, 8.0)]))
        x, y = max(0, int(left) - 16), max(0, int(top) - 16)
        near = alone[y : y + 16, x : x + 16]
        assert (near == 0).all(axis=2).sum() > 30, "the black ground of a number"
        assert (near > 200).all(axis=2).sum() > 3, "its white strokes"


def test_the_region_of_interest_is_drawn_and_the_outside_is_darker():
    image = Image.new("RGB", (400, 400), (120, 120, 120))
    roi = np.zeros((8, 8), bool)
    roi[2:6, 2:6] = True
    drawn = np.asarray(heat_picture(image, np.zeros((8, 8), np.float32), SCALE, roi=roi))
    assert (drawn[200, 200] == 120).all() and (drawn[10, 10] < 80).all()
    edge = drawn[200, 95:105].astype(int)
    assert (edge[:, 2] - edge[:, 0]).max() > 150, "a line in the colour of regions"


def test_tiny_images_are_enlarged_by_a_whole_factor():
    image = Image.fromarray(picture(np.random.default_rng(0), 48))
    drawn = heat_picture(image, np.zeros((8, 8), np.float32), SCALE)
    assert drawn.size == (288, 288)
    assert np.array_equal(np.asarray(drawn)[3::6, 3::6], np.asarray(image))


def test_every_pixel_is_kept_if_asked_for():
    image = Image.new("RGB", (MAX_SIDE + 300, 20))
    still = np.zeros((8, 8), np.float32)
    assert heat_picture(image, still, SCALE).width == MAX_SIDE
    assert heat_picture(image, still, SCALE, max_side=0).size == image.size
    assert heat_picture(image, still, SCALE, max_side=900).width == 900


def test_large_images_are_reduced_and_small_ones_are_the_same_object():
    small = Image.new("RGB", (10, 20))
    assert reduced(small, 20) is small
    assert reduced(Image.new("RGB", (100, 50)), 20).size == (20, 10)


@pytest.mark.parametrize("size", [(12, 12), (64, 40), (20, 900), (400, 40), (3000, 200)])
def test_a_legend_fits_below_pictures_of_any_size(size):
    image = Image.new("RGB", size, (90, 90, 90))
    defects = [square(1.0, 1.0, 3.0), square(5.0, 5.0, 2.0)]
    shown = overlay(image, np.zeros((8, 8), np.float32), SCALE, 1.25, "OK", defects)
    assert shown.width >= LEAST_WIDTH
    legend = draw_legend(shown.width, SCALE, 1.25, "OK", defects)
    assert np.array_equal(np.asarray(shown)[-legend.height :], np.asarray(legend))
    dark = (np.asarray(legend) < 128).any(axis=2)
    assert dark.any() and not dark[:, :3].any() and not dark[:, -3:].any(), "no word is cut off"


@pytest.mark.parametrize(
    ("review", "reject", "places"),
    [
        (2.0, 2.5, (0.5, 0.75)),
        (2.0, 2.0, (0.5,)),  # no REVIEW
        (2.0, 9.0, (0.5, 1.0)),
        (0.0, 1.5, (0, 0.25)),
    ],
)
def test_the_marks_are_at_their_place_on_the_bar(review, reject, places):
    scale = Scale(1.0, 3.0, review, reject)
    assert [scale.place(value) for _, value in scale.marks()] == pytest.approx(list(places))
    plain, marked = (
        np.asarray(draw_legend(400, s, 1.0, "OK")).astype(int) for s in (Scale(1.0, 3.0), scale)
    )
    bars = np.flatnonzero((marked == 0).all(axis=2).sum(axis=0) > 18)
    for place in places:
        assert np.abs(bars - (6 + place * 387)).min() < 3
    assert np.abs(plain - marked).sum() > 0


def test_sizes_are_numbered_and_the_rest_is_counted():
    defects = [square(0.0, 0.0, 4.0), square(0.0, 0.0, 2.0, area_mm2=0.25)]
    assert sizes(defects) == ["1: 16 px", "2: 0.25 mm2"]
    assert sizes(defects * 20, most=3) == ["1: 16 px", "2: 0.25 mm2", "3: 16 px", "and 37 more"]


def test_outlines_of_a_mask_are_in_pixels_of_the_image():
    mask = np.zeros((10, 20), bool)
    mask[2:5, 4:9] = True
    (line,) = outlines(mask, (100, 400))
    xs, ys = zip(*line, strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (90.0, 170.0, 25.0, 45.0)


def test_what_is_saved_is_what_was_drawn(image, tmp_path):
    save_picture(tmp_path / "x.png", Image.fromarray(image))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), image)
