"""Masks that look alike mark alike, in whatever way they are stored."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import save
from PIL import Image
from tiffs import tiff

from urd.data import UnreadableImage, read_mask, read_rois
from urd.data.check import check

MARKS = np.zeros((64, 64), bool)
MARKS[10:20, 30:50] = True
GREY = Image.fromarray(MARKS.astype(np.uint8) * 255)


def layer(clear: tuple[int, int, int], stroke: tuple[int, int, int]) -> Image.Image:
    """Strokes on a transparent layer."""
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., :3] = clear
    rgba[MARKS] = (*stroke, 255)
    return Image.fromarray(rgba)


def grey_and_alpha(grey: np.ndarray | int, alpha: np.ndarray | int) -> Image.Image:
    values = np.zeros((64, 64, 2), np.uint8)
    values[..., 0], values[..., 1] = grey, alpha
    return Image.fromarray(values)


def classes(palette: list[int]) -> Image.Image:
    """Class numbers 0, 1 and 2 as palette indices."""
    numbers = MARKS.astype(np.uint8)
    numbers[10:20, 40:50] = 2
    image = Image.fromarray(numbers).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette(palette)
    return image


def resized() -> Image.Image:
    return GREY.resize((640, 640), Image.Resampling.BICUBIC).resize(
        (64, 64), Image.Resampling.BICUBIC
    )


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)
BYTES = MARKS.astype(np.uint8) * 255
FORMS = {
    "grey.png": GREY,
    "bit.png": GREY.convert("1"),
    "group4.tif": (GREY.convert("1"), {"compression": "group4"}),
    "white_first.png": GREY.convert("RGB").quantize(2),
    "white_first.bmp": GREY.convert("RGB").quantize(2),
    "palette.gif": GREY.convert("RGB").quantize(2),
    "classes.png": classes([0, 0, 0, 128, 0, 0, 0, 128, 0]),
    "classes_nearly_black.png": classes([0, 0, 0, 1, 1, 1, 2, 2, 2]),
    "transparent_colour.png": (GREY.convert("P"), {"transparency": 0}),
    "black_on_clear.png": layer(BLACK, BLACK),
    "red_on_clear_white.webp": (layer(WHITE, RED), {"lossless": True, "exact": True}),
    "white_on_clear_white.png": layer(WHITE, WHITE),
    "clear.tif": layer(WHITE, BLACK),
    "opaque.png": grey_and_alpha(BYTES, 255),
    "half_opaque.png": grey_and_alpha(BYTES, 128),
    "alpha.png": grey_and_alpha(255, BYTES),
    "lossy.jpg": (GREY, {"quality": 50}),
    "lossy.webp": (GREY.convert("RGB"), {"quality": 60}),
    "lossy.jp2": (GREY, {"irreversible": True, "quality_layers": [8]}),
    "lossless.webp": (Image.fromarray(MARKS.astype(np.uint8)).convert("RGB"), {"lossless": True}),
    "lossy.tif": (GREY, {"compression": "jpeg", "quality": 50}),
    "resized.png": resized(),
    "float.tif": Image.fromarray(MARKS.astype(np.float32)),
    "integer.tif": Image.fromarray(MARKS.astype(np.int32)),
    "deep.png": Image.fromarray(MARKS.astype(np.uint16)),
    "portable.pgm": GREY,
    "portable.pbm": GREY.convert("1"),
}


@pytest.mark.parametrize("name", FORMS)
def test_masks_that_look_alike_mark_alike(tmp_path, name):
    form = FORMS[name]
    image, options = form if isinstance(form, tuple) else (form, {})
    image.save(tmp_path / name, **options)
    assert np.array_equal(read_mask(tmp_path / name), MARKS)


@pytest.mark.parametrize("values", [MARKS, BYTES, MARKS.astype(np.uint16)], ids=["1", "8", "16"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_tiff_in_which_zero_is_white(tmp_path, values, white_is_zero):
    path = tmp_path / "mask.tif"
    if white_is_zero:
        top = 1 if values.dtype == bool else np.iinfo(values.dtype).max
        values = (top - values.astype(np.int64)).astype(values.dtype)
    path.write_bytes(tiff(values, photometric=0 if white_is_zero else 1))
    assert np.array_equal(read_mask(path), MARKS)


def test_small_class_numbers_of_sixteen_bit_colour_mark(tmp_path):
    values = np.zeros((64, 64, 3), np.uint16)
    values[MARKS, 1] = 3
    cv2.imwrite(str(tmp_path / "m.png"), values)
    assert np.array_equal(read_mask(tmp_path / "m.png"), MARKS)


def test_the_largest_unsigned_value_marks(tmp_path):
    (tmp_path / "m.tif").write_bytes(tiff(MARKS.astype(np.uint32) * 0xFFFFFFFF))
    assert np.array_equal(read_mask(tmp_path / "m.tif"), MARKS)


def test_class_numbers_stay_marks_beside_white(tmp_path):
    values = BYTES.copy()
    values[30:40, 30:40] = 1
    values[39:45, 30:40] = 255
    assert np.array_equal(read_mask(save(values, tmp_path / "m.png")), values > 0)


def test_masks_are_turned_as_their_images_are(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.rot90(BYTES))
    for name in ("m.png", "m.jpg", "m.tif"):
        turned.save(tmp_path / name, exif=exif)
        assert np.array_equal(read_mask(tmp_path / name), MARKS)


def test_a_mask_of_no_numbers_is_refused(tmp_path):
    values = MARKS.astype(np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "m.tif")
    with pytest.raises(UnreadableImage, match="fixed black"):
        read_mask(tmp_path / "m.tif")


def test_a_region_drawn_on_a_transparent_layer(tmp_path):
    layer(WHITE, BLACK).save(tmp_path / "roi.png")
    inside = read_rois(str(tmp_path / "roi.png"), "", (64, 64))
    outside = read_rois("", str(tmp_path / "roi.png"), (64, 64))
    assert np.array_equal(inside.everywhere, MARKS)
    assert np.array_equal(outside.everywhere, ~MARKS)


def test_check_names_masks_that_may_be_meant_otherwise(data):
    truth = data / "ground_truth" / "square"
    mask = Image.open(truth / "000_mask.png")
    Image.eval(mask, lambda value: 255 - value).save(truth / "000_mask.png")
    clear = Image.new("RGBA", mask.size)
    clear.putalpha(Image.open(truth / "001_mask.png"))
    clear.save(truth / "001_mask.png")
    problems = check(data).problems
    assert [entry.split("/")[-1] for entry in problems.pop("mask_over_half")] == [
        "000_mask.png marks 93 %"
    ]
    assert [entry.split("/")[-1] for entry in problems.pop("mask_transparency")] == ["001_mask.png"]
    assert problems == {}


def test_two_regions_of_one_image_are_refused(tmp_path):
    GREY.save(tmp_path / "a.png")
    GREY.save(tmp_path / "a.bmp")
    rois = read_rois(str(tmp_path), "", (64, 64))
    with pytest.raises(UnreadableImage, match="two regions of interest"):
        rois.of(tmp_path / "elsewhere" / "a.png")
