"""What an exported file carries, and what happens where it is damaged, foreign or hostile."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from exporting import grey, header, one_torch_export, small_file, tiny_detector, with_texts
from PIL import Image

from urd import Detector
from urd.config import FitConfig
from urd.engines.checksum import BLANK, sealed
from urd.engines.facts import KEYS, Facts
from urd.errors import UrdError
from urd.model.schema import DataFacts
from urd.system import progress

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")
DOCS = Path(__file__).resolve().parents[1] / "docs" / "export.md"
SUFFIXES = (".onnx", ".xml")


def refused(path: Path, use=None) -> str:
    """The one line with which it is refused, on opening or, with `use`, on the first image."""
    with pytest.raises(UrdError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = Detector.load(path)
        if use is not None:
            detector.predict(use)
    assert type(caught.value) is UrdError
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def facts_in(path: Path) -> dict[str, str]:
    if path.suffix == ".onnx":
        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    model = openvino.Core().read_model(path)
    return {k: model.get_rt_info([k]).astype(str) for k in KEYS if model.has_rt_info([k])}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_facts_are_plain(tmp_path, suffix):
    known = facts_in(
        small_file(
            tmp_path / f"m{suffix}", Facts(header(), "int8", (40, 50)), shape=("b", 40, 50, 3)
        )
    )
    assert (
        float(known["urd_review_threshold"]) == 0.95
        and float(known["urd_reject_threshold"]) == 0.99
    )
    assert float(known["urd_pixel_threshold"]) == 0.95 and known["urd_good_images"] == "99"
    assert (
        [float(v) for v in known["urd_mean"].split()]
        == [0.5] * 3
        == [float(v) for v in known["urd_std"].split()]
    )
    assert (known["urd_size"], known["urd_map_size"]) == ("40x50", "32x64")
    assert (known["urd_precision"], known["urd_version"]) == ("int8", "0.1.0")
    assert known["urd_thresholds_of"] == "torch" and re.fullmatch(
        "[0-9a-f]{64}", known["urd_sha256"]
    )


def test_the_documents_name_every_key():
    text = DOCS.read_text()
    assert [key for key in KEYS if f"`{key}`" not in text] == []


def ten_lines() -> str:
    (block,) = re.findall(r"```python\n(import numpy.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(block.strip().splitlines()) <= 10
    return block


@pytest.mark.parametrize(("value", "verdict"), [(100, "OK"), (245, "REVIEW"), (254, "NG")])
def test_the_ten_lines_of_the_documents_give_the_verdict(tmp_path, monkeypatch, value, verdict):
    small_file(tmp_path / "parts.onnx")
    Image.fromarray(grey(value)).save(tmp_path / "part.jpg", quality=100)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(ten_lines(), found)
    expected = Detector.load("parts.onnx").predict("part.jpg")
    assert (found["verdict"], found["score"]) == (verdict, expected.score)
    assert expected.verdict == verdict


@pytest.mark.parametrize("most", [np.nan, 0.0, -0.0])
def test_the_ten_lines_never_say_ok_to_what_is_not_finite(tmp_path, monkeypatch, most):
    small_file(tmp_path / "parts.onnx", most=most)
    Image.fromarray(grey(9)).save(tmp_path / "part.jpg")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(ten_lines(), found)
    assert found["verdict"] == "ERROR" and not np.isfinite(found["score"])


def with_secret_paths(folder: Path):
    """A header in which every setting that is a text, and more, is a path on this machine."""
    texts = {f.name for f in fields(FitConfig) if f.type == "str"} - {
        "backbone",
        "device",
        "holdout_by",
    }
    config = replace(header().config, **dict.fromkeys(texts, str(folder / "inner" / "thing.png")))
    calibration = replace(header().calibration, source=str(folder / "inner"))
    return header(
        config=config, calibration=calibration, data=DataFacts(foreground=str(folder / "masks"))
    )


@pytest.fixture(scope="module")
def whole_export(tmp_path_factory):
    """A true export in both formats, from a detector whose settings are full of paths."""
    from urd.export.files import Export, export
    from urd.export.own_thresholds import Unseen

    folder = tmp_path_factory.mktemp("secret-folder")
    detector = tiny_detector(with_secret_paths(folder))
    (folder / "good").mkdir()
    images = [folder / "good" / f"{index}.png" for index in range(2)]
    for index, path in enumerate(images):
        Image.fromarray(
            np.random.default_rng(index).integers(0, 255, (40, 70, 3)).astype(np.uint8)
        ).save(path)
    made = {}
    with one_torch_export():
        for form, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
            made[suffix] = folder / f"m{suffix}"
            unseen = Unseen(images, str(folder / "good")) if form == "openvino" else None
            export(detector, made[suffix], Export(form, allow_changes=True), images, images, unseen)
    return detector, made


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_path_of_this_machine_is_inside(whole_export, suffix):
    _, made = whole_export
    content = made[suffix].read_bytes()
    ours, home = str(Path(progress.__file__).parent), rb"/home/\w|/root/\w|/Users/\w"
    for path in (b"secret-folder", re.escape(ours.encode()), rb"/[\w./-]{4,}\.py\b", home):
        assert re.search(path, content) is None
    assert b"thing.png" in content  # names tell what it was


def test_images_that_training_did_not_see_make_the_thresholds_the_files_own(whole_export):
    """Without them they stay torch's: training images, though they are there, are not taken."""
    detector, made = whole_export
    of_torch, own = (Detector.load(made[suffix]) for suffix in SUFFIXES)
    assert of_torch.engine.facts.thresholds_of == "torch"
    assert of_torch.header.calibration.scores == detector.header.calibration.scores
    assert own.engine.facts.thresholds_of == "this file"
    images = sorted((made[".xml"].parent / "good").iterdir())
    scores = sorted(own.predict(path).score for path in images)
    assert own.header.calibration.scores == pytest.approx(scores)
    report = json.loads(made[".xml"].with_suffix(".xml.parity.json").read_text())
    assert report["urd_thresholds_of"] == "this file"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_byte_anywhere_is_refused(whole_export, tmp_path, suffix):
    _, made = whole_export
    parts = [made[suffix], *([made[suffix].with_suffix(".bin")] if suffix == ".xml" else [])]
    for part in parts:
        (tmp_path / part.name).write_bytes(part.read_bytes())
    assert Detector.load(tmp_path / made[suffix].name).predict(grey(3)).score > 0
    rng = np.random.default_rng(0)
    for part in parts:
        content = part.read_bytes()
        near = content.find(b"urd_sha256")
        places = [*rng.integers(0, len(content), 12).tolist()]
        places += [near + offset for offset in (0, 5, 9, 12, 40)] if near >= 0 else []
        for place in places:
            changed = bytearray(content)
            changed[place] ^= 1 << int(rng.integers(8))
            (tmp_path / part.name).write_bytes(changed)
            refused(tmp_path / made[suffix].name)
        (tmp_path / part.name).write_bytes(content[: len(content) // 2])
        refused(tmp_path / made[suffix].name)
        (tmp_path / part.name).write_bytes(content)


def test_a_missing_weight_file_is_named(tmp_path):
    path = small_file(tmp_path / "m.xml")
    path.with_suffix(".bin").unlink()
    with pytest.raises(UrdError, match=r"no file at .*m\.bin"):
        Detector.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_the_older_format_opens_with_a_note(tmp_path, suffix, capsys, shown):
    path = small_file(tmp_path / f"m{suffix}")
    old = {
        k: v
        for k, v in facts_in(path).items()
        if k in ("urd_model", "urd_precision", "urd_region", "urd_size")
    }
    if suffix == ".onnx":
        with_texts(path, {key: old.get(key) for key in KEYS}, checksum=False)
    else:
        text = path.read_text()
        for key in set(KEYS) - set(old):
            text = re.sub(f'<{key} value="[^"]*" */>', "", text)
        path.write_text(text)
    assert Detector.load(path).predict(grey(100)).verdict == "OK"
    assert "no checksum" in capsys.readouterr().err
    with pytest.raises(UrdError, match="export it again"):
        Detector.load(path).save(path)


def with_blank_checksum(content: bytes) -> bytes:
    (digits,) = re.findall(rb"urd_sha256\x12\x40([0-9a-f]{64})", content)
    return content.replace(digits, BLANK.encode())


BOMB = "eJztwQEBAAAAgJD+r+4ICgAAAAAA"
DEEP = "[" * 100_000


SIZES = ("0x0", "0", "100000x100000", "9" * 5000, "-1x4", "\u00b2x3", "4x4x4", "", "64x64")
HEADERS = ("", "{", DEEP, "[]", "3", '{"format": 2}', '{"format": 9}', "\x00")
REGIONS = ("", "%", "AAAA", BOMB, "eJwDAAAAAAE=" * 3, "eJzLSM3JyQcABiwCFQ==")
THRESHOLDS = ("urd_review_threshold", "urd_reject_threshold", "urd_pixel_threshold")


@pytest.mark.parametrize(
    "changes",
    [
        *({"urd_size": text} for text in SIZES),
        *({"urd_model": text} for text in HEADERS),
        *({"urd_region": text} for text in REGIONS),
        *({key: None} for key in ("urd_model", "urd_precision", "urd_region", "urd_format")),
        *({key: text} for key in THRESHOLDS for text in ("nan", "9", "", None)),
        {"urd_precision": "float8"},
        {"urd_thresholds_of": None},
        {"urd_format": "4"},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_facts_that_no_export_writes_are_refused(tmp_path, changes):
    refused(with_texts(small_file(tmp_path / "m.onnx"), changes))


NETWORKS = {
    "no map": {"outputs": ("other", "score")},
    "no score": {"outputs": ("map", "other")},
    "other input": {"images": "pixels"},
    "floats for images": {"taken": "FLOAT"},
    "doubles for maps": {"given": "DOUBLE"},
    "four colours": {"shape": ("batch", "height", "width", 4)},
    "one size only": {"shape": ("batch", 32, 64, 3)},
}


@pytest.mark.parametrize("change", NETWORKS)
def test_networks_with_other_inputs_and_outputs_are_refused_on_opening(tmp_path, change):
    assert "put" in refused(small_file(tmp_path / "m.onnx", **NETWORKS[change]))


TAILS = {
    "a map turned": {"map": ("Transpose", ["inner_map"], {"perm": [0, 2, 1]})},
    "a score twice": {"score": ("Concat", ["inner_score", "inner_score"], {"axis": 0})},
    "a map twice": {"map": ("Concat", ["inner_map", "inner_map"], {"axis": 0})},
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("change", TAILS)
def test_maps_and_scores_of_other_shapes_are_refused(tmp_path, suffix, change):
    path = small_file(tmp_path / f"m{suffix}", tail=TAILS[change])
    assert "not of float32" in refused(path, use=grey(3))


def test_nothing_is_printed_where_a_file_is_refused(tmp_path, capfd):
    path = small_file(tmp_path / "m.onnx")
    content = path.read_bytes().replace(b"Identity", b"Identit\xe7")  # an operation that is none
    path.write_bytes(sealed([with_blank_checksum(content)]))
    refused(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_the_runtime_raises_is_one_line(tmp_path, suffix):
    """A reshape that fits no image, which is found only when it runs."""
    tail = {"map": ("Reshape", ["inner_map", "nothing_fits"], {})}
    path = small_file(tmp_path / f"m{suffix}", tail=tail)
    said = refused(path, use=grey(3))  # OpenVINO sometimes runs it and gives another shape
    assert re.search("failed in (ONNX Runtime|OpenVINO)|not of float32", said)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_gives_nan_gives_no_verdict(tmp_path, suffix):
    detector = Detector.load(small_file(tmp_path / f"m{suffix}", most=np.nan))
    (failure,) = detector.predict_many([grey(3)])
    assert failure.verdict == "ERROR"
