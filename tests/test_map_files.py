"""Anomaly maps on disk: the file types, the pairing with masks, and `urd metrics`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import save
from PIL import Image

from urd.errors import UrdError, UsageError
from urd.evaluation.map_files import as_test_images, find_maps, read_map, write_map
from urd.inspection.prediction import Prediction
from urd.metrics import METRICS, evaluate, evaluate_maps

MAP = np.random.default_rng(0).random((20, 30)).astype(np.float32)


def store(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        assert cv2.imwrite(str(path), array)
    return path


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.tiff", MAP),
        ("a.tif", MAP.astype(np.float64)),
        ("a.npy", MAP),
        ("a.npy", MAP.astype(np.float64)),
        ("a.npy", MAP.astype(np.float16)),
        ("a.npy", MAP[None]),
        ("a.npy", MAP[..., None]),
        ("a.npy", MAP.astype(">f4")),
        ("a.npy", MAP.astype(np.longdouble)),
        ("a.npy", (MAP * 2**30).astype(np.uint32)),
        ("a.npy", np.asfortranarray(MAP)),
        ("a.png", (MAP * 255).astype(np.uint8)),
        ("a.png", (MAP * 65535).astype(np.uint16)),
    ],
)
def test_a_map_is_read_as_it_was_written(tmp_path, name, array):
    found = read_map(store(tmp_path / name, array))
    assert np.array_equal(found, array.reshape(20, 30))
    exact = array.dtype.itemsize <= 2 or array.dtype.newbyteorder("=") == np.float32
    assert found.dtype == (np.float32 if exact else np.float64)
    assert found.dtype.isnative


def test_write_map_resizes_and_keeps_float32(tmp_path):
    write_map(tmp_path / "m" / "a.tiff", Prediction(1.0, MAP, (20, 30)))
    assert np.array_equal(read_map(tmp_path / "m" / "a.tiff"), MAP)
    write_map(tmp_path / "b.tiff", Prediction(1.0, MAP, (40, 90)))
    assert read_map(tmp_path / "b.tiff").shape == (40, 90)


def test_what_is_no_map_says_so(tmp_path):
    text = tmp_path / "text.tiff"
    text.write_text("no")
    cut = store(tmp_path / "cut.npy", MAP)
    cut.write_bytes(cut.read_bytes()[:200])
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    header = tmp_path / "header.npy"
    header.write_bytes(b"\x93NUMPY\x01\x00\x0b\x00{'descr': (\n")
    colour = save(np.zeros((9, 9, 3), np.uint8), tmp_path / "colour.png")
    cases = (
        text,
        cut,
        pickled,
        header,
        colour,
        tmp_path / "absent.tiff",
        store(tmp_path / "v.npy", MAP[0]),
    )
    for path in cases:
        with pytest.raises(UrdError) as error:
            read_map(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.fixture
def stored(tmp_path):
    """Maps and masks of 3 good, 2 scratched and 1 dented image in MVTec's layout."""
    rng = np.random.default_rng(1)
    maps, masks, defects = [], [], []
    for index, defect in enumerate(["good", "good", "good", "scratch", "scratch", "dent"]):
        anomaly_map, mask = rng.random((20, 30)).astype(np.float32), np.zeros((20, 30), bool)
        name = f"{index:03}"
        if defect != "good":
            mask[3 : 5 + index, 4:9] = True
            anomaly_map[mask] += 0.4
            save(mask.astype(np.uint8) * 255, tmp_path / f"gt/{defect}/{name}_mask.png")
        store(tmp_path / "maps" / defect / f"{name}.tiff", anomaly_map)
        maps.append(anomaly_map)
        masks.append(mask)
        defects.append(defect)
    return tmp_path, evaluate_maps(maps, np.array([m.max() for m in maps]), defects, masks)


def measured(root, maps="maps", masks="gt", resize=False):
    files = find_maps(root / maps, root / masks)
    return evaluate(as_test_images(files, resize=resize))


def test_maps_on_disk_give_the_metrics_of_maps_in_memory(stored):
    root, expected = stored
    assert measured(root) == expected


def test_the_folders_test_and_ground_truth_are_found(stored):
    root, expected = stored
    (root / "a").mkdir()
    (root / "maps").rename(root / "a" / "test")
    (root / "gt").rename(root / "a" / "ground_truth")
    assert measured(root, "a", "a") == expected


