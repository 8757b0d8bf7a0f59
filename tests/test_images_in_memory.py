"""Arrays, Pillow images and encoded bytes are read as the same picture in a file is."""

from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
import pytest
from conftest import TINY, picture
from PIL import Image

from urd import Detector
from urd.data import Reading, UnreadableImage, read_rgb
from urd.data.images_in_memory import UnusableImage, rgb_of
from urd.errors import UsageError
from urd.inspection.prediction import Failure

RNG = np.random.default_rng(0)
RGB = picture(RNG, 40)
DEEP = RNG.integers(0, 4096, (40, 50, 4)).astype(np.uint16)
DEEP[..., 3] *= 16
ARRAYS = {
    "grey": RGB[..., 0],
    "grey, one channel": RGB[..., :1],
    "rgb": RGB,
    "rgb view": RGB[::-1, ::2],
    "rgba": np.dstack([RGB, RGB[..., 0]]),
    "deep grey": DEEP[..., 0],
    "deep grey, one channel": DEEP[..., :1],
    "deep rgb": DEEP[..., :3],
    "deep rgba": DEEP,
    "deep rgb, motorola": DEEP[..., :3].astype(">u2"),
}


def saved(array: np.ndarray, path) -> None:
    """By OpenCV, which knows 16-bit colours."""
    values = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if values.ndim == 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    native = values.astype(values.dtype.newbyteorder("="))
    cv2.imwrite(str(path), np.ascontiguousarray(native))


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("white_level", [4095, 65535])
def test_an_array_is_read_as_the_same_picture_in_a_file(tmp_path, name, white_level):
    array, reading = ARRAYS[name], Reading(white_level)
    saved(array, tmp_path / "a.png")
    expected = np.asarray(read_rgb(tmp_path / "a.png", reading=reading))
    assert np.array_equal(np.asarray(rgb_of(array, reading)), expected)
    content = (tmp_path / "a.png").read_bytes()
    for encoded in (content, bytearray(content), memoryview(content)):
        assert np.array_equal(np.asarray(rgb_of(encoded, reading)), expected)
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(np.asarray(rgb_of(opened, reading)), expected)
    if array.ndim == 3 and array.shape[2] > 1:
        bgr = array[..., [2, 1, 0, 3][: array.shape[2]]]
        assert np.array_equal(np.asarray(rgb_of(bgr, reading, "bgr")), expected)


UNUSABLE = {
    "nothing": (None, "not None"),
    "list": ([[1, 2], [3, 4]], "not list"),
    "number": (3, "not int"),
    "float": (RGB / 255, "not float64"),
    "signed": (RGB.astype(np.int16), "not int16"),
    "truth values": (RGB > 100, "not bool"),
    "texts": (np.full((20, 20), "x"), "not <U1"),
    "empty": (np.zeros((0, 20, 3), np.uint8), "not uint8"),
    "two channels": (RGB[..., :2], "not uint8"),
    "channels first": (np.moveaxis(RGB, 2, 0), "not uint8"),
    "batch": (RGB[None], "not uint8"),
    "flat": (RGB.ravel(), "not uint8"),
    "too small": (RGB[:15], "40x15 is under 16 pixels"),
    "small picture": (Image.fromarray(RGB[:, :3]), "3x40 is under 16 pixels"),
    "float picture": (Image.fromarray(np.zeros((40, 40), np.float32)), "floating-point"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_image_is_refused_in_one_line(name):
    image, reason = UNUSABLE[name]
    with pytest.raises(UsageError, match=reason) as error:
        rgb_of(image, Reading())
    assert isinstance(error.value, UnusableImage)
    assert "\n" not in str(error.value)


def test_a_pillow_image_of_several_frames_is_refused():
    content = io.BytesIO()
    first = Image.fromarray(RGB)
    first.save(content, "TIFF", save_all=True, append_images=[first])
    with Image.open(content) as image:
        with pytest.raises(UsageError, match="several pages or frames"):
            rgb_of(image, Reading())
        image.seek(1)
        with pytest.raises(UsageError, match=r"give one of them: image\.copy"):
            rgb_of(image, Reading())
        assert np.array_equal(np.asarray(rgb_of(image.copy(), Reading())), RGB)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LAB", "I", "I;16", "LA", "La", "PA"])
def test_pillow_images_of_every_mode_are_read(mode):
    assert rgb_of(Image.new(mode, (20, 20)), Reading()).mode == "RGB"


def test_broken_bytes_are_an_unreadable_image():
    for content, reason in ((b"", "the file is empty"), (b"text", "not an image")):
        with pytest.raises(UnreadableImage, match=reason) as error:
            rgb_of(content, Reading())
        assert not isinstance(error.value, UsageError)


def test_a_pillow_image_that_was_read_partly_is_refused():
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, "PNG")
    broken = io.BytesIO(content.getvalue()[:-30])
    with warnings.catch_warnings(), Image.open(broken) as image:
        warnings.simplefilter("ignore")
        with pytest.raises(UsageError, match="its end is missing"):
            rgb_of(image, Reading())


def test_an_unknown_order_of_channels_is_refused():
    with pytest.raises(UsageError, match="give rgb or bgr"):
        rgb_of(RGB, Reading(), "gbr")


@pytest.fixture(scope="module")
def detector(tmp_path_factory, weights_file):
    folder = tmp_path_factory.mktemp("good")
    for index in range(4):
        Image.fromarray(picture(RNG)).save(folder / f"{index}.png")
    options = {"backbone": TINY, "weights": weights_file, "iterations": 1, "batch_size": 2}
    return Detector.fit(folder, image_size=64, device="cpu", holdout=0, **options)


def test_a_detector_scores_an_array_as_its_file(detector, tmp_path):
    colourful = np.dstack([RGB[..., 0], RGB[..., 1] // 2, RGB[..., 2] // 4])
    saved(colourful, tmp_path / "a.png")
    score = detector.predict(tmp_path / "a.png").score
    bgr = cv2.imread(str(tmp_path / "a.png"))
    assert detector.predict(colourful).score == score
    assert detector.predict((tmp_path / "a.png").read_bytes()).score == score
    assert detector.predict(bgr, channels="bgr").score == score
    assert detector.predict(bgr).score != score
    (found,) = detector.predict_many([bgr], channels="bgr")
    assert found.score == score


def test_one_bad_image_never_ends_a_batch(detector, tmp_path):
    bad = [image for image, _ in UNUSABLE.values()]
    results = list(detector.predict_many([RGB, *bad, b"text", RGB], batch_size=2))
    assert len(results) == len(bad) + 3
    assert all(isinstance(result, Failure) for result in results[1:-1])
    assert results[0].score == results[-1].score
    with pytest.raises(UsageError, match="not float64"):
        detector.predict(RGB / 255)
    with pytest.raises(UsageError, match="give rgb or bgr"):
        list(detector.predict_many([RGB], channels="gbr"))


def test_how_images_are_read_can_be_overridden(detector, tmp_path):
    pages = [Image.fromarray(picture(RNG)) for _ in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    before = detector.reading
    try:
        detector.reading = before.changed(page=2, max_megapixels=None)
        assert detector.predict(tmp_path / "a.tif").score == detector.predict(pages[1]).score
    finally:
        detector.reading = before
    with pytest.raises(UsageError, match="page is -1"):
        before.changed(page=-1)
    with pytest.raises(UsageError, match="unknown option 'pages'"):
        before.changed(pages=2)
