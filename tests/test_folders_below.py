"""Data sets with folders below those of the layout: every image is used, or said not to be."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import picture, save

from urd.cli import cli
from urd.data import find_named, read_layout
from urd.data.check import check
from urd.errors import UsageError
from urd.evaluation.evaluate import refuse_unusable
from urd.evaluation.map_files import find_maps
from urd.results.prediction_files import map_names
from urd.training.training_data import load_training_data

RNG = np.random.default_rng(0)
MASK = np.zeros((48, 48), np.uint8)
MASK[10:20, 10:20] = 255

GREY = (0.5, 0.5, 0.5)


def image(path, content=None):
    return save(picture(RNG) if content is None else content, path)


def moved(data, old, new):
    (data / new).parent.mkdir(parents=True, exist_ok=True)
    (data / old).rename(data / new)


LAYOUTS = {
    "mvtec": ("train/good", "test", "good", "ground_truth"),
    "btad": ("train/ok", "test", "ok", "ground_truth"),
    "mvtec_loco": ("train/good", "test", "good", "ground_truth"),
    "mvtec_ad_2": ("train/good", "test_public", "good", "test_public/ground_truth"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_part_of_a_layout_is_read_with_its_folders(tmp_path, layout):
    train, test, good, truth = LAYOUTS[layout]
    for folder in ("", "a/", "a/b/"):
        image(tmp_path / train / f"{folder}000.png")
        image(tmp_path / test / good / f"{folder}000.png")
    for folder in ("cam1", "cam2"):
        image(tmp_path / test / "dent" / folder / "000.png")
        image(tmp_path / truth / "dent" / folder / "000_mask.png", MASK)
    if layout in ("mvtec_loco", "mvtec_ad_2"):
        image(tmp_path / "validation/good/day/000.png")
    data_set = read_layout(tmp_path)
    assert data_set.layout == layout
    assert (len(data_set.train), len(data_set.test)) == (3, 5)
    refuse_unusable(data_set)
    dents = [sample for sample in data_set.test if sample.defect == "dent"]
    for sample, folder in zip(dents, ("cam1", "cam2"), strict=True):
        assert sample.masks == (tmp_path / truth / "dent" / folder / "000_mask.png",)
    report = check(tmp_path)
    assert report.problems == {}
    assert report.counts["test/dent"] == 2 and report.folders[f"{train}/a"] == 1
    assert report.counts.get("validation/good", 1) == 1


def test_several_masks_lie_in_a_folder_of_their_image_at_any_depth(tmp_path):
    image(tmp_path / "train/good/000.png")
    image(tmp_path / "test/dent/cam1/000.png")
    for name in ("000", "001"):
        image(tmp_path / f"ground_truth/dent/cam1/000/{name}.png", MASK)
    (sample,) = read_layout(tmp_path).test
    assert [mask.name for mask in sample.masks] == ["000.png", "001.png"]


@pytest.mark.parametrize(
    ("images", "mask"),
    [
        (("000.png", "000.bmp"), "000_mask.png"),
        (("000.png", "000/001.png"), "000/001.png"),
        (("000.png", "000_mask.png"), "000_mask.png"),
    ],
)
def test_a_mask_for_two_images_is_refused_with_both_names(tmp_path, images, mask):
    image(tmp_path / "train/good/000.png")
    for name in images:
        image(tmp_path / "test/dent" / name)
    image(tmp_path / "ground_truth/dent" / mask, MASK)
    names = "|".join(re.escape(f"dent/{name}") for name in images)
    with pytest.raises(UsageError, match=rf"ground_truth/dent/{mask} .*({names}) and .*({names})"):
        read_layout(tmp_path)
    assert len(check(tmp_path).problems["disputed_mask"]) == 1


def test_names_with_dots_and_without_suffix_have_masks_of_their_own(tmp_path):
    image(tmp_path / "train/good/000.png")
    for number in ("0001", "0002"):
        image(tmp_path / "a.png").rename(image(tmp_path / f"test/dent/IMG.{number}.png"))
        moved(tmp_path, f"test/dent/IMG.{number}.png", f"test/dent/IMG.{number}")
        image(tmp_path / f"ground_truth/dent/IMG.{number}_mask.png", MASK)
    data_set = read_layout(tmp_path)
    refuse_unusable(data_set)
    assert [s.masks[0].name[:8] for s in data_set.test] == ["IMG.0001", "IMG.0002"]


def test_images_below_a_plain_folder_are_refused_by_the_names_of_their_folders(tmp_path):
    for name in ("a.png", "b.png", "bad/c.png", "monday/d.png", "monday/e.png"):
        image(tmp_path / name)
    with pytest.raises(UsageError, match=r"good images, but .* below it: bad \(1\), monday \(2\)"):
        read_layout(tmp_path)
    report = check(tmp_path)
    assert report.counts == {"train/good": 2}
    assert report.problems == {"not_used": ["1 in bad", "2 in monday"]}


def test_results_below_a_plain_folder_are_skipped_and_it_is_none_itself(tmp_path):
    for name in ("a.png", "b.png", "results/overlays/a.png"):
        image(tmp_path / name)
    (tmp_path / "results/predictions.jsonl").touch()
    data_set = read_layout(tmp_path)
    assert len(data_set.train) == 2
    assert data_set.passed_over() == [
        f"skipped 1 folder of earlier results: {tmp_path / 'results'}"
    ]
    image(tmp_path / "results/a.png")
    with pytest.raises(UsageError, match="folder of results"):
        read_layout(tmp_path / "results")


def test_images_beside_the_layout_are_named(data):
    for name in ("test/loose.png", "train/bad/000.png", "originals/a/000.png"):
        image(data / name)
    (data / "test/empty").mkdir()
    image(data / "test/results/overlays/000.png")
    (data / "test/results/predictions.jsonl").touch()
    data_set = read_layout(data)
    assert {sample.defect for sample in data_set.test} == {"good", "square"}
    said = "\n".join(data_set.passed_over())
    assert "not part of the layout: 1 in originals/a, 1 in test, 1 in train/bad" in said
    assert f"no images in {data}/test/empty" in said
    problems = check(data).problems
    assert problems["not_used"] == ["1 in originals/a", "1 in test", "1 in train/bad"]
    assert problems["empty_folder"] == [f"{data}/test/empty"]


def test_what_is_not_used_is_said_on_standard_error(data, capsys, shown):
    image(data / "train/bad/000.png")
    read_layout(data)
    assert capsys.readouterr().err == (
        "skipped images that are not part of the layout: 1 in train/bad\n"
    )


def test_a_linked_data_set(data, tmp_path):
    linked = tmp_path / "linked"
    for name in ("train/good", "test/good", "test/square", "ground_truth"):
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(data / name)
    data_set = read_layout(linked)
    assert (len(data_set.train), len(data_set.test)) == (12, 8)
    refuse_unusable(data_set)
    report = check(linked)
    assert report.problems == {} and len(report.links) == 4


def test_textures_and_foreground_masks_lie_in_folders_too(data, tiny_config, tmp_path):
    from dataclasses import replace

    import torch

    moved(data, "train/good/000.png", "train/good/cam1/001.png")
    paths = sorted((data / "train/good").rglob("*.png"))
    for path in paths:
        where = path.relative_to(data / "train/good")
        mask = MASK if where.parent.name else 255 - MASK
        image((tmp_path / "masks" / where).with_stem(f"{where.stem}_mask"), mask)
    for name in ("a/0.png", "b.png", "c.jfif"):
        image(tmp_path / "store" / name) if "jfif" not in name else image(
            tmp_path / "store/c.jpg"
        ).rename(tmp_path / "store/c.jfif")
    (tmp_path / "textures").symlink_to(tmp_path / "store")
    config = replace(
        tiny_config,
        foreground=str(tmp_path / "masks"),
        textures=str(tmp_path / "textures"),
        holdout=0.0,
    )
    samples = read_layout(data).train
    training_data = load_training_data(samples, config, GREY, torch.device("cpu"))
    assert training_data.facts.textures == 3
    share = [float(mask.float().mean()) for mask in training_data.train.foreground]
    assert [value < 0.5 for value in share] == [s.path.parent.name == "cam1" for s in samples]
    (tmp_path / "masks/cam1/001_mask.png").unlink()
    with pytest.raises(UsageError, match=r"001_mask\.png is the foreground mask of two images"):
        load_training_data(samples, config, GREY, torch.device("cpu"))


def test_maps_of_folders_below_are_paired_with_their_masks(data, tmp_path):
    for index in range(4):
        moved(data, f"test/square/{index:03}.png", f"test/square/cam{index}/000.png")
        moved(
            data,
            f"ground_truth/square/{index:03}_mask.png",
            f"ground_truth/square/cam{index}/000_mask.png",
        )
    images = find_named([str(data / "test")], tmp_path / "out").images
    for name in map_names(images):
        image((tmp_path / name).with_suffix(".png"), MASK)
    files = find_maps(tmp_path / "maps", data)
    assert sorted(file.defect for file in files) == ["good"] * 4 + ["square"] * 4
    for file in files:
        if file.defect == "square":
            assert file.masks[0].parent.name == file.path.parent.name


def test_images_without_labels_are_counted_and_said_not_to_be_used(tmp_path):
    for name in ("train/good/0.png", "test_public/good/0.png", "test_private/0.png"):
        image(tmp_path / name)
    assert read_layout(tmp_path).passed_over() == [
        "skipped images without labels: 1 in test_private"
    ]
    report = check(tmp_path)
    assert report.problems == {}
    assert report.counts["test_private (no labels, not used)"] == 1


def test_the_command_names_what_it_skips(data, capsys):
    image(data / "train/bad/000.png")
    (data / "readme.txt").write_text("text")
    with pytest.raises(SystemExit) as stop:
        cli(["check", str(data)], standalone_mode=False)
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "1 folders with images that are not used:\n    1 in train/bad" in printed
    assert f"skipped 1 file that is not an image: {data}/readme.txt" in printed
    assert "no problems found" not in printed