def test_a_picture_beside_the_folders_changes_nothing(stored):
    root, expected = stored
    save(np.zeros((5, 5, 3), np.uint8), root / "maps" / "overview.png")
    assert measured(root) == expected


def test_a_good_image_with_a_mask_that_marks_is_refused(stored):
    root, _ = stored
    save(np.full((20, 30), 255, np.uint8), root / "gt/good/001_mask.png")
    with pytest.raises(UsageError, match=r"001\.tiff is a good image, but its mask is not empty"):
        measured(root)


def test_several_masks_of_an_image_mark_together(stored):
    root, expected = stored
    mask = root / "gt/dent/005_mask.png"
    whole = np.array(Image.open(mask))
    for name, part in (("000.png", slice(0, 6)), ("001.png", slice(6, 20))):
        half = np.zeros_like(whole)
        half[part] = whole[part]
        save(half, root / "gt/dent/005" / name)
    mask.unlink()
    assert measured(root) == expected


def test_maps_and_masks_side_by_side_without_folders(stored):
    root, expected = stored
    for path in sorted((root / "maps").rglob("*.tiff")):
        mask = root / "gt" / path.parent.name / f"{path.stem}_mask.png"
        values = np.array(Image.open(mask)) if mask.exists() else np.zeros((20, 30), np.uint8)
        save(values, root / "masks" / f"{path.stem}.png")
        store(root / "flat" / f"{path.stem}.npy", read_map(path))
    found = measured(root, "flat", "masks")
    assert {name: found[name] for name in METRICS} == {name: expected[name] for name in METRICS}
    black = np.zeros((20, 30), np.uint8)
    save(black, root / "masks" / "005_mask.png")  # together they mark what 005.png marks
    assert measured(root, "flat", "masks")["aupro"] == expected["aupro"]
    (root / "masks" / "000.png").unlink()
    with pytest.raises(UsageError, match="good images need a black mask"):
        find_maps(root / "flat", root / "masks")


def test_maps_of_another_size_are_refused_or_resized(stored):
    root, expected = stored
    for path in (root / "maps").rglob("*.tiff"):
        store(path, cv2.resize(read_map(path), (60, 40), interpolation=cv2.INTER_NEAREST))
    sizes = r"005\.tiff is 60x40, its mask 30x20; .*--resize"
    with pytest.raises(UsageError, match=sizes):
        measured(root)
    resized = measured(root, resize=True)
    assert resized["aupro"] == pytest.approx(expected["aupro"], abs=1e-6)
    save(np.full((40, 60), 255, np.uint8), root / "gt/dent/005_mask.png")
    with pytest.raises(UsageError, match="the masks differ in size"):
        measured(root, resize=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "gt/dent/005_mask.png").unlink(), r"no mask for .*005\.tiff"),
        (lambda root: (root / "maps/good").rename(root / "maps/normal"), "must be called good"),
        (
            lambda root: (root / "maps/dent/005.tiff").unlink(),
            r"there is no map in .* for 1 of the masks, first .* end in \.tiff",
        ),
        (lambda root: store(root / "maps/good/000.npy", MAP), "two maps of one image"),
        (lambda root: (root / "maps").rename(root / "x"), "no folder of maps"),
        (lambda root: (root / "gt").rename(root / "x"), "no folder of masks"),
    ],
)
def test_what_does_not_go_together_is_refused(stored, change, message):
    root, _ = stored
    change(root)
    with pytest.raises(UsageError, match=message):
        find_maps(root / "maps", root / "gt")


def test_swapped_folders_are_noticed(stored):
    root, _ = stored
    with pytest.raises(UsageError, match=r"are the two folders swapped\?"):
        find_maps(root / "gt", root / "maps")


def test_no_maps_at_all(tmp_path):
    with pytest.raises(UsageError, match="no maps in"):
        find_maps(tmp_path, tmp_path)


def test_nan_is_refused_with_the_name_of_the_file(stored):
    root, _ = stored
    broken = read_map(root / "maps/good/001.tiff")
    broken[3, 3] = np.nan
    store(root / "maps/good/001.tiff", broken)
    with pytest.raises(UsageError, match=r"good.001\.tiff holds NaN or Inf"):
        measured(root)
