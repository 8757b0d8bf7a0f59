"""Decoding as a person would see it, layouts, and the checks on them."""

from __future__ import annotations

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from conftest import picture, save
from PIL import Image

from urd.data import UnreadableImage, decode_all, read_layout, read_mask, read_rgb
from urd.data.check import check
from urd.errors import UsageError

RNG = np.random.default_rng(0)
RGB = picture(RNG, 40)
GREY = RGB[..., 0]


def decoded(path, **options) -> np.ndarray:
    return np.asarray(read_rgb(path, **options)).astype(int)


def test_decoding_in_threads_leaves_the_callers_warnings_alone(tmp_path):
    paths = []
    for index in range(40):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(RGB).save(paths[-1])
    with warnings.catch_warnings():
        before = list(warnings.filters)
        for _ in range(5):
            decode_all(paths, (32, 32))
        assert list(warnings.filters) == before


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".webp", ".jpg", ".jpeg"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    smooth = np.linspace(20, 220, 40 * 40).reshape(40, 40).astype(np.uint8)
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(smooth).convert("RGB").save(path, **options)
    lossy = 3 if suffix in (".jpg", ".jpeg") else 0
    assert np.abs(decoded(path) - smooth[..., None]).max() <= lossy


def test_grey_becomes_three_equal_channels(tmp_path):
    image = decoded(save(GREY, tmp_path / "a.png"))
    assert np.array_equal(image, np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_is_scaled_by_a_fixed_white(tmp_path, suffix):
    values = np.linspace(0, 4095, 40 * 40).reshape(40, 40).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(values).save(path)
    expected = np.round(values / 65535 * 255)
    assert np.array_equal(decoded(path)[..., 0], expected)
    camera = decoded(path, white_level=4095)[..., 0]
    assert np.array_equal(camera, np.round(values / 4095 * 255))


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.dstack([RGB, np.full((40, 40), 255, np.uint8)])
    rgba[:20, :, 3] = 0
    image = decoded(save(rgba, tmp_path / "a.png"))
    assert (image[:20] == 255).all()
    assert np.array_equal(image[20:], RGB[20:])


def test_palette_and_its_transparency(tmp_path):
    paletted = Image.fromarray(np.repeat(np.arange(40, dtype=np.uint8)[None], 40, 0) // 20)
    paletted = Image.fromarray(np.asarray(paletted), mode=None).convert("P")
    paletted.putpalette([255, 0, 0, 0, 0, 255])
    paletted.save(tmp_path / "a.png")
    assert decoded(tmp_path / "a.png")[0, [0, 39]].tolist() == [[255, 0, 0], [0, 0, 255]]
    paletted.save(tmp_path / "b.png", transparency=0)
    assert decoded(tmp_path / "b.png")[0, [0, 39]].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_cmyk_looks_like_its_rgb(tmp_path):
    flat = Image.new("RGB", (40, 40), (200, 40, 90))
    flat.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(decoded(tmp_path / "a.jpg") - [200, 40, 90]).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    wide = np.zeros((30, 60, 3), np.uint8)
    wide[:10, :15] = 255  # a mark in the stored picture's upper left
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(wide).save(tmp_path / "a.png", exif=exif)
    image = decoded(tmp_path / "a.png")
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)}
    corner |= {5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert image.shape == ((30, 60, 3) if orientation < 5 else (60, 30, 3))
    assert image[corner[orientation]].tolist() == [255, 255, 255]


def huge_png(path):
    """A header that promises 30,000 x 30,000 pixels, and hardly any bytes."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def broken_files(folder):
    """Path and reason of every kind of file that cannot be used."""
    good = save(picture(RNG, 64), folder / "whole.png").read_bytes()
    Image.fromarray(picture(RNG, 64)).save(folder / "whole.jpg")
    jpeg = (folder / "whole.jpg").read_bytes()
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    save(np.zeros((1, 1, 3), np.uint8), folder / "dot.png")
    huge_png(folder / "huge.png")
    Image.fromarray(np.zeros((40, 40), np.float32)).save(folder / "float.tif")
    (folder / "loop.png").symlink_to("loop.png")
    return {
        "cut.png": "decoded",
        "cut.jpg": "decoded",
        "zero.png": "not an image",
        "text.png": "not an image",
        "dot.png": "1x1 is under",
        "huge.png": "megapixels",
        "float.tif": "floating-point",
        "loop.png": "cannot be read",
        "absent.png": "no such file",
    }


def test_unusable_files_say_why(tmp_path):
    for name, reason in broken_files(tmp_path).items():
        with pytest.raises(UnreadableImage, match=reason) as error:
            read_rgb(tmp_path / name)
        assert name in str(error.value)


def test_a_bad_image_never_ends_a_batch(tmp_path):
    reasons = broken_files(tmp_path)
    paths = [tmp_path / "whole.png", *(tmp_path / name for name in reasons), tmp_path / "whole.jpg"]
    images, kept, failures, _ = decode_all(paths, (32, 48))
    assert images.shape == (2, 32, 48, 3)
    assert kept == [0, len(paths) - 1]
    assert [f.path.name for f in failures] == list(reasons)


@pytest.mark.parametrize("value", [1, 127, 255])
def test_every_mask_value_above_zero_marks(tmp_path, value):
    mask = np.zeros((20, 20), np.uint8)
    mask[3:5, 4:9] = value
    assert np.array_equal(read_mask(save(mask, tmp_path / "m.png")), mask > 0)
    Image.fromarray(mask > 0).save(tmp_path / "bit.png")
    assert np.array_equal(read_mask(tmp_path / "bit.png"), mask > 0)


def test_mvtec_layout(data):
    data_set = read_layout(data)
    assert data_set.layout == "mvtec"
    assert len(data_set.train) == 12
    assert [s.defective for s in data_set.test] == [False] * 4 + [True] * 4
    assert data_set.test[4].masks[0].name == "000_mask.png"
    assert read_layout(f"mvtec_ad:{data}") == data_set


def test_plain_folder(tmp_path):
    for name in ("b.png", "a.PNG", ".hidden.png"):
        save(RGB, tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    data_set = read_layout(tmp_path)
    assert [s.path.name for s in data_set.train] == ["a.PNG", "b.png"]
    assert (data_set.layout, data_set.test) == ("folder", [])


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no folder at"):
        read_layout(tmp_path / "absent")
    (tmp_path / "inner").mkdir()
    with pytest.raises(UsageError, match=r"no images in .* folders inner"):
        read_layout(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        read_layout(save(RGB, tmp_path / "a.png"))


def test_check_finds_nothing_wrong_in_a_right_folder(data):
    report = check(data)
    assert report.problems == {}
    assert report.counts == {"train/good": 12, "test/good": 4, "test/square": 4}
    assert report.sizes == {"48x48": 20}
    assert report.modes == {"RGB": 20}


def test_check_names_every_kind_of_problem(data):
    truth = data / "ground_truth" / "square"
    (data / "train" / "good" / "000.png").write_bytes(b"")
    same = (data / "train" / "good" / "001.png").read_bytes()
    (data / "test" / "good" / "copy.png").write_bytes(same)
    (data / "train" / "good" / "again.png").write_bytes(
        (data / "train" / "good" / "002.png").read_bytes()
    )
    (truth / "000_mask.png").rename(truth / "999_mask.png")
    save(np.full((9, 9), 255, np.uint8), truth / "001_mask.png")
    save(np.zeros((48, 48), np.uint8), truth / "002_mask.png")
    problems = check(data).problems
    assert {kind: len(entries) for kind, entries in problems.items()} == {
        "unreadable": 1,
        "train_test_leak": 1,
        "duplicate": 1,
        "mask_without_image": 1,
        "defective_without_mask": 1,
        "mask_size": 1,
        "mask_over_half": 1,
        "empty_mask": 1,
    }
    assert "999_mask.png" in problems["mask_without_image"][0]
    assert "000.png" in problems["defective_without_mask"][0]


def test_a_bitmap_of_sixteen_bits_per_pixel_is_no_sixteen_bit_image(tmp_path):
    """5, 6 and 5 bits for red, green and blue, as frame grabbers write it."""
    masks = struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    pixels = struct.pack("<4H", 0xF800, 0x07E0, 0x001F, 0xFFFF) * 64
    info = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    start = 14 + len(info) + len(masks)
    path = tmp_path / "a.bmp"
    path.write_bytes(
        struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + masks + pixels
    )
    for white_level in (65535, 4095):
        row = decoded(path, white_level=white_level)[0, :4]
        assert row.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 3), (".png", 4), (".tif", 3)])
def test_sixteen_bit_colour_follows_the_white_level(tmp_path, suffix, channels):
    values = np.full((40, 30, channels), 65535, np.uint16)
    values[..., :3] = (4000, 2000, 1000)
    path = tmp_path / f"a{suffix}"
    order = [2, 1, 0, 3][:channels]
    cv2.imwrite(str(path), values[..., order])
    expected = [round(v / 4095 * 255) for v in (4000, 2000, 1000)]
    assert np.abs(decoded(path, white_level=4095)[0, 0] - expected).max() <= 1
    assert np.abs(decoded(path)[0, 0] - [15, 7, 3]).max() <= 1


@pytest.mark.parametrize("damage", [b"II*\x00\xff\xff\xff\xff", b"MM\x00*" + b"\xff" * 30, b"x"])
def test_damaged_exif_does_not_matter(tmp_path, damage):
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=b"Exif\x00\x00" + damage)
    assert np.array_equal(decoded(tmp_path / "a.png"), RGB)


def test_loose_masks_are_reported_and_empty_masks_of_good_images_are_not(data):
    empty = np.zeros((48, 48), np.uint8)
    save(empty, data / "ground_truth" / "good" / "000_mask.png")
    assert read_layout(data).orphan_masks == []
    loose = save(empty, data / "ground_truth" / "000_mask.png")
    assert read_layout(data).orphan_masks == [loose]
