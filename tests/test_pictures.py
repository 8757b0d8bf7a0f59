"""Pictures: where there is no anomaly the image stays, and a colour means the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from urd.inspection.pictures import MAX_SIDE, blend, heat_picture, overlay, reduced, save_picture

HEAT = (1.0, 3.0)


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


def test_outlines_are_drawn_in_pixels_of_the_original(image):
    square = [(8.0, 8.0), (40.0, 8.0), (40.0, 40.0), (8.0, 40.0)]
    still = np.zeros((8, 8), np.float32)
    full = np.asarray(heat_picture(Image.fromarray(image), still, HEAT, [square], MAX_SIDE))
    assert (full[8, 20] > 200).all()  # the white line
    half = Image.fromarray(image).resize((32, 32))
    small = np.asarray(heat_picture(half, still, HEAT, [square], MAX_SIDE, width=64))
    assert np.abs(small[4, 10].astype(int) - np.asarray(half)[4, 10]).sum() > 60


def test_large_images_are_reduced_and_small_ones_are_the_same_object():
    small = Image.new("RGB", (10, 20))
    assert reduced(small, 20) is small
    assert reduced(Image.new("RGB", (100, 50)), 20).size == (20, 10)


@pytest.mark.parametrize("width", [12, 64, 400])
def test_a_legend_of_any_width_is_below(width):
    image = Image.new("RGB", (width, 40), (90, 90, 90))
    shown = overlay(image, np.zeros((8, 8), np.float32), HEAT, 1.25, "OK")
    assert shown.width == width and shown.height > 40
    legend = np.asarray(shown)[40:]
    assert legend.max() == 255 and legend.min() < 128  # text on white


def test_what_is_saved_is_what_was_drawn(image, tmp_path):
    save_picture(tmp_path / "x.png", Image.fromarray(image))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), image)
