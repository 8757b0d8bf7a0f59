"""A folder of odd files through `urd predict`: a row for each, and the images among them scored."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from conftest import TINY, picture
from PIL import Image

from urd import Detector


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header names a size and that holds next to nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The folder, and which of its files are images that can be scored."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(picture(rng))
    grey = rgb.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    png = encoded(rgb, "PNG")
    good = {
        "plain.png": png,
        "plain.JPG": encoded(rgb, "JPEG"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "progressive.jpeg": encoded(rgb, "JPEG", progressive=True),
        "turned.jpg": encoded(rgb, "JPEG", exif=exif),
        "sixteen.png": encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"),
        "alpha.png": encoded(rgb.convert("RGBA"), "PNG"),
        "palette.png": encoded(rgb.quantize(16), "PNG"),
        "one_bit.png": encoded(grey.convert("1"), "PNG"),
        "wide.png": encoded(rgb.resize((30_000, 40)), "PNG"),
        "wrong_ending.png": encoded(rgb, "BMP"),
        "a name, with; \"all\" 'signs' \n.png": png,
    }
    bad = {
        "animated.webp": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "pages.tiff": encoded(rgb, "TIFF", save_all=True, append_images=[rgb]),
        "truncated.png": png[: len(png) // 2],
        "truncated.jpg": encoded(rgb, "JPEG")[:300],
        "empty.png": b"",
        "text.png": b"this is text",
        "page.jpg": b"<!DOCTYPE html><html></html>",
        "huge.png": png_that_claims(60_000, 60_000),
        "hollow.png": png_that_claims(64, 64),
        "float.tiff": encoded(Image.fromarray(np.zeros((48, 48), np.float32)), "TIFF"),
        "one_pixel.png": encoded(rgb.resize((1, 1)), "PNG"),
        "noise.webp": rng.bytes(500),
    }
    for name, content in (good | bad).items():
        (folder / name).write_bytes(content)
    raw = os.fsencode(folder) + b"/not_utf8_\xff\xfe.png"
    with open(raw, "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(png)
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "locked.png").write_bytes(png)
    (folder / "locked.png").chmod(0)
    return folder, {*good, "not_utf8_\\udcff\\udcfe.png"}, {*bad, "loop.png", "dangling.png"}


def test_odd_files_have_a_row_each(odd, weights_file, data, tmp_path):
    folder, good, bad = odd
    options = {"backbone": TINY, "weights": weights_file, "iterations": 2, "batch_size": 4}
    Detector.fit(data, tmp_path / "run", image_size=64, device="cpu", **options)
    command = [sys.executable, "-m", "urd", "predict", tmp_path / "run", folder]
    done = subprocess.run(
        [*command, "--out", tmp_path / "p", "--device", "cpu"], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = (tmp_path / "p" / "predictions.jsonl").read_text().splitlines()
    rows = {row["path"].removeprefix(f"{folder}/"): row for row in map(json.loads, lines)}
    locked = rows.pop("locked.png")  # the superuser can read it
    assert (locked["error"] is None) == (locked["score"] is not None)
    assert set(rows) == good | bad
    assert {name for name, row in rows.items() if row["error"] is None} == good
    for name, row in rows.items():
        if name in good:
            assert np.isfinite(row["score"]) and row["verdict"] in ("OK", "REVIEW", "NG")
            assert (tmp_path / "p" / row["overlay"]).is_file()
        else:
            assert row["error"] and "\n" not in row["error"] and row["score"] is None
    upright = Image.open(folder / "turned.jpg")
    assert (rows["turned.jpg"]["width"], rows["turned.jpg"]["height"]) == upright.size[::-1]
