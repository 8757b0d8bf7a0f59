"""`--page`, `--max-megapixels` and `--white-level` on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import TINY, picture
from PIL import Image

RNG = np.random.default_rng(0)


@pytest.fixture
def urd(urd):
    """Run the command in this process: exit code, and all that it says."""

    def run(*arguments):
        code, out, err = urd(*arguments)
        return code, out + err

    return run


@pytest.fixture
def stacks(tmp_path):
    """Two pages a file, in MVTec layout: the second of defective images shows a square."""
    root = tmp_path / "stacks"
    for part, count in (("train/good", 8), ("test/good", 2), ("test/square", 2)):
        (root / part).mkdir(parents=True)
        for index in range(count):
            first, second = picture(RNG), picture(RNG)
            if part == "test/square":
                second[10:22, 12:26] = RNG.integers(0, 255, (12, 14, 3))
            Image.fromarray(first).save(
                root / part / f"{index}.tif",
                save_all=True,
                append_images=[Image.fromarray(second)],
            )
    return root


def test_a_page_is_chosen_for_every_verb(urd, stacks, weights_file, tmp_path):
    run = tmp_path / "run"
    options = ["--backbone", TINY, "--weights", weights_file, "--image-size", 64, "--device", "cpu"]
    options += ["--iterations", 2, "--batch-size", 4, "--holdout", 0]
    code, said = urd("fit", stacks, "--out", run, *options)
    assert code == 2
    assert "choose one with --page N" in said
    code, said = urd("check", stacks)
    assert code == 1
    assert "12 files that cannot be used" in said
    assert urd("check", stacks, "--page", 2)[0] == 0

    code, said = urd("fit", stacks, "--out", run, "--page", 1, *options)
    assert code == 0, said
    assert urd("calibrate", run, stacks / "train/good", "--page", 2)[0] == 0
    for page, out in ((1, "first"), (2, "second")):
        found = urd("predict", run, stacks / "test", "--page", page, "--out", tmp_path / out)
        assert found[0] == 0, found[1]
    scores = {
        json.loads(row)["score"]
        for out in ("first", "second")
        for row in (tmp_path / out / "predictions.jsonl").read_text().splitlines()
    }
    assert len(scores) == 8
    for page in (2, 3):
        code, said = urd("evaluate", run, stacks, "--page", page, "--resamples", 0)
        assert code == (0 if page == 2 else 1), said
    assert "has no page 3" in said
    code, said = urd("report", run, "--page", -1)
    assert code == 2
    assert "page is -1; it must be between 0 and" in said


def test_the_limit_on_pixels_of_check_and_metrics(urd, tmp_path):
    for name in ("maps/good", "maps/bad", "masks/bad"):
        (tmp_path / name).mkdir(parents=True)
        values = np.zeros((1000, 1100), np.uint8)
        values[:40, : 40 + len(name)] = 255
        Image.fromarray(values).save(tmp_path / name / "a.png")
    command = ("metrics", "--maps", tmp_path / "maps", "--masks", tmp_path / "masks")
    for limited in (("check", tmp_path / "maps/good"), (*command, "--resamples", 0)):
        assert urd(*limited)[0] == 0
        code, said = urd(*limited, "--max-megapixels", 1)
        assert code == 1
        assert "allow more with --max-megapixels" in said


def test_check_takes_a_white_level(urd, tmp_path):
    values = RNG.integers(0, 4096, (32, 32)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    code, said = urd("check", tmp_path)
    assert (code, "--white-level 4095" in said) == (1, True)
    assert urd("check", tmp_path, "--white-level", 4095)[0] == 0
