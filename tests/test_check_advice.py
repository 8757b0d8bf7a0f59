"""What `urd check` suggests: shape, mixed sources, near-duplicates, number of good images."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from conftest import picture, save
from PIL import Image

from urd.data import check as check_module
from urd.data.advice import image_size_advice
from urd.data.check import check
from urd.data.exif import camera_of
from urd.data.lookalikes import lookalikes, small_picture
from urd.inspection.calibration import limit
from urd.training.holdout_count import holdout_count


def scene(rng: np.random.Generator, size=(96, 96)) -> np.ndarray:
    """Soft blobs with sensor noise: no two scenes look alike."""
    coarse = rng.integers(0, 255, (6, 6, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    return noisy(np.asarray(smooth), rng)


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def suggestion(data, word: str) -> str:
    (line,) = [line for line in check(data).suggestions if word in line]
    assert "\n" not in line
    return line


def test_a_usual_folder_gets_no_suggestion_about_its_images(data):
    assert check(data).suggestions == []


@pytest.mark.parametrize(
    ("size", "shape"),
    [((160, 64), "256x640"), ((64, 160), "640x256"), ((64, 128), "512x256"), ((60, 45), None)],
)
def test_wide_and_high_images_get_their_own_shape(tmp_path, size, shape):
    rng = np.random.default_rng(0)
    for name in range(3):
        save(scene(rng, size), tmp_path / f"{name}.png")
    if shape is None:
        assert check(tmp_path).suggestions == []
    else:
        assert f"--image-size {shape} (height x width)" in suggestion(tmp_path, "image-size")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ((256, 256), "256x640 (height x width), which squeezes them less than 256x256 and takes"),
        ((640, 256), "256x640 (height x width), which squeezes them less than 640x256"),
        ((128, 192), "128x320 (height x width), which squeezes them less than 128x192 and takes"),
        ((256, 640), None),
        ((256, 512), None),
    ],
)
def test_a_training_is_told_what_shape_its_images_need(network, said):
    advice = list(image_size_advice([(400, 1000)] * 3, network))
    assert (said is None) == (not advice)
    if said is not None:
        assert f"--image-size {said}" in advice[0]
        assert ("takes" in said) == ("takes" in advice[0])


def test_the_longest_input_is_not_advised_to_who_has_it():
    (advice,) = image_size_advice([(100, 3000)], (64, 512))
    assert "--image-size 64x1920" in advice
    assert list(image_size_advice([(100, 9000)], (64, 2048))) == []


def test_several_sizes_and_modes_are_named_with_an_example(data):
    rng = np.random.default_rng(1)
    odd = save(picture(rng, 60), data / "test" / "square" / "odd.png")
    grey = data / "train" / "good" / "grey.png"
    Image.fromarray(picture(rng)[..., 0]).save(grey)
    report = check(data)
    sizes, modes = report.suggestions
    assert sizes.startswith(f"2 sizes (48x48 21, 60x60 1; see {odd}): ")
    assert sizes.endswith("; no training image has 60x60")
    assert modes.startswith(f"2 modes (RGB 21, L 1; see {grey}): ") and "no training" not in modes


def photo(path, rng, make="Acme", model="C1", serial="7"):
    exif = Image.Exif()
    exif[271], exif[272] = make, model
    exif.get_ifd(0x8769)[0xA431] = serial
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(rng)).save(path, exif=exif)
    return path


def test_cameras_are_told_apart_by_their_serial_number(tmp_path):
    rng = np.random.default_rng(2)
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path / name, rng)
    assert check(tmp_path).suggestions == []
    assert check(tmp_path).cameras == {"Acme C1 7": 2}
    photo(tmp_path / "c.jpg", rng, serial="8")
    save(scene(rng), tmp_path / "without.png")
    line = suggestion(tmp_path, "cameras")
    assert line.startswith("2 cameras (Acme C1 7 2, Acme C1 8 1; see ") and "c.jpg" in line


@pytest.mark.parametrize(
    ("make", "said"),
    [("Acme\x1b[31m\nX", r"Acme\x1b[31m C1 7"), ("A" * 500, "A" * 40 + " C1 7"), ("\0", "C1 7")],
)
def test_what_exif_says_is_one_short_printable_line(tmp_path, make, said):
    path = photo(tmp_path / "a.jpg", np.random.default_rng(3), make=make)
    with Image.open(path) as image:
        assert camera_of(image) == said


def test_damaged_exif_is_no_camera_and_no_error():
    content = io.BytesIO()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + b"\xff" * 40
    Image.new("RGB", (32, 32)).save(content, "JPEG", exif=exif)
    with Image.open(content) as image:
        assert camera_of(image) is None


@pytest.fixture
def scenes(tmp_path):
    rng = np.random.default_rng(4)
    for number in range(20):
        save(scene(rng), tmp_path / "train" / "good" / f"{number:02}.png")
    for number in range(5):
        save(scene(rng), tmp_path / "test" / "good" / f"{number:02}.png")
    return tmp_path


def test_a_photograph_taken_twice_is_found_in_train_and_test(scenes):
    assert check(scenes).suggestions == []
    rng = np.random.default_rng(5)
    original = scenes / "train" / "good" / "07.png"
    image = np.asarray(Image.open(original))
    again = scenes / "test" / "scratch" / "again.jpg"
    again.parent.mkdir()
    brighter = (1.04 * noisy(image, rng)).clip(0, 255).astype(np.uint8)
    Image.fromarray(brighter).save(again, quality=70)
    report = check(scenes)
    (line,) = report.suggestions
    assert f"1 test images look almost like a training image, such as {again}" in line
    assert f"{again} and {original}" in line
    assert report.problems == {}


def test_an_exact_copy_is_a_problem_and_no_suggestion(scenes):
    image = Image.open(scenes / "train" / "good" / "07.png")
    image.save(scenes / "test" / "good" / "copy.tiff")
    report = check(scenes)
    assert len(report.problems["train_test_leak"]) == 1 and report.suggestions == []


def test_parts_in_a_fixture_look_alike_but_are_not_the_same():
    """All pictures are near each other: a pair has to be nearer still."""
    rng = np.random.default_rng(6)
    common = scene(rng).astype(float)

    def part() -> np.ndarray:
        own = common + 0.02 * (scene(rng).astype(float) - 128)
        return small_picture(Image.fromarray(own.clip(0, 255).astype(np.uint8)))

    train = np.stack([part() for _ in range(30)])
    test = np.stack([part() for _ in range(10)])
    assert lookalikes(test, train) == []
    test[3] = train[11]
    assert [(pair.one, pair.other) for pair in lookalikes(test, train)] == [(3, 11)]


def test_blocks_find_what_one_look_finds(monkeypatch):
    rng = np.random.default_rng(7)
    train = rng.integers(0, 255, (57, 1024), np.uint8)
    test = np.concatenate([rng.integers(0, 255, (20, 1024), np.uint8), train[[50, 3]]])
    whole = lookalikes(test, train)
    assert [(pair.one, pair.other) for pair in whole] == [(20, 50), (21, 3)]
    monkeypatch.setattr("urd.data.lookalikes._ROWS", 7)
    monkeypatch.setattr("urd.data.lookalikes._COLUMNS", 10)
    assert [pair[:2] for pair in lookalikes(test, train)] == [pair[:2] for pair in whole]


def test_little_to_compare_is_no_error():
    empty, one = np.empty((0, 1024), np.uint8), np.zeros((1, 1024), np.uint8)
    flat = np.full((6, 1024), 9, np.uint8)
    for test, train in ((empty, flat), (flat, empty), (flat, one)):
        assert lookalikes(test, train) == []
    assert len(lookalikes(flat, flat)) == 6  # blank pictures are all the same


def test_the_number_of_good_images_for_a_share(urd, data, tmp_path):
    rng = np.random.default_rng(8)
    for number in range(28):
        save(picture(rng), data / "train" / "good" / f"more{number}.png")
    code, out, _ = urd("check", data, "--json", tmp_path / "c.json")
    (line,) = json.loads((tmp_path / "c.json").read_text())["suggestions"]
    assert code == 0 and line in out and "  suggestions:" in out
    held = holdout_count(40, 0.1)
    found = limit(range(held), 0.01)
    assert f"holds out {held} of 40" in line and "with 99 other good images" in line
    assert f"gives {100 * found.expected:.2g} % (at most {100 * found.bound:.2g} %" in line
    assert "--holdout" not in line  # even half of them would not do
    _, out, _ = urd("check", data, "--false-reject", 0.06)
    assert "for 6 % false rejects pass --holdout 0.4 to urd fit" in out
    assert "suggestions" not in urd("check", data, "--false-reject", 0.2)[1]
    assert urd("check", data, "--false-reject", 1)[0] == 2


def test_memory_does_not_grow_with_the_size_of_the_images(data, monkeypatch):
    """Of each image only a small picture and a few words are kept."""
    kept = []
    monkeypatch.setattr(
        check_module, "suggestions", lambda seen, small: kept.append((seen, small)) or []
    )
    check(data)
    ((seen, small),) = kept
    assert (len(seen), small.shape, small.dtype) == (20, (20, 1024), np.uint8)
