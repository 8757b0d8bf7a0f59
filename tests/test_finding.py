"""Which files are images: by content, through links, and without what is ours or hidden."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, save
from PIL import Image

from urd.data import find_named, search
from urd.data.check import check
from urd.errors import UrdError, UsageError

RNG = np.random.default_rng(0)


def encoded(form: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture(RNG, 32)).save(content, form)
    return content.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def below(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_an_image_is_known_by_its_content_and_by_its_name(tmp_path):
    png = encoded("PNG")
    by_content = {
        "a.jfif": encoded("JPEG"),
        "b.JPEG": encoded("JPEG"),
        "c.pgm": encoded("PPM"),
        "e.jp2": encoded("JPEG2000"),
        "f.gif": encoded("GIF"),
        "g.png.part": png,
        "h": png,
        "i.dat": encoded("BMP"),
        "j.2024": encoded("TIFF"),
        "k.txt": encoded("WEBP"),
        "l.photo": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    }
    by_name = {"m.png": b"", "n.JPG": b"text", "o.heic": b"", "p.tif.tmp": bytes(50)}
    others = {
        "x.json": b'{"a": 1}',
        "x.yaml": b"a: 1",
        "x.csv": b"a,b\n",
        "BMW.txt": b"BMW and so",
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        "desktop.ini": b"[x]",
        "x.png.json": b"{}",
        "y": b"",
        "v.mp4": b"\0\0\0\x18ftypisom\0\0\0\0",
        "w.avi": b"RIFF\0\0\0\0AVI LIST",
    }
    hidden = {".a.png": png, ".DS_Store": b"\0\0\0\1Bud1", ".git/b.png": png}
    found = search(write(tmp_path, by_content | by_name | others | hidden))
    assert set(below(found.images, tmp_path)) == {*by_content, *by_name}
    assert set(below(found.others, tmp_path)) == set(others)
    (line,) = found.passed_over()
    assert line.startswith("skipped 10 files that are not images: ") and line.endswith("5 more")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_sockets_and_broken_links_are_listed_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        names = below(search(tmp_path).images, tmp_path)
    assert names == ["a.png", "gone", "loop", "pipe", "s"]


@pytest.fixture
def linked(tmp_path):
    """cam1 with two images; cam2, a linked folder with two; a linked file; a way round."""
    for name in ("in/cam1/000.png", "in/cam1/001.png", "store/cam2/000.png", "store/cam2/001.png"):
        save(picture(RNG, 32), tmp_path / name)
    (tmp_path / "in/cam2").symlink_to(tmp_path / "store/cam2")
    (tmp_path / "in/file.png").symlink_to(tmp_path / "store/cam2/000.png")
    (tmp_path / "in/cam1/up").symlink_to(tmp_path / "in")
    (tmp_path / "store/cam2/here").symlink_to(".")
    return tmp_path / "in"


LINKED = ["cam1/000.png", "cam1/001.png", "cam2/000.png", "cam2/001.png", "file.png"]


@pytest.mark.parametrize("pattern", ["{0}", "{0}/**/*.png", "{0}/**"])
def test_linked_folders_are_followed_once(linked, tmp_path, pattern):
    found = find_named([pattern.format(linked)], tmp_path / "out")
    assert below(sorted(found.images), linked) == LINKED
    assert below(found.links, linked) == ["cam2"]
    assert below(found.loops, linked) == ["cam1/up", "cam2/here"]
    twice = find_named([str(linked), str(linked / "cam2")], tmp_path / "out")
    assert below(sorted(twice.images), linked) == LINKED


def test_folders_that_hold_one_another_end(tmp_path):
    folders = [tmp_path / f"{index}" for index in range(8)]
    for folder in folders:
        folder.mkdir()
        for other in folders:
            (folder / f"to{other.name}").symlink_to(other)
    with pytest.raises(UsageError, match="over 500 folders"):
        search(tmp_path, most_folders=500)


def test_deep_folders(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python's stack
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    save(picture(RNG, 32), tmp_path / "d/a.png")
    try:
        assert below(search(tmp_path).images, tmp_path) == ["d/a.png"]
    finally:  # Python's own clean-up is not deep enough
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every folder")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path):
    save(picture(RNG, 32), tmp_path / "inner/a.png")
    (tmp_path / "inner").chmod(0)
    with pytest.raises(UrdError, match=r"cannot read the folder .*inner: Permission denied"):
        search(tmp_path)


@pytest.fixture
def day(tmp_path):
    """Two photographs, and the results of two earlier calls beside them."""
    png = encoded("PNG")
    files = {"a.png": png, "b.png": png, "cam1/c.png": png, "notes.txt": b"n"}
    files |= {"morning/predictions.jsonl": b"", "morning/overlays/a.png": png}
    files |= {"morning/maps/day/a.tiff": png, "run/model.safetensors": b"", "run/x.png": png}
    files |= {"ground_truth/a_mask.png": png}
    return write(tmp_path / "day", files)


@pytest.mark.parametrize("pattern", ["{0}", "{0}/**", "{0}/**/*.png", "{0}/*"])
def test_results_and_masks_are_skipped_and_named(day, pattern):
    found = find_named([pattern.format(day)], day / "evening")
    images = ["a.png", "b.png", "cam1/c.png"]
    named = ["notes.txt"] if pattern == "{0}/*" else []  # what is named itself gets a row
    assert sorted(below(found.images, day)) == images + named
    said = " ".join(found.passed_over())
    assert f"2 folders of earlier results: {day}/morning, {day}/run" in said
    assert f"1 folder of masks: {day}/ground_truth" in said


def test_a_glob_reaches_no_picture_of_results_and_no_mask(day):
    with pytest.raises(UsageError, match=r"no images in .*skipped 1 folder of earlier results"):
        find_named([f"{day}/*/overlays/*.png"], day / "out")
    with pytest.raises(UsageError, match=r"no images in .*skipped 1 folder of masks"):
        find_named([f"{day}/g*/*.png"], day / "out")
    assert below(find_named([f"{day}/ground_truth/*.png"], day / "out").images, day) == [
        "ground_truth/a_mask.png"
    ]
    assert below(find_named([f"{day}/c*1"], day / "out").images, day) == ["cam1/c.png"]


@pytest.mark.parametrize("name", ["morning", "morning/overlays", "morning/maps/day", "run"])
def test_a_folder_of_results_is_not_judged(day, name):
    with pytest.raises(UsageError, match="folder of results"):
        find_named([str(day / name)], day / "evening")


def test_the_folder_of_the_images_is_none_for_results(day):
    with pytest.raises(UsageError, match=r"--out is the folder of images"):
        find_named([str(day)], day)
    (day / "mine").mkdir()
    save(picture(RNG, 32), day / "mine/overlays/a.png")
    found = find_named([str(day)], day / "mine")  # with --overwrite, perhaps
    assert day / "mine" in found.results


def test_check_reads_what_has_other_names(tmp_path):
    folder = write(tmp_path, {"a.png": encoded("PNG"), "b": encoded("JPEG"), "c.txt": b"x"})
    report = check(folder)
    assert report.problems == {} and report.counts == {"train/good": 2}
    assert report.passed_over == [f"skipped 1 file that is not an image: {folder}/c.txt"]
