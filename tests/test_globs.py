"""Globs in place of DATA and of folders: what fits, and errors where nothing does."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture, save

from urd.data import read_good_images, read_layout
from urd.data.globs import one_folder
from urd.errors import UsageError


@pytest.fixture
def days(tmp_path):
    """Folders of good images, one with a folder of bad ones below it."""
    rng = np.random.default_rng(0)
    for name in ("day1/a.png", "day1/b.png", "day2/a.png", "other/a.png"):
        save(picture(rng), tmp_path / name)
    (tmp_path / "day1" / "notes.txt").write_text("x")
    return tmp_path


def names(images, root):
    return [path.relative_to(root).as_posix() for path in images]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("day*", ["day1/a.png", "day1/b.png", "day2/a.png"]),
        ("day*/a.png", ["day1/a.png", "day2/a.png"]),
        ("day1/*", ["day1/a.png", "day1/b.png"]),
        ("**/a.png", ["day1/a.png", "day2/a.png", "other/a.png"]),
        ("day[2-9]", ["day2/a.png"]),
        ("day2/?.png", ["day2/a.png"]),
    ],
)
def test_a_glob_is_a_set_of_good_images(days, pattern, found):
    data = read_layout(f"{days}/{pattern}")
    assert data.layout == "folder" and data.test == []
    assert names([sample.path for sample in data.train], days) == found
    assert names(read_good_images(days / pattern), days) == found


def test_images_in_folders_below_are_not_taken_for_good_ones(days):
    save(picture(np.random.default_rng(1)), days / "day1" / "bad" / "x.png")
    with pytest.raises(UsageError, match="folders below it"):
        read_layout(f"{days}/day*")
    assert len(read_layout(f"{days}/day*/*.png").train) == 3
    assert len(read_layout(f"{days}/**").train) == 5  # asked for every depth


def test_a_glob_may_mean_one_data_set_but_not_two(data, tmp_path):
    assert len(read_layout(f"{tmp_path}/da*").test) == 8
    assert len(read_layout(f"{tmp_path}/da*/train/good").train) == 12
    assert len(read_layout(f"mvtec_ad:{tmp_path}/da*").test) == 8
    with pytest.raises(UsageError, match="is not a category of VisA"):
        read_layout(f"visa:{tmp_path}/da*")
    (tmp_path / "date" / "train" / "good").mkdir(parents=True)
    with pytest.raises(UsageError, match="give one data set"):
        read_layout(f"{tmp_path}/da*")


@pytest.mark.parametrize("pattern", ["nothing*", "day1/*.txt", "day*/**/*.bmp"])
def test_a_glob_that_fits_no_image_is_an_error(days, pattern):
    with pytest.raises(UsageError, match=r"no images fit|nothing fits|no images in"):
        read_layout(f"{days}/{pattern}")


def test_a_folder_whose_name_looks_like_a_glob_is_itself(days):
    save(picture(np.random.default_rng(2)), days / "day[2-9]" / "own.png")
    assert names([s.path for s in read_layout(days / "day[2-9]").train], days) == [
        "day[2-9]/own.png"
    ]


def test_one_folder(days):
    assert one_folder(f"{days}/oth*") == f"{days}/other"
    assert one_folder(f"{days}/none") == f"{days}/none"
    with pytest.raises(UsageError, match="no folder fits"):
        one_folder(f"{days}/day1/*.txt")
    with pytest.raises(UsageError, match=r"2 folders fit .*; give one"):
        one_folder(f"{days}/day?")


def test_verbs_take_globs(urd, data, tmp_path):
    assert "train/good 12" in urd("check", f"{tmp_path}/d*")[1]
    code, out, _ = urd("check", f"{data}/train/good/00*.png")
    assert code == 0 and "train/good 10" in out
    code, _, error = urd("check", f"{tmp_path}/x*")
    assert code == 2 and error == f"urd: nothing fits {tmp_path}/x*\n"
    code, _, error = urd("metrics", "--maps", f"{data}/tes*", "--masks", f"{data}/x*")
    assert code == 2 and error == f"urd: nothing fits {data}/x*\n"
    code, _, error = urd("metrics", "--maps", f"{data}/tes*", "--masks", f"{data}/ground_*")
    assert code == 1 and f"{data}/test/good/000.png" in error  # a picture is no map
