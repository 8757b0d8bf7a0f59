"""The rendered products: seeded, with exact masks, and the whole demonstration on a tiny scale."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from urd import cli
from urd.demo import dataset
from urd.demo.dataset import PRODUCTS, render_dataset, render_sample


@pytest.mark.parametrize(
    ("product", "kind"), [(p, k) for p, (_, kinds) in PRODUCTS.items() for k in kinds]
)
def test_the_mask_is_where_the_defect_is(product, kind):
    for index in range(3):
        image, mask = render_sample(product, kind, "test", index, seed=1)
        again, _ = render_sample(product, kind, "test", index, seed=1)
        assert np.array_equal(image, again)
        assert set(np.unique(mask)) == {0, 255}
        assert 10 < (mask > 0).sum() < 0.1 * mask.size


@pytest.mark.parametrize("product", PRODUCTS)
def test_outside_the_mask_a_defect_changes_next_to_nothing(product):
    """The same picture without the defect differs inside the mask and hardly outside."""
    render, kinds = PRODUCTS[product]
    for kind in kinds:
        with_defect, stencil = render(np.random.default_rng(3), kind)
        without, _ = render(np.random.default_rng(3), None)
        changed = np.abs(with_defect - without).max(axis=2) > 0.03
        near = cv2.dilate((stencil > 0).astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
        assert changed[near].any()
        assert changed[~near].mean() < 0.002


@pytest.mark.parametrize("product", PRODUCTS)
def test_good_pictures_vary(product):
    images = [render_sample(product, None, "train", i, seed=0)[0].astype(int) for i in range(3)]
    assert np.abs(images[0] - images[1]).mean() > 5
    assert np.abs(images[1] - images[2]).mean() > 5


def test_rendered_folder_is_in_mvtec_layout(tmp_path):
    folder = render_dataset(tmp_path, "denim", train=2, test_good=1, per_defect=1, seed=0)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))
    kinds = sorted(PRODUCTS["denim"][1])
    assert names == sorted(
        ["train/good/000.png", "train/good/001.png", "test/good/000.png"]
        + [f"test/{kind}/000.png" for kind in kinds]
        + [f"ground_truth/{kind}/000_mask.png" for kind in kinds]
    )


def test_demo_command(tmp_path, monkeypatch, capsys, weights_file):
    """Everything `urd demo` does, with fewer and smaller pictures."""
    monkeypatch.setattr("urd.cli.demo._TRAIN", 6)
    monkeypatch.setattr("urd.cli.demo._TEST_GOOD", 2)
    monkeypatch.setattr("urd.cli.demo._PER_DEFECT", 2)
    out = tmp_path / "demo"
    command = ["urd", "demo", "--out", str(out), "--iterations", "2"]
    command += ["--backbone", "test_resnet.r160_in1k", "--weights", "none"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    captured = capsys.readouterr()
    assert f"{out / 'denim.png'} and {out / 'runs' / 'denim' / 'report.html'}" in captured.out
    results = json.loads((out / "evaluation.json").read_text())
    for product in PRODUCTS:
        assert results[product]["n_defective"] == 10
        assert results[product]["n_good"] == 2
        assert "<svg" in (out / "runs" / product / "report.html").read_text()
        with Image.open(out / f"{product}.png") as sheet:
            assert sheet.height > 6 * dataset.SIZE  # a row for good and each of five defects
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
