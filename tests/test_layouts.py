"""The public benchmarks' own folders, names, file types and mask encodings."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from conftest import picture, save
from PIL import Image

from urd.data import SOURCES, UnreadableImage, read_layout, read_masks
from urd.data.check import check
from urd.errors import UsageError


def write_mask(path, values):
    """Rows 4 to 12 of a 48-pixel mask, one value after the other."""
    mask = np.zeros((48, 48), np.uint8)
    for index, value in enumerate(values):
        mask[4 + 3 * index : 7 + 3 * index, 10:20] = value
    return save(mask, path)


def images(folder, names):
    rng = np.random.default_rng(zlib.crc32(str(folder).encode()))
    for name in names:
        save(picture(rng), folder / name)


def mvtec_ad(root):
    images(root / "bottle/train/good", ["000.png", "001.png", "002.png"])
    images(root / "bottle/test/good", ["000.png", "001.png"])
    images(root / "bottle/test/broken_large", ["000.png", "001.png"])
    for index in range(2):
        write_mask(root / f"bottle/ground_truth/broken_large/{index:03}_mask.png", [255])
    return "bottle"


def mpdd(root):
    images(root / "bracket_black/train/good", ["000.png", "001.png", "002.png"])
    images(root / "bracket_black/test/good", ["000.png", "001.png"])
    images(root / "bracket_black/test/hole", ["000.png", "001.png"])
    for index in range(2):
        write_mask(root / f"bracket_black/ground_truth/hole/{index:03}_mask.png", [255])
    return "bracket_black"


def btad(category, image, mask):
    def make(root):
        images(root / category / "train/ok", [f"{i:04}{image}" for i in range(3)])
        images(root / category / "test/ok", [f"{i:04}{image}" for i in range(2)])
        images(root / category / "test/ko", [f"{i:04}{image}" for i in range(2)])
        for index in range(2):
            write_mask(root / category / f"ground_truth/ko/{index:04}{mask}", [255])
        return category

    return make


def visa(root):
    images(root / "candle/Data/Images/Normal", [f"{i:04}.JPG" for i in range(5)])
    images(root / "candle/Data/Images/Anomaly", ["000.JPG", "001.JPG"])
    rows = ["object,split,label,image,mask"]
    for index in range(5):
        split = "train" if index < 3 else "test"
        rows.append(f"candle,{split},normal,candle/Data/Images/Normal/{index:04}.JPG,")
    for index in range(2):
        write_mask(root / f"candle/Data/Masks/Anomaly/{index:03}.png", [1, 4])  # class numbers
        rows.append(
            f"candle,test,anomaly,candle/Data/Images/Anomaly/{index:03}.JPG,"
            f"candle/Data/Masks/Anomaly/{index:03}.png"
        )
    rows.append("capsules,train,normal,capsules/Data/Images/Normal/000.JPG,")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return "candle"


def mvtec_loco(root):
    images(root / "pushpins/train/good", ["000.png", "001.png", "002.png"])
    images(root / "pushpins/validation/good", ["000.png"])
    images(root / "pushpins/test/good", ["000.png", "001.png"])
    for kind, index in (("logical_anomalies", 0), ("structural_anomalies", 1)):
        images(root / f"pushpins/test/{kind}", [f"{index:03}.png"])
        folder = root / f"pushpins/ground_truth/{kind}/{index:03}"
        write_mask(folder / "000.png", [254])  # the value names the kind of defect
        write_mask(folder / "001.png", [0, 0, 250])
    return "pushpins"


def mvtec_ad_2(root):
    images(root / "can/train/good", [f"{i:03}_regular.png" for i in range(3)])
    images(root / "can/validation/good", ["000_regular.png"])
    images(root / "can/test_public/good", ["000_regular.png", "001_overexposed.png"])
    images(root / "can/test_public/bad", ["000_regular.png", "001_shift_1.png"])
    for name in ("000_regular", "001_shift_1"):
        write_mask(root / f"can/test_public/ground_truth/bad/{name}_mask.png", [255])
    images(root / "can/test_private", ["000.png"])
    return "can"


LAYOUTS = {
    "mvtec_ad": mvtec_ad,
    "mpdd": mpdd,
    "btad-01": btad("01", ".bmp", ".png"),
    "btad-02": btad("02", ".png", ".png"),
    "btad-03": btad("03", ".bmp", ".bmp"),
    "visa": visa,
    "mvtec_loco": mvtec_loco,
    "mvtec_ad_2": mvtec_ad_2,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("prefixed", [True, False], ids=["prefixed", "bare"])
def test_layout(name, prefixed, tmp_path):
    category = LAYOUTS[name](tmp_path)
    prefix = name.partition("-")[0]
    data = f"{prefix}:{tmp_path}/{category}" if prefixed else tmp_path / category
    data_set = read_layout(data)
    assert data_set.layout == SOURCES[prefix].layout
    assert category in SOURCES[prefix].categories
    assert len(data_set.train) == 3
    assert [s.defective for s in data_set.test].count(True) == 2
    assert [s.defective for s in data_set.test].count(False) == 2
    assert data_set.has_masks
    assert not data_set.missing_masks
    assert not data_set.orphan_masks
    for sample in data_set.test:
        assert bool(sample.masks) == sample.defective
        if sample.masks:
            marked = read_masks(sample.masks)
            expected = {"visa": 60, "mvtec_loco": 60}.get(prefix, 30)
            assert marked.sum() == expected
    report = check(data)
    assert report.problems == {}
    assert report.layout == data_set.layout


def test_loco_has_several_masks_per_image_and_keeps_validation_apart(tmp_path):
    data_set = read_layout(tmp_path / mvtec_loco(tmp_path))
    assert [len(s.masks) for s in data_set.test if s.defective] == [2, 2]
    assert len(data_set.validation) == 1
    assert {s.defect for s in data_set.test} == {
        "good",
        "logical_anomalies",
        "structural_anomalies",
    }
    assert check(tmp_path / "pushpins").counts["validation/good"] == 1


def test_a_missing_root_says_where_the_data_is(tmp_path):
    for prefix, source in SOURCES.items():
        with pytest.raises(UsageError) as error:
            read_layout(f"{prefix}:{tmp_path}/nowhere/{source.categories[0]}")
        assert source.url in str(error.value)
        assert source.licence in str(error.value)
        assert "\n" not in str(error.value)


def test_a_root_instead_of_a_category_names_the_categories(tmp_path):
    mvtec_ad(tmp_path)
    with pytest.raises(UsageError, match="give one of its categories: bottle"):
        read_layout(f"mvtec_ad:{tmp_path}")


def test_a_category_of_another_benchmark_is_refused(tmp_path):
    category = mvtec_ad(tmp_path)
    with pytest.raises(UsageError, match="is not a category of BTAD"):
        read_layout(f"btad:{tmp_path}/{category}")
    with pytest.raises(UsageError, match="unknown benchmark 'mvtec'"):
        read_layout(f"mvtec:{tmp_path}/{category}")


def test_visa_without_or_with_a_damaged_split_file(tmp_path):
    category = visa(tmp_path)
    split = tmp_path / "split_csv/1cls.csv"
    for content in (
        b"a,b\n1,2\n",
        b"object,split,label,image,mask\ncandle,x,normal,a.JPG,\n",
        b"\xff",
    ):
        split.write_bytes(content)
        with pytest.raises(UsageError, match=r"1cls\.csv"):
            read_layout(tmp_path / category)
    split.write_text("object,split,label,image,mask\n")
    with pytest.raises(UsageError, match="has no rows of candle"):
        read_layout(tmp_path / category)
    split.unlink()
    with pytest.raises(UsageError, match="its split file"):
        read_layout(f"visa:{tmp_path}/{category}")


def test_visa_images_that_are_missing_are_reported(tmp_path):
    category = visa(tmp_path)
    (tmp_path / "candle/Data/Images/Anomaly/001.JPG").unlink()
    (tmp_path / "candle/Data/Masks/Anomaly/000.png").unlink()
    report = check(tmp_path / category)
    assert len(report.problems["unreadable"]) == 2


def test_masks_of_different_sizes_do_not_go_together(tmp_path):
    category = mvtec_loco(tmp_path)
    folder = tmp_path / category / "ground_truth/logical_anomalies/000"
    Image.new("L", (30, 30), 255).save(folder / "002.png")
    sample = next(s for s in read_layout(tmp_path / category).test if len(s.masks) == 3)
    with pytest.raises(UnreadableImage, match=r"of another size than 000\.png"):
        read_masks(sample.masks)
    assert len(check(tmp_path / category).problems["mask_size"]) == 1
